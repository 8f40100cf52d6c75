"""What is wrong with a file of certificates or of a key: of three files OpenSSL says that one of
them is no good, and not which."""

import re
import ssl
from pathlib import Path

from osmo_transport.transports.passphrases import encrypted

_LABELS = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----")
_DER = b"\x30"
"""How a sequence begins, as every certificate and every key is one."""

OTHERS_KEY = frozenset({"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"})
"""Reasons of OpenSSL: the key is another certificate's."""


def wrong_with_certificates(path: Path) -> str:
    """Why the certificates in a file cannot be used; empty: nothing is found to be wrong."""
    text, why = _read(path, "certificate", "x509")
    if why:
        return why
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except ssl.SSLError:
        return "a certificate in it is damaged"
    return ""


def wrong_with_key(path: Path) -> str:
    """Why the private key in a file cannot be used, whose certificate can."""
    text, why = _read(path, "private key", "pkey")
    if why:
        return why
    if "ENCRYPTED" in text:
        return encrypted("it", str(path))
    return "the private key in it is damaged"


def _read(path: Path, wanted: str, tool: str) -> tuple[str, str]:
    """What a file holds, and why that is not what is wanted, if it is not."""
    try:
        data = path.read_bytes()
    except OSError as exc:
        return "", exc.strerror or str(exc)
    text = data.decode("ascii", errors="replace")
    if not data.strip():
        return text, "it is empty"
    if labels := _LABELS.findall(text):
        if any(label.endswith(wanted.upper()) for label in labels):
            return text, ""
        found = " and ".join(sorted({label.lower() for label in labels}))
        return text, f"there is no {wanted} in it, but {found}"
    if data.startswith(_DER):
        return text, f"it is DER, and not PEM: `openssl {tool} -inform der -in {path}` writes PEM"
    return text, "there is no PEM in it"
