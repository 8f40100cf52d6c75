"""What the transports over sockets share: connecting, listening, and what goes wrong there."""

import asyncio
import contextlib
import errno
import socket
import ssl
from typing import Any
from urllib.parse import SplitResult

import aiohappyeyeballs

from osmo_transport.errors import (
    AddressInUseError,
    ConnectionLostError,
    HandshakeError,
    TransportError,
    UsageError,
)
from osmo_transport.transports import refusals
from osmo_transport.transports.abc import Connection
from osmo_transport.transports.urls import host_port

NEXT_ADDRESS = 0.25
"""Seconds after which the next address of a name is tried beside the first: as RFC 8305 says."""

BACKLOG = 1024
"""Connections that wait to be accepted: when a server comes back, all its clients come at once, and
those beyond it are dropped and try again a second later."""

EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""What the machine lacks for now, and not who asks."""

ANY_ADDRESS = "::"
"""Every address of this machine, of both families, on every scheme alike."""


class Connections:
    """Those of an endpoint that are open, or about to be."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._inside: set[Connection] = set()
        self._closing = False

    def enter(self, connection: Connection) -> bool:
        """Take in one that was accepted. False: the endpoint closes, and it has to be cut off."""
        if not self._closing:
            self._inside.add(connection)
        return not self._closing

    def leave(self, connection: Connection) -> None:
        """It has ended."""
        self._inside.discard(connection)

    def refusal(self, more: int = 0) -> str:
        """Why no connection is let in that is already inside, or with which there would be so many
        `more`; empty if it is."""
        if self._closing:
            return "this endpoint closes"
        crowded = len(self._inside) + more > self._most
        return f"{self._most} connections, the limit" if crowded else ""

    def close(self) -> None:
        """Let nobody in any more, and begin to end those that are left."""
        self._closing = True
        for connection in list(self._inside):
            connection.close()

    async def wait_closed(self) -> None:
        """Wait until they have ended."""
        for connection in list(self._inside):
            await connection.wait_closed()


async def connect(host: str, port: int) -> socket.socket:
    """A connected socket. Of several addresses of the host each gets its turn, beside those before
    it that have not answered yet.

    Raises:
        OSError: none could be connected to, or the name is not known.
    """
    return await _connected(await _found(host, port))


async def opened(
    host: str, port: int, context: ssl.SSLContext | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A stream over a connected socket, over TLS if there is a `context`.

    Raises:
        OSError: as `connect`, or TLS failed.
    """
    wire = await connect(host, port)
    try:
        return await asyncio.open_connection(
            sock=wire, ssl=context, server_hostname=host if context else None
        )
    except BaseException as exc:
        forget(wire)
        if isinstance(exc, OSError) and (found := refusals.found(context)) is not None:
            raise found from exc
        raise


def forget(wire: socket.socket) -> None:
    """To be called when an event loop was given a socket, and the connection ended before it was
    open. uvloop has closed the descriptor by then, or will, and it may be somebody else's when the
    socket closes it again; asyncio closes the socket itself."""
    if not isinstance(asyncio.get_running_loop(), asyncio.BaseEventLoop):
        wire.detach()


async def answering(host: str, port: int) -> str:
    """Which address of the host is to be connected to: of several, the first that answers, for a
    library that makes its own connection.

    Raises:
        OSError: none answers, or the name is not known.
    """
    found = await _found(host, port)
    if len(found) == 1:
        return str(found[0][4][0])
    with await _connected(found) as connected:
        return str(connected.getpeername()[0])


async def _found(host: str, port: int) -> list[Any]:
    with contextlib.suppress(socket.gaierror):
        # What is an address already needs no thread to look it up.
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    loop = asyncio.get_running_loop()
    return await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)


async def _connected(found: list[Any]) -> socket.socket:
    connected = await aiohappyeyeballs.start_connection(
        found, happy_eyeballs_delay=NEXT_ADDRESS, interleave=1
    )
    try:
        # Who has been reset already has no peer: picows would connect anew, and leak the socket.
        connected.getpeername()
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError:
        connected.close()
        raise
    return connected


async def listen(host: str, port: int) -> list[socket.socket]:
    """Listening sockets at every address of a host, all with one port; 0 picks a free one. `::`
    takes both families.

    Raises:
        OSError: one of the addresses could not be listened at, or the name is not known.
    """
    sockets: list[socket.socket] = []
    places = await _places(host, port)
    try:
        for family, place in places:
            chosen = sockets[0].getsockname()[1] if sockets else port
            sockets.append(_listening(family, (place[0], chosen, *place[2:])))
    except OSError:
        for each in sockets:
            each.close()
        raise
    return sockets


async def addresses(host: str, port: int) -> list[str]:
    """Every address of a host that can be listened at, for a library that listens by itself.

    Raises:
        OSError: there is none, or the name is not known.
    """
    return [str(place[0]) for _, place in await _places(host, port)]


async def _places(host: str, port: int) -> list[tuple[int, Any]]:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    families = (socket.AF_INET, socket.AF_INET6)
    places: list[tuple[int, Any]] = [
        (family, place) for family, *_, place in dict.fromkeys(found) if family in families
    ]
    if not places:
        raise OSError(errno.EADDRNOTAVAIL, f"{host} has no address to listen at")
    return places


def _listening(family: int, place: Any) -> socket.socket:
    both = family == socket.AF_INET6 and place[0] == ANY_ADDRESS and socket.has_dualstack_ipv6()
    listening = socket.create_server(
        place,
        family=family,
        backlog=BACKLOG,
        dualstack_ipv6=both,
    )
    listening.setblocking(False)
    # What is accepted inherits it. asyncio sets it for sockets of another making alone, and without
    # it a second frame waits until the first one's receipt is told, which may take 40 ms.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def url_of(asked: SplitResult, listening: socket.socket) -> str:
    """The URL of an endpoint: as it was asked for, with the port that was chosen."""
    return f"{asked.scheme}://{host_port(asked.hostname or '', listening.getsockname()[1])}"


def bind_error(url: str, exc: OSError) -> TransportError:
    """Why an endpoint could not be opened."""
    if exc.errno == errno.EADDRINUSE:
        return AddressInUseError(
            f"{url}: the port is in use; stop the program that holds it, or choose another (0: any)"
        )
    kind = TransportError if exc.errno in EXHAUSTED else UsageError
    return kind(f"cannot listen at {url}: {exc}")


def late_error(url: str, seconds: float) -> TransportError:
    """Why a connection could not be opened in time."""
    return HandshakeError(f"{url} did not answer in {seconds:g} s")


_BROKE = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError)
"""How a connection fails that had been made."""


def connect_error(url: str, exc: OSError) -> TransportError:
    """Why a connection could not be opened."""
    if isinstance(exc, ssl.SSLError):
        return refusals.named(url, exc)
    kind = HandshakeError if isinstance(exc, _BROKE) else ConnectionLostError
    return kind(f"cannot connect to {url}: {exc}")
