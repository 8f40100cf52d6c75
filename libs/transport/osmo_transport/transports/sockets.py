"""What the transports over sockets share."""

import errno
import ssl
from urllib.parse import urlsplit

from osmo_transport.errors import (
    AddressInUseError,
    ConnectionLostError,
    TransportError,
    UsageError,
)


def address(url: str) -> tuple[str, int]:
    """Host and port of a URL.

    Raises:
        UsageError: one of them is absent or not valid.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as exc:
        raise UsageError(f"{url!r} is not a valid URL: {exc}") from exc
    if not host or port is None:
        raise UsageError(f"{url!r} needs a host and a port, as in {parts.scheme}://127.0.0.1:8001")
    return host, port


def bind_error(url: str, exc: OSError) -> TransportError:
    """Why an endpoint could not be opened."""
    if exc.errno == errno.EADDRINUSE:
        return AddressInUseError(
            f"{url}: the port is in use; stop the program that holds it, or choose another (0: any)"
        )
    return UsageError(f"cannot listen at {url}: {exc}")


def connect_error(url: str, exc: OSError) -> TransportError:
    """Why a connection could not be opened: a certificate that is not trusted stays so."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return UsageError(
            f"{url}: the certificate is not trusted ({exc.verify_message}); name its authority in"
            " tls.ca_file, and connect to a host that it names"
        )
    return ConnectionLostError(f"cannot connect to {url}: {exc}")
