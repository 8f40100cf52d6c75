"""WebSockets over picows, which is compiled: the faster engine, where it is installed."""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from osmo_transport._parts import only_parts_of
from osmo_transport._text import shown
from osmo_transport.credentials import authorization, token_of
from osmo_transport.errors import ClosedError, ConnectionLostError, PeerError, TransportError
from osmo_transport.frames import JSON, MSGPACK, Codec
from osmo_transport.transports import refusals, sockets, urls
from osmo_transport.transports.abc import Accept, Connection, ConnectionConfig, FrameSink
from osmo_transport.transports.connection import WireConnection
from osmo_transport.transports.door import Visit
from osmo_transport.transports.sockets import Connections
from osmo_transport.transports.websocket.handshake import (
    ACCEPTED,
    PREFERRED,
    SMALL_PIECE,
    UNANSWERED,
    answer,
    close_reason,
)

# All of it imports a library for SOCKS, and takes three times as long.
with only_parts_of("picows"):
    from picows.common import (
        WSError,
        WSUpgradeRequest,
        WSUpgradeResponse,
        WSUpgradeResponseWithListener,
    )
    from picows.picows import (  # type: ignore[attr-defined]
        WSAutoPingStrategy,
        WSCloseCode,
        WSFrame,
        WSListener,
        WSMsgType,
        WSProtocol,
        WSTransport,
    )

_quiet = logging.getLogger(f"{__name__}.picows")
# It logs each connection with INFO, and so do the client and the server, with names.
_quiet.setLevel(logging.WARNING)

READ_BUFFER = 16 * 1024
"""Bytes at first; it grows with the frames."""

READ_AT_ONCE = 16 * 1024
"""Bytes that are read of a connection before anybody can say that it is enough, whatever the buffer
has grown to: of one who floods the kernel holds megabytes."""

_CLOSE = WSMsgType.CLOSE
_PING = WSMsgType.PING
_DATA = frozenset((WSMsgType.BINARY, WSMsgType.TEXT, WSMsgType.CONTINUATION))


class WebSocketConnection(WireConnection, WSListener):
    """A connection, either side."""

    def __init__(
        self,
        codec: Codec,
        limit: int,
        opened: "Callable[[WebSocketConnection], None]",
        forget: Callable[[Connection], None],
    ) -> None:
        """`opened` is called when the handshake is completed, `forget` when the connection has
        ended."""
        super().__init__(codec, limit)
        self._opened = opened
        self._forget = forget
        self._type = WSMsgType.TEXT if codec is JSON else WSMsgType.BINARY
        self._transport: WSTransport | None = None
        self._fragments = bytearray()
        self._disconnected: asyncio.Task[None] | None = None
        self._pinged: bytes | None = None

    @property
    def opened(self) -> bool:
        """Whether the handshake has been completed."""
        return self._transport is not None

    def let_in(self, accept: Accept, token: str = "", opening: int | None = None) -> None:
        """What arrives is for the sink that `accept` gives; `token` is what came along, and
        `opening` the bytes that may come until the first frame is there."""
        self._presents(token)
        self._accept(accept, opening)

    def abandon(self) -> None:
        """Nobody wants it any more: cut it, or let it be cut as soon as it is open."""
        if self._error is None:
            self._error = ClosedError("given up while it was opened")
            self._abort()

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.send(self._type, data)

    def _finish(self, error: TransportError) -> None:
        if self._transport is None:
            return
        refused = isinstance(error, PeerError)
        code = WSCloseCode.INVALID_TEXT if refused else WSCloseCode.OK
        self._transport.send_close(code, close_reason(error).encode())
        # Not disconnected before the other side has answered: a socket that is closed with unread
        # input is reset, and then what was sent may not arrive.
        self._cut_later()

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.disconnect(graceful=False)

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        self._wired(transport.underlying_transport)
        if self._error is not None:
            self._abort()
            return
        self._opened(self)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        kind = frame.msg_type
        if kind is _CLOSE:
            if self._error is None:
                self._error = _ended(transport)
                if not transport.is_close_frame_sent:
                    transport.send_close(WSCloseCode.OK)
            transport.disconnect()
            self._cut_later()
        elif self._error is None and kind in _DATA and not transport.is_close_frame_sent:
            # picows sends a close frame and still reads on when a frame is not to its liking.
            if frame.fin and not self._fragments:
                self._received(frame.get_payload_as_memoryview())
            else:
                self._collect(frame)
        elif self._error is None:
            if kind is _PING:
                # The last one of a turn answers all: RFC 6455, 5.5.3.
                if self._pinged is None:
                    asyncio.get_running_loop().call_soon(self._pong)
                self._pinged = frame.get_payload_as_bytes()
            self._idled()
        self._throttle()

    def took(self, size: int) -> None:
        """So many bytes were read, and what was in them has been handed over."""
        self._took(size)

    def _pong(self) -> None:
        pinged, self._pinged = self._pinged, None
        if self._transport is not None and self._error is None and pinged is not None:
            self._transport.send_pong(pinged)
            self._throttle()

    def _collect(self, frame: WSFrame) -> None:
        piece = frame.get_payload_as_memoryview()
        self._fragments += piece
        if len(piece) < SMALL_PIECE:
            self._idled()
        if len(self._fragments) > self._limit:
            self._refuse(PeerError(f"a message over {self._limit} bytes"))
        elif frame.fin:
            data, self._fragments = bytes(self._fragments), bytearray()
            self._received(data)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._lost(_ended(transport))
        self._forget(self)
        if transport.is_client_side:
            self._disconnected = asyncio.create_task(_disconnected(transport))

    async def wait_closed(self) -> None:
        await super().wait_closed()
        if self._disconnected is not None:
            await self._disconnected


async def _disconnected(transport: WSTransport) -> None:
    """Take the exception that picows keeps for whoever waits for the end; asyncio logs it if nobody
    does. `_ended` has told it."""
    with suppress(Exception):
        await transport.wait_disconnected()


def _ended(transport: WSTransport) -> TransportError:
    """Why a connection has ended that this side did not close. What is no WebSocket frame, or is
    too large, picows refuses by itself; the reason is in the close frame that it sent."""
    handshake = transport.close_handshake
    if handshake is None:
        return ConnectionLostError("the connection broke")
    if handshake.sent is not None:
        return PeerError(str(handshake.sent.reason))
    reason = handshake.recv.reason if handshake.recv is not None else ""
    return ConnectionLostError(f"the other side closed: {shown(reason or 'no reason')}")


async def dial(
    url: str, context: ssl.SSLContext | None, sink: FrameSink, config: ConnectionConfig
) -> Connection:
    """An open connection to a URL with a host and a port.

    Raises:
        OSError, ConnectionLostError: none could be made, or the other side did not let it in.
    """
    limit = config.limits.frame_bytes
    connection = WebSocketConnection(
        MSGPACK, limit, lambda opened: opened.let_in(lambda _: sink), lambda _: None
    )
    parts = urls.parsed(url, path=True)
    host, port = urls.address(parts)
    wire = await sockets.connect(host, port)
    spare = wire.dup()
    headers = {"Sec-WebSocket-Protocol": PREFERRED}
    if config.token:
        headers["Authorization"] = authorization(config.token)
    server = _Server(parts.netloc, parts.path or "/", headers, config.open_timeout)
    try:
        # By the event loop's own sockets. Those of aiofastnet are as fast, measured.
        _, protocol = await asyncio.get_running_loop().create_connection(
            lambda: _protocol(WSProtocol, lambda: connection, limit, server),
            sock=wire,
            ssl=context,
            server_hostname=host if context else None,
        )
        await protocol.wait_until_handshake_complete()
    except WSError as exc:
        sockets.forget(wire)
        raise ConnectionLostError(shown(str(exc))) from exc
    except BaseException:
        connection.abandon()
        # Before the handshake ends picows does not give up its socket.
        with suppress(OSError):
            spare.shutdown(socket.SHUT_RDWR)
        sockets.forget(wire)
        raise
    finally:
        spare.close()
    if not connection.opened:
        sockets.forget(wire)
        raise ConnectionLostError(UNANSWERED)
    return connection


def accepting(
    accept: Accept, config: ConnectionConfig, connections: Connections
) -> Callable[[Visit], asyncio.BaseProtocol]:
    """What makes a protocol for each who comes; those that are let in are in `connections`."""

    def opened(visit: Visit, token: str, connection: WebSocketConnection) -> None:
        visit.over()
        connection.since = visit.since
        if connections.enter(connection):
            connection.let_in(accept, token, config.opening_bytes)
        else:
            connection.abandon()

    def upgrade(visit: Visit, request: WSUpgradeRequest) -> WSUpgradeResponseWithListener:
        names = request.headers.get("Sec-WebSocket-Protocol", "").split(",")
        wished = [name.strip() for name in names if name.strip()]
        path = request.path.decode(errors="replace")
        given = answer(path, wished, connections.refusal(1))
        if given.status != ACCEPTED:
            refusals.tell(given.refusal)
            refusal = f"{given.reason}\n".encode()
            response = WSUpgradeResponse.create_error_response(given.status, refusal)
            return WSUpgradeResponseWithListener(response, None)
        if request.headers.get("Upgrade", "").lower() != "websocket":
            refusals.tell("it asked for no WebSocket")  # and picows says so to it
        limit = config.limits.frame_bytes
        told = partial(opened, visit, token_of(request.headers.get("Authorization", "")))
        connection = WebSocketConnection(given.codec, limit, told, connections.leave)
        headers = {"Sec-WebSocket-Protocol": given.subprotocol} if given.subprotocol else None
        response = WSUpgradeResponse.create_101_response(headers)
        return WSUpgradeResponseWithListener(response, connection)

    return lambda visit: _protocol(_Accepted, partial(upgrade, visit), config.limits.frame_bytes)


class _Accepted(WSProtocol):  # type: ignore[misc]
    """Reads so much of one connection at once, and tells it how much that was."""

    # Not by `super`, which takes as much as all the rest where nothing came for a while.

    def get_buffer(self, size_hint: int) -> memoryview:
        buffer: memoryview = WSProtocol.get_buffer(self, size_hint)
        return buffer if len(buffer) <= READ_AT_ONCE else buffer[:READ_AT_ONCE]

    def buffer_updated(self, nbytes: int) -> None:
        connection = self.listener
        WSProtocol.buffer_updated(self, nbytes)
        if connection is not None:
            connection.took(nbytes)


class _Server(NamedTuple):
    """What a client's protocol has to know."""

    netloc: str
    path: str
    headers: dict[str, str]
    """Of the request, besides those of every handshake."""
    timeout: float
    """Seconds that the handshake may take."""


def _protocol(
    kind: type[WSProtocol], told: Callable[..., Any], limit: int, server: _Server | None = None
) -> Any:
    """The protocol of a connection to `server`; without one, of a connection that was accepted.
    `told` gives who is told of the frames; a server's is given the request."""
    # As `picows.ws_connect` and `picows.ws_create_server` make one. The first comes with all of
    # picows, the other accepts by itself and lets nobody say until when somebody has to be let in.
    return kind(
        server and server.netloc,
        server and server.path,
        server is not None,
        told,
        _quiet,
        True,  # disconnect when what it calls raises
        server and server.timeout,  # none at the server: the door has one
        False,  # ping by itself
        *(0.0, 0.0, WSAutoPingStrategy.PING_WHEN_IDLE),  # without effect
        False,  # pong by itself: answered here, where who does not read is read no more
        limit,
        server and server.headers,
        READ_BUFFER,
    )


_USED = ("buffer_updated", "get_buffer", "listener", "wait_until_handshake_complete")
"""Of `WSProtocol`."""


def fits() -> bool:
    """Whether this picows can be used: how its protocols are made it promises to nobody."""
    if not all(hasattr(WSProtocol, name) for name in _USED):
        return False
    refusal = WSUpgradeResponse.create_error_response(404, b"")
    try:
        _protocol(_Accepted, lambda _: WSUpgradeResponseWithListener(refusal, None), READ_BUFFER)
    except (TypeError, ValueError):
        return False
    except RuntimeError:
        return True  # for want of an event loop, which is looked for when all else is right
    return True
