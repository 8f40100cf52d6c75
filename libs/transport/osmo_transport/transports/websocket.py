"""`ws://` and `wss://`: one WebSocket message per frame, over picows.

The subprotocol chooses the encoding: `osmo.v1.msgpack` in binary messages, or `osmo.v1.json` in
text messages, for people and other languages. A client that names none gets msgpack.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable
from urllib.parse import urlsplit

import picows
from picows import (
    WSCloseCode,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
)

from osmo_transport.errors import (
    ClosedError,
    ConnectionLostError,
    PeerError,
    TransportError,
)
from osmo_transport.frames import JSON, MSGPACK, Codec, Frame, Goodbye, GoodbyeCode
from osmo_transport.transports.abc import (
    CLOSE_TIMEOUT,
    WRITE_BUFFER,
    Accept,
    Connection,
    Endpoint,
    FrameSink,
    LinkConfig,
    Transport,
)
from osmo_transport.transports.sockets import address, bind_error, connect_error
from osmo_transport.transports.tls import client_context, server_context

CODECS: dict[str, Codec] = {"osmo.v1.msgpack": MSGPACK, "osmo.v1.json": JSON}
"""Encodings by subprotocol, the preferred one first."""

Forget = Callable[[Connection], None]
"""Called when a connection has ended."""

_quiet = logging.getLogger(f"{__name__}.picows")
# It logs each connection with INFO, and so do the client and the server, with names.
_quiet.setLevel(logging.WARNING)

PATH = "/osmo/v1"
"""Where an endpoint serves connections; any other path is answered with 404."""


class WebSocketConnection(WSListener, Connection):
    """A connection over picows, either side."""

    def __init__(self, codec: Codec, limit: int, accept: Accept, forget: Forget) -> None:
        self._codec = codec
        self._accept = accept
        self._forget = forget
        self._type = WSMsgType.BINARY if codec is MSGPACK else WSMsgType.TEXT
        self._limit = limit
        self._sink: FrameSink | None = None
        self._transport: WSTransport | None = None
        self._fragments = bytearray()
        self._writable = True
        self._error: TransportError | None = None
        self._closed = asyncio.Event()
        self._cut: asyncio.TimerHandle | None = None

    @property
    def peer(self) -> str:
        if self._transport is None:
            return "?"
        name = self._transport.underlying_transport.get_extra_info("peername")
        return ":".join(map(str, name[:2])) if name else "?"

    @property
    def opened(self) -> bool:
        """Whether the handshake has been completed."""
        return self._transport is not None

    @property
    def writable(self) -> bool:
        return self._writable

    def send(self, frame: Frame) -> None:
        if self._transport is not None and self._error is None:
            self._transport.send(self._type, self._codec.encode(frame))

    def close(self) -> None:
        self._close(ClosedError("closed by this side"), WSCloseCode.OK)

    async def wait_closed(self) -> None:
        await self._closed.wait()

    def abandon(self) -> None:
        """Nobody wants it any more: cut it, or let it be cut as soon as it is open."""
        if self._error is None:
            self._error = ClosedError("given up while it was opened")
            self._abort()

    def _close(self, error: TransportError, code: WSCloseCode) -> None:
        if self._transport is None or self._error is not None:
            return
        self._error = error
        self._transport.send_close(code, _reason(error))
        # Not disconnected before the other side has answered: a socket that is closed with unread
        # input is reset, and then what was sent may not arrive.
        self._cut_later()

    def _cut_later(self) -> None:
        if self._cut is None:
            self._cut = asyncio.get_running_loop().call_later(CLOSE_TIMEOUT, self._abort)

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.disconnect(graceful=False)

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        if self._error is not None:
            self._abort()
            return
        transport.underlying_transport.set_write_buffer_limits(high=WRITE_BUFFER)
        self._sink = self._accept(self)

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
                self._decode(frame.get_payload_as_memoryview())
            else:
                self._collect(frame)

    def _collect(self, frame: WSFrame) -> None:
        self._fragments += frame.get_payload_as_memoryview()
        if len(self._fragments) > self._limit:
            self._refuse(PeerError(f"a message over {self._limit} bytes"))
        elif frame.fin:
            data, self._fragments = bytes(self._fragments), bytearray()
            self._decode(data)

    def _decode(self, data: bytes | memoryview) -> None:
        try:
            frame = self._codec.decode(data)
        except PeerError as exc:
            self._refuse(exc)
            return
        if self._sink is not None:
            self._sink.frame_received(frame)

    def _refuse(self, error: PeerError) -> None:
        self.send(Goodbye(GoodbyeCode.PROTOCOL, str(error)))
        self._close(error, WSCloseCode.UNSUPPORTED_DATA)

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        if self._sink is not None and self._error is None:
            self._sink.writing_resumed()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if self._cut is not None:
            self._cut.cancel()
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.connection_lost(self._error or _ended(transport))
        self._forget(self)
        self._closed.set()


def _reason(error: TransportError) -> bytes:
    """What fits a close frame: 123 bytes, with no character cut in two."""
    return str(error).encode()[:120].decode(errors="ignore").encode()


def _ended(transport: WSTransport) -> TransportError:
    """Why a connection has ended that this side did not close. What is no WebSocket frame, or is
    too large, picows refuses by itself; the reason is in the close frame that it sent."""
    handshake = transport.close_handshake
    if handshake is None:
        return ConnectionLostError("the connection broke")
    if handshake.sent is not None:
        return PeerError(str(handshake.sent.reason))
    reason = handshake.recv.reason if handshake.recv is not None else ""
    return ConnectionLostError(f"the other side closed: {reason or 'no reason'}")


_CLOSE = WSMsgType.CLOSE
_DATA = frozenset((WSMsgType.BINARY, WSMsgType.TEXT, WSMsgType.CONTINUATION))


class WebSocketEndpoint(Endpoint):
    """A listening socket."""

    def __init__(self, scheme: str, accept: Accept, config: LinkConfig) -> None:
        self._scheme = scheme
        self._accept = accept
        self._config = config
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._url = ""

    async def start(self, host: str, port: int, context: ssl.SSLContext | None) -> None:
        """Bind and listen."""
        self._server = await picows.ws_create_server(
            self._upgrade,
            host,
            port,
            ssl=context,
            max_frame_size=self._config.limits.frame_bytes,
            websocket_handshake_timeout=self._config.open_timeout,
            logger_name=_quiet,
        )
        name, port = self._server.sockets[0].getsockname()[:2]
        self._url = f"{self._scheme}://{f'[{name}]' if ':' in name else name}:{port}"

    @property
    def url(self) -> str:
        return self._url

    def _upgrade(self, request: WSUpgradeRequest) -> WSUpgradeResponseWithListener:
        if request.path.partition(b"?")[0] not in (b"/", PATH.encode()):
            return _refusal(404, f"connect to {PATH}")
        if len(self._connections) >= self._config.max_connections:
            return _refusal(503, f"{self._config.max_connections} connections, the limit")
        wished = [p.strip() for p in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
        chosen = next((p for p in wished if p in CODECS), None)
        if chosen is None and any(wished):
            return _refusal(400, f"unknown subprotocol; this endpoint speaks {', '.join(CODECS)}")
        connection = WebSocketConnection(
            CODECS[chosen] if chosen else MSGPACK,
            self._config.limits.frame_bytes,
            self._connected,
            self._connections.discard,
        )
        headers = {"Sec-WebSocket-Protocol": chosen} if chosen else None
        return WSUpgradeResponseWithListener(
            WSUpgradeResponse.create_101_response(headers), connection
        )

    def _connected(self, connection: Connection) -> FrameSink:
        self._connections.add(connection)
        return self._accept(connection)

    async def aclose(self) -> None:
        if self._server is None:
            return
        server, self._server = self._server, None
        server.close()
        connections = list(self._connections)
        for connection in connections:
            connection.close()
        for connection in connections:
            await connection.wait_closed()


def _refusal(status: int, text: str) -> WSUpgradeResponseWithListener:
    response = WSUpgradeResponse.create_error_response(status, f"{text}\n".encode())
    return WSUpgradeResponseWithListener(response, None)


class WebSocketTransport(Transport):
    """The transport of `ws://` and `wss://`."""

    async def dial(self, url: str, sink: FrameSink, config: LinkConfig) -> Connection:
        parts = urlsplit(url)
        address(url)
        context = client_context(config.tls) if parts.scheme == "wss" else None
        connection = WebSocketConnection(
            MSGPACK, config.limits.frame_bytes, lambda _: sink, lambda _: None
        )
        target = url if parts.path.strip("/") else f"{parts.scheme}://{parts.netloc}{PATH}"
        try:
            async with asyncio.timeout(config.open_timeout):
                await picows.ws_connect(
                    lambda: connection,
                    target,
                    ssl_context=context,
                    max_frame_size=config.limits.frame_bytes,
                    extra_headers={"Sec-WebSocket-Protocol": next(iter(CODECS))},
                    websocket_handshake_timeout=config.open_timeout,
                    logger_name=_quiet,
                )
        except TimeoutError as exc:
            connection.abandon()
            raise ConnectionLostError(f"{url} did not answer in {config.open_timeout} s") from exc
        except OSError as exc:
            raise connect_error(url, exc) from exc
        except picows.WSError as exc:
            raise ConnectionLostError(f"cannot connect to {url}: {exc}") from exc
        except asyncio.CancelledError:
            connection.abandon()
            raise
        if not connection.opened:
            raise ConnectionLostError(f"{url} closed the connection before it was open")
        return connection

    async def listen(self, url: str, accept: Accept, config: LinkConfig) -> Endpoint:
        scheme = urlsplit(url).scheme
        host, port = address(url)
        endpoint = WebSocketEndpoint(scheme, accept, config)
        try:
            await endpoint.start(
                host, port, server_context(config.tls) if scheme == "wss" else None
            )
        except OSError as exc:
            raise bind_error(url, exc) from exc
        return endpoint


def open_transport() -> Transport:
    """The transport of `ws://` and `wss://`."""
    return WebSocketTransport()
