"""TLS contexts that trust what kubectl trusts, whichever Python this is.

Python's defaults change with its versions, and none of them is Go's: what is trusted is said here
in full.
"""

import base64
import binascii
import contextlib
import re
import ssl
from pathlib import Path

from osmo_listener.errors import KubeconfigError

Secret = Path | bytes
"""Held in memory, or in a file that is read at each use, so that a rotated one is seen."""

_CERTIFICATES = re.compile(
    rb"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----"
)
"""What stands outside of the blocks is for people, in whatever language."""


def trusting(ca: Secret | None, *, verify: bool = True) -> ssl.SSLContext:
    """A client's context that trusts the certificates in the PEM `ca`, be they authorities, parts
    of a chain or a server's own; None: those that the system trusts.

    Raises:
        KubeconfigError: there is no certificate in it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    # Go reads a server's names from subjectAltName alone.
    context.hostname_checks_common_name = False
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if ca is None:
        context.load_default_certs()
    elif not sum(_added(context, block) for block in _CERTIFICATES.findall(_read(ca))):
        raise KubeconfigError(
            "certificate-authority holds no certificate that can be read: it must be PEM"
        )
    return context


def present(context: ssl.SSLContext, certificate: Secret, key: Secret) -> None:
    """Let a context show a client certificate.

    Raises:
        KubeconfigError: it, or its key, cannot be used.
    """
    # Only for certificates that stand in a kubeconfig: most starts need none of it.
    from tempfile import NamedTemporaryFile  # noqa: PLC0415

    with contextlib.ExitStack() as stack:

        def as_file(secret: Secret) -> str:
            if isinstance(secret, Path):
                return str(secret)
            file = stack.enter_context(NamedTemporaryFile())
            file.write(secret)
            file.flush()
            return file.name

        try:
            # Without a password here, OpenSSL would ask the terminal for that of an encrypted key.
            context.load_cert_chain(as_file(certificate), as_file(key), password="")
        except (OSError, ValueError) as exc:
            raise KubeconfigError(
                "client-certificate and client-key cannot be used: they must be readable PEM,"
                f" belong together, and need no password ({exc.__class__.__name__})"
            ) from exc


def read_file(path: Path, what: str) -> bytes:
    """The content of a file that a user named as his `what`.

    Raises:
        KubeconfigError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as exc:
        raise KubeconfigError(f"the {what} {path} cannot be read: {exc.strerror}") from exc


def _read(ca: Secret) -> bytes:
    return ca if isinstance(ca, bytes) else read_file(ca, "certificate-authority")


def _added(context: ssl.SSLContext, block: bytes) -> bool:
    try:
        context.load_verify_locations(cadata=base64.b64decode(block))
    except (ssl.SSLError, binascii.Error, ValueError):
        return False  # one damaged certificate of a bundle is left out, as by Go
    return True
