"""What is wrong with a file of certificates or of a key: of three files OpenSSL says that one of
them is no good, and not which."""

import re
import ssl
from pathlib import Path

_LABELS = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----")
_DER = b"\x30"
"""How a sequence begins, as every certificate and every key is one."""

OTHERS_KEY = frozenset({"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"})
"""Reasons of OpenSSL: the key is another certificate's."""


def wrong_with_certificates(path: Path) -> str:
    """Why the certificates in a file cannot be used; empty: nothing is found to be wrong."""
    text, why = _read(path, "x509")
    if why:
        return why
    labels = _LABELS.findall(text)
    if not any(label.endswith("CERTIFICATE") for label in labels):
        return f"there is no certificate in it, but {_listed(labels)}"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except ssl.SSLError:
        return "a certificate in it is damaged"
    return ""


def wrong_with_key(path: Path) -> str:
    """Why the private key in a file cannot be used, whose certificate can."""
    text, why = _read(path, "pkey")
    if why:
        return why
    labels = _LABELS.findall(text)
    if not any(label.endswith("PRIVATE KEY") for label in labels):
        return f"there is no private key in it, but {_listed(labels)}"
    if "ENCRYPTED" in text:
        return (
            "the private key in it is encrypted, and nobody is there to type its password: let"
            f" `openssl pkey -in {path} -out NEW` write it without, where nobody else reads it"
        )
    return "the private key in it is damaged"


def _read(path: Path, tool: str) -> tuple[str, str]:
    try:
        data = path.read_bytes()
    except OSError as exc:
        return "", exc.strerror or str(exc)
    text = data.decode("ascii", errors="replace")
    if not data.strip():
        return text, "it is empty"
    if _LABELS.search(text):
        return text, ""
    if data.startswith(_DER):
        return text, f"it is DER, and not PEM: `openssl {tool} -inform der -in {path}` writes PEM"
    return text, "there is no PEM in it"


def _listed(labels: list[str]) -> str:
    return " and ".join(sorted({label.lower() for label in labels}))
