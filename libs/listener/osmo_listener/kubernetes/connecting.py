"""Opens connections to the API server: to whichever of its addresses answers, through a proxy if
one is set, with TLS.

aiofastnet's TLS takes a quarter less CPU for a large list than asyncio's; this is the only module
that imports it, and python-socks, which only those need whose proxy speaks SOCKS.
"""

import asyncio
import socket
import ssl
from typing import TypeVar, cast

from osmo_listener.errors import (
    KubeconfigError,
    KubernetesError,
    UnreachableError,
    UntrustedError,
)
from osmo_listener.kubernetes.config import HttpConfig
from osmo_listener.kubernetes.proxies import Proxy
from osmo_listener.kubernetes.trust import trusting
from osmo_transport.errors import MissingExtraError
from osmo_transport.lean import dataclass
from osmo_transport.transports.urls import host_port

try:
    from aiofastnet import create_connection, start_tls

    from osmo_transport.transports import sockets
except ImportError as exc:
    raise MissingExtraError(
        "talking to Kubernetes needs aiofastnet and aiohappyeyeballs:"
        " pip install 'osmo-pipeline[kubernetes]'"
    ) from exc


class Connecting(asyncio.Protocol):
    """What is given a connection."""

    transport: asyncio.Transport
    """Not there before the connection is."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        # Not checked at run time: uvloop's TLS transport is none by inheritance.
        self.transport = cast("asyncio.Transport", transport)


_P = TypeVar("_P", bound=Connecting)


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where the API server is, and what leads to it."""

    host: str
    port: int
    authority: str = ""
    """What `Host` says, as the server's URL names it; empty: host and port."""
    base_path: str = ""
    """Prefix of every path, for servers behind a gateway; without a slash at its end."""
    tls_server_name: str | None = None
    """The name to verify instead of `host`."""
    proxy: Proxy | None = None
    """None: the server is connected to directly."""


async def connect(
    end: Endpoint, tls: ssl.SSLContext | None, protocol: _P, config: HttpConfig
) -> _P:
    """Connect a protocol to the server, or to the proxy that forwards requests for plain HTTP
    servers; without `tls` it is one. Of several addresses each gets its turn.

    Raises:
        UnreachableError: it could not be reached within `connect_timeout`.
        UntrustedError: the server's certificate, or the proxy's, was refused.
        KubeconfigError: the proxy does not let us through.
    """
    place, proxy = host_port(end.host, end.port), end.proxy
    way = f"{place} through the proxy {proxy}" if proxy else place
    try:
        async with asyncio.timeout(config.connect_timeout):
            if proxy is None:
                wire = await sockets.connect(end.host, end.port)
                await _begin(wire, protocol, tls, end.tls_server_name or end.host)
            elif proxy.scheme == "socks5":
                wire = await _socks(end, proxy)
                await _begin(wire, protocol, tls, end.tls_server_name or end.host)
            else:
                await _through(end, proxy, tls, protocol, config)
    except ssl.SSLCertVerificationError as exc:
        raise UntrustedError(
            f"the certificate of {place} is refused: {exc.verify_message};"
            " check certificate-authority and server in the kubeconfig"
        ) from exc
    except TimeoutError as exc:
        raise UnreachableError(f"no connection to {way} within {config.connect_timeout} s") from exc
    except OSError as exc:
        raise UnreachableError(f"no connection to {way}: {exc}") from exc
    return protocol


async def _begin(
    wire: socket.socket, protocol: Connecting, tls: ssl.SSLContext | None, name: str
) -> None:
    """Give a connected socket to a protocol."""
    try:
        await create_connection(
            asyncio.get_running_loop(),
            lambda: protocol,
            sock=wire,
            ssl=tls,
            server_hostname=_verified(name) if tls else None,
        )
    except BaseException:
        if hasattr(protocol, "transport"):
            # Given up in the turn in which the handshake ended: aiofastnet then closes politely,
            # and waits for an answer over a socket that is not there any more.
            protocol.transport.abort()
        sockets.forget(wire)
        wire.close()
        raise


def _verified(name: str) -> str:
    # A name may say with a dot that it is complete; certificates never do.
    return name.removesuffix(".")


async def _through(
    end: Endpoint,
    proxy: Proxy,
    tls: ssl.SSLContext | None,
    protocol: Connecting,
    config: HttpConfig,
) -> None:
    """Connect through a proxy that speaks HTTP."""
    try:
        wire = await sockets.connect(proxy.host, proxy.port)
        # As Go: the proxy is known by the same authorities as the server.
        outer = (tls or trusting(None)) if proxy.scheme == "https" else None
        tunnel = _Tunnel(config.max_head_bytes)
        name = end.tls_server_name or proxy.host
        await _begin(wire, tunnel if tls else protocol, outer, name)
    except ssl.SSLCertVerificationError as exc:
        raise UntrustedError(
            f"the certificate of the proxy {proxy} is refused: {exc.verify_message};"
            " it has to come from the kubeconfig's certificate-authority"
        ) from exc
    except TimeoutError:
        raise
    except OSError as exc:
        raise UnreachableError(f"no connection to the proxy {proxy}: {exc}") from exc
    if tls is None:
        return
    try:
        code, reason = await tunnel.ask(host_port(end.host, end.port), proxy.authorization)
        if code != 200:
            raise refusal(proxy, code, reason)
        transport = await start_tls(
            asyncio.get_running_loop(),
            tunnel.transport,
            protocol,
            tls,
            server_hostname=_verified(end.tls_server_name or end.host),
        )
    except BaseException:
        tunnel.transport.abort()
        raise
    protocol.connection_made(transport)


def refusal(proxy: Proxy, code: int, reason: str = "") -> KubernetesError | KubeconfigError:
    """Why a proxy gave no connection: what somebody has to mend, or what may pass."""
    if code == 407:
        return KubeconfigError(
            f"the proxy {proxy} asks for credentials, or refuses those that it got (407):"
            " put them into its URL, as in http://USER:PASSWORD@HOST:PORT"
        )
    text = f"the proxy {proxy} refuses the connection: {code} {reason}".rstrip()
    return KubeconfigError(text) if code == 403 else UnreachableError(text)


class _Tunnel(Connecting):
    """Asks an HTTP proxy for a connection."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._answer = asyncio.get_running_loop().create_future()
        self._head = b""

    async def ask(self, place: str, authorization: str | None) -> tuple[int, str]:
        """The proxy's status code and reason.

        Raises:
            OSError: it does not speak HTTP, or ended the connection.
        """
        lines = [f"CONNECT {place} HTTP/1.1", f"Host: {place}"]
        if authorization:
            lines.append(f"Proxy-Authorization: {authorization}")
        self.transport.write("\r\n".join([*lines, "", ""]).encode())
        head = await self._answer
        version, _, rest = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")
        code, _, reason = rest.partition(" ")
        if not version.startswith("HTTP/1.") or not code.isdecimal():
            raise ConnectionError("the proxy does not speak HTTP")
        return int(code), reason

    def data_received(self, data: bytes) -> None:
        self._head += data
        if self._answer.done():
            return
        if b"\r\n\r\n" in self._head:
            self._answer.set_result(self._head)
        elif len(self._head) > self._limit:
            self._answer.set_exception(ConnectionError("the proxy does not speak HTTP"))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._answer.done():
            why = f"the proxy ended the connection{f': {exc}' if exc else ''}"
            self._answer.set_exception(ConnectionError(why))


async def _socks(end: Endpoint, proxy: Proxy) -> socket.socket:
    """A socket that a SOCKS5 proxy has connected; the proxy looks up the name."""
    try:
        from python_socks import ProxyError, ProxyType  # noqa: PLC0415
        from python_socks.async_.asyncio import Proxy as Socks  # noqa: PLC0415
    except ImportError as exc:
        raise MissingExtraError(
            "a socks5:// proxy needs python-socks: pip install 'osmo-pipeline[kubernetes]'"
        ) from exc
    try:
        # The library tries one address after the other, each for as long as the system does.
        address = await sockets.answering(proxy.host, proxy.port)
        way = Socks(
            ProxyType.SOCKS5,
            address,
            proxy.port,
            username=proxy.user or None,
            password=proxy.password or None,
            rdns=True,
        )
        return await way.connect(end.host, end.port)
    except TimeoutError:
        raise
    except OSError as exc:
        raise UnreachableError(f"no connection to the proxy {proxy}: {exc}") from exc
    except ProxyError as exc:
        raise UnreachableError(f"the proxy {proxy} refuses the connection: {exc}") from exc
