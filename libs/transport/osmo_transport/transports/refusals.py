"""Who refuses whom, and why: named as what it is, with the setting that mends it.

A client is told by the alert with which TLS ends. The server writes one line to its log.
"""

import logging
import ssl
from copy import copy
from typing import Any
from weakref import WeakKeyDictionary

from osmo_transport._text import shown
from osmo_transport.errors import (
    CertificateError,
    ConnectionLostError,
    HandshakeError,
    TransportError,
)
from osmo_transport.naming import setting
from osmo_transport.peers import host_of

logger = logging.getLogger("osmo_transport.server")

TLS_RECORD = b"\x16\x03"
"""How a client begins that speaks TLS."""

SPEAKS_TLS = "it speaks TLS, and this port does not: is its URL to begin with ws://?"

# What a client finds

EXPIRED = 10
_NOT_YET_VALID = 9
_OTHER_NAMES = (62, 64)
"""Codes of OpenSSL (X509_V_ERR_…): a host name or an address is not among the names."""

_PASSING = "; tried again until it is renewed"

_CA, _CERT, _KEY = (setting(f"client.tls.{name}_file") for name in ("ca", "cert", "key"))
_SERVER_CA, _SERVER_CERT = setting("server.tls.ca_file"), setting("server.tls.cert_file")

_MISSING = f"the server asks for a client certificate: name one in {_CERT} and {_KEY}"
_UNKNOWN_AUTHORITY = (
    f"the server does not trust the authority of this client's certificate, {_CERT}: it has to be"
    f" one of the server's {_SERVER_CA}"
)
_ALERTS = {
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": _MISSING,
    "TLSV1_ALERT_UNKNOWN_CA": _UNKNOWN_AUTHORITY,
    "SSLV3_ALERT_BAD_CERTIFICATE": f"the server refuses this client's certificate, {_CERT}",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": f"this client's certificate, {_CERT}, was revoked",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": f"this client's certificate, {_CERT}, is not made"
    " for clients",
}
"""What no waiting mends, by the alert with which a server says it."""

_EXPIRED_ALERT = "SSLV3_ALERT_CERTIFICATE_EXPIRED"


def told(exc: BaseException | None) -> bool:
    """Whether a server said with that why it refuses this client's certificate."""
    return isinstance(exc, ssl.SSLError) and (exc.reason in _ALERTS or exc.reason == _EXPIRED_ALERT)


def named(url: str, exc: ssl.SSLError) -> TransportError:
    """Why TLS failed at `url`: a `CertificateError` if no waiting mends it, a `ConnectionLostError`
    if that may, a `HandshakeError` if it is not known."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return _untrusted(url, exc)
    if exc.reason == _EXPIRED_ALERT:
        return expired(url)
    if alert := _ALERTS.get(exc.reason):
        return CertificateError(f"{url}: {alert}")
    return HandshakeError(f"cannot connect to {url}: {exc}")


def no_certificate(url: str) -> TransportError:
    """The server asks for this client's certificate, and there is none."""
    return CertificateError(f"{url}: {_MISSING}")


def unknown_authority(url: str) -> TransportError:
    """The server does not trust who signed this client's certificate."""
    return CertificateError(f"{url}: {_UNKNOWN_AUTHORITY}")


def expired(url: str) -> TransportError:
    """This client's certificate has expired."""
    return ConnectionLostError(f"{url}: this client's certificate, {_CERT}, has expired{_PASSING}")


def _untrusted(url: str, exc: ssl.SSLCertVerificationError) -> TransportError:
    said = exc.verify_message.rstrip(".")
    if exc.verify_code in (EXPIRED, _NOT_YET_VALID):
        return ConnectionLostError(f"{url}: the server's {said}{_PASSING}")
    if exc.verify_code in _OTHER_NAMES:
        return CertificateError(
            f"{url}: the server's certificate does not name this host ({said}): connect to a host"
            " that it names"
        )
    return CertificateError(
        f"{url}: the server's certificate is not trusted ({said}): name its authority in {_CA}"
    )


# What both tell each other
#
# An event loop cuts the connection of a handshake that failed, with the alert still unsent. Of one
# that goes on it sends what there is; the other side ends it then, or the time limit of handshakes.

_found: WeakKeyDictionary[ssl.SSLContext, ssl.SSLError] = WeakKeyDictionary()
"""Errors without their tracebacks, which would keep the contexts alive."""


def found(context: ssl.SSLContext | None) -> ssl.SSLError | None:
    """Why a client of this context, or its server, did not take the other's certificate, however
    the connection ended then; to be asked for once."""
    return None if context is None else _found.pop(context, None)


class ClientTls(ssl.SSLObject):
    """TLS of a client, which tells the server why it does not trust it, and keeps in mind what the
    server tells."""

    asked: ssl.SSLContext | None = None
    """The context that was asked for it, where another one made it."""
    _refuses = False

    def do_handshake(self) -> None:
        """As that of every `SSLObject`."""
        try:
            super().do_handshake()
        except ssl.SSLCertVerificationError as exc:
            if self._refuses:
                raise
            self._refuses = True
            _found[self._of] = copy(exc)
            raise ssl.SSLWantReadError from exc

    def read(self, len: int = 1024, buffer: Any = None) -> Any:  # noqa: A002
        """As that of every `SSLObject`: with TLS 1.3 what a server tells comes after the
        handshake."""
        try:
            return super().read(len, buffer)
        except ssl.SSLWantReadError:
            raise
        except ssl.SSLError as exc:
            if told(exc):
                _found[self._of] = copy(exc)
            raise

    @property
    def _of(self) -> ssl.SSLContext:
        return self.asked or self.context


def tell(why: str, peer: str = "") -> None:
    """Write to the log that a client was refused that is at `peer`, as far as that is known.

    Who tries again and again comes from another port each time, and says nothing new: without it
    the lines are the same, of which a program's log takes one in a while.
    """
    at = f" at {shown(host_of(peer))}" if peer else ""
    logger.warning("refused a client%s: %s", at, shown(why))


class ServerTls(ssl.SSLObject):
    """TLS of a server, which tells both sides why it refuses a client."""

    _refuses = False

    def do_handshake(self) -> None:
        """As that of every `SSLObject`."""
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError, ssl.SSLEOFError):
            raise
        except ssl.SSLError as exc:
            if self._refuses:
                raise
            self._refuses = True
            tell(_refused(exc))
            if not _by_certificate(exc):
                raise
            raise ssl.SSLWantReadError from exc


_NO_CERTIFICATE = "PEER_DID_NOT_RETURN_A_CERTIFICATE"
_NO_TLS = frozenset(
    {"HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL"}
)


def _by_certificate(exc: ssl.SSLError) -> bool:
    return isinstance(exc, ssl.SSLCertVerificationError) or exc.reason == _NO_CERTIFICATE


def _refused(exc: ssl.SSLError) -> str:
    """Why a server refuses a client."""
    reason = exc.reason or str(exc)
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"its certificate is not good for {_SERVER_CA}: {exc.verify_message}"
    if reason == _NO_CERTIFICATE:
        return f"it has no certificate, and {_SERVER_CA} asks for one"
    if "_ALERT_" in reason:
        alert = reason.partition("_ALERT_")[2].replace("_", " ").lower()
        return f"it does not take the certificate of this server, {_SERVER_CERT}: {alert}"
    if reason in _NO_TLS:
        return "it does not speak TLS: is its URL to begin with wss://?"
    return f"the TLS handshake failed: {reason.replace('_', ' ').lower()}"
