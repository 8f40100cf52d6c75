"""WebSockets over the library websockets: its protocol without I/O, driven by plain callbacks."""

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import cast

from websockets.client import ClientProtocol
from websockets.frames import BINARY, CLOSE, CONT, TEXT, CloseCode, Frame
from websockets.http11 import Request, Response
from websockets.protocol import SEND_EOF, State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from osmo_transport._text import shown
from osmo_transport.credentials import authorization, token_of
from osmo_transport.errors import ConnectionLostError, PeerError, TransportError
from osmo_transport.frames import JSON, MSGPACK, Bytes, Codec
from osmo_transport.transports import refusals, sockets
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

_quiet = logging.getLogger(f"{__name__}.websockets")
# It logs each connection with INFO, and so do the client and the server, with names.
_quiet.setLevel(logging.WARNING)


AT_ONCE = 16 * 1024
"""Bytes that are parsed at once."""


class WebSocketConnection(WireConnection, asyncio.Protocol):
    """A connection, either side: bytes of the socket in, frames out, and the other way."""

    def __init__(self, protocol: ClientProtocol | ServerProtocol, codec: Codec, limit: int) -> None:
        super().__init__(codec, limit)
        self._protocol = protocol
        self._speak(codec)
        self._fragments = bytearray()
        self._receiving = False

    def _speak(self, codec: Codec) -> None:
        self._codec = codec
        protocol = self._protocol
        self._send_bytes = protocol.send_text if codec is JSON else protocol.send_binary

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wired(cast("asyncio.Transport", transport))

    def data_received(self, data: bytes) -> None:
        # The library parses all that it is given before anybody can say that it is enough.
        for start in range(0, len(data), AT_ONCE):
            if self._shut:
                return
            self._take(data[start : start + AT_ONCE])

    def _take(self, data: bytes) -> None:
        protocol = self._protocol
        # What is answered to it leaves in one piece.
        self._receiving = True
        try:
            protocol.receive_data(data)
            for event in protocol.events_received():
                if type(event) is Frame:
                    self._frame(event)
                else:
                    self._handshake(cast("Request | Response", event))
        finally:
            self._receiving = False
        if protocol.writes:
            self._flush()
        if protocol.state is not State.OPEN:
            self._ending()
        self._took(len(data))

    def _frame(self, frame: Frame) -> None:
        opcode = frame.opcode
        if opcode is BINARY or opcode is TEXT:
            if frame.fin:
                self._received(frame.data)
            else:
                self._collect(frame.data)
        elif opcode is CONT:
            self._collect(frame.data)
            if frame.fin:
                data, self._fragments = bytes(self._fragments), bytearray()
                self._received(data)
        elif opcode is not CLOSE:
            self._idled()

    def _collect(self, piece: Bytes) -> None:
        self._fragments += piece
        if len(piece) < SMALL_PIECE:
            self._idled()

    def _handshake(self, event: Request | Response) -> None:
        """A request to connect came, or its answer; to be said by the side."""

    def _ending(self) -> None:
        """A handshake goes on, or the connection failed."""
        expected = self._protocol.close_expected()
        if self._protocol.state is State.CONNECTING and not expected:
            return
        if self._error is None:
            self._error = self._why()
        if expected:
            self._cut_later()

    def _why(self) -> TransportError:
        protocol = self._protocol
        if protocol.parser_exc is not None and not isinstance(protocol.parser_exc, EOFError):
            return PeerError(f"no WebSocket frame: {protocol.parser_exc}")
        if protocol.close_rcvd is None:
            return ConnectionLostError("the connection broke")
        reason = protocol.close_rcvd.reason or "no reason"
        return ConnectionLostError(f"the other side closed: {shown(reason)}")

    def _write(self, data: bytes) -> None:
        if self._protocol.state is State.OPEN:
            self._send_bytes(data)
            self._flush()

    def _flush(self) -> None:
        if self._receiving:
            return
        wire = self._wire
        pieces = self._protocol.data_to_send()
        if wire is None or wire.is_closing():
            return
        if data := b"".join(pieces):
            wire.write(data)
        if SEND_EOF in pieces:
            wire.write_eof() if wire.can_write_eof() else wire.close()
        self._throttle()

    def _finish(self, error: TransportError) -> None:
        if self._protocol.state is State.OPEN:
            code = (
                CloseCode.INVALID_DATA if isinstance(error, PeerError) else CloseCode.NORMAL_CLOSURE
            )
            self._protocol.send_close(code, close_reason(error))
            self._flush()
            # Not cut before the other side has answered: a socket that is closed with unread input
            # is reset, and then what was sent may not arrive.
            self._cut_later()
        else:
            self._abort()

    def eof_received(self) -> None:
        self._protocol.receive_eof()
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.receive_eof()
        error = self._why()
        if exc is not None and isinstance(error, ConnectionLostError):
            error = ConnectionLostError(f"the connection broke: {exc}")
        self._lost(error)


class _Dialled(WebSocketConnection):
    """The side that connects."""

    def __init__(self, protocol: ClientProtocol, sink: FrameSink, limit: int, token: str) -> None:
        super().__init__(protocol, MSGPACK, limit)
        self._client = protocol
        self._token = token
        self._wanted = sink
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Whether the other side has let it in; a `ConnectionLostError` if not."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        request = self._client.connect()
        if self._token:
            request.headers["Authorization"] = authorization(self._token)
        self._client.send_request(request)
        self._flush()

    def _handshake(self, event: Request | Response) -> None:
        # The protocol has looked at the response by now.
        if self._client.handshake_exc is None and not self.opened.done():
            self._attach(self._wanted)
            self.opened.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if not self.opened.done():
            why = self._client.handshake_exc or exc or UNANSWERED
            self.opened.set_exception(ConnectionLostError(shown(str(why))))
            self.opened.exception()  # asked for, whether or not somebody waits for it

    def abandon(self) -> None:
        """Nobody wants it any more."""
        self._abort()


async def dial(
    url: str, context: ssl.SSLContext | None, sink: FrameSink, config: ConnectionConfig
) -> Connection:
    """An open connection to a URL with a host and a port.

    Raises:
        OSError, ConnectionLostError: none could be made, or the other side did not let it in.
    """
    loop = asyncio.get_running_loop()
    uri = parse_uri(url)
    limit = config.limits.frame_bytes
    protocol = ClientProtocol(
        uri, subprotocols=[Subprotocol(PREFERRED)], max_size=limit, logger=_quiet
    )
    connection = _Dialled(protocol, sink, limit, config.token)
    wire = await sockets.connect(uri.host, uri.port)
    try:
        await loop.create_connection(
            lambda: connection,
            sock=wire,
            ssl=context,
            server_hostname=uri.host if context else None,
            ssl_handshake_timeout=config.open_timeout if context else None,
        )
        await connection.opened
    except BaseException:
        connection.abandon()
        sockets.forget(wire)
        raise
    return connection


class _Accepted(WebSocketConnection):
    """The side that is connected to."""

    def __init__(
        self,
        protocol: ServerProtocol,
        accept: Accept,
        config: ConnectionConfig,
        all_: Connections,
        visit: Visit,
    ) -> None:
        limit = config.limits.frame_bytes
        super().__init__(protocol, MSGPACK, limit)
        self._server = protocol
        self._accepting = accept
        self._config = config
        self._all = all_
        self._first = b""
        """With what it began."""
        self._visit = visit
        self.since = visit.since

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if not self._all.enter(self):
            self._abort()

    def data_received(self, data: bytes) -> None:
        if not self._first:
            self._first = data[: len(refusals.TLS_RECORD)]
            if self._first == refusals.TLS_RECORD:
                self._abort()  # both sides would wait for the other
                return
        super().data_received(data)

    def _handshake(self, event: Request | Response) -> None:
        protocol, request = self._server, cast("Request", event)
        if protocol.parser_exc is not None:
            return  # what came right behind it was no frame: the connection has failed by now
        wished = [
            name.strip()
            for value in request.headers.get_all("Sec-WebSocket-Protocol")
            for name in value.split(",")
            if name.strip()
        ]
        given = answer(request.path, wished, self._all.refusal())
        if given.status != ACCEPTED:
            refusals.tell(given.refusal, self.peer)
            response = protocol.reject(given.status, f"{given.reason}\n")
        else:
            response = protocol.accept(request)
        if given.subprotocol and response.status_code == ACCEPTED:
            response.headers["Sec-WebSocket-Protocol"] = given.subprotocol
        protocol.send_response(response)
        self._flush()
        if protocol.state is State.OPEN:
            self._visit.over()
            self._speak(given.codec)
            headers = request.headers.get_all("Authorization")
            self._presents(token_of(headers[0]) if len(headers) == 1 else "")
            self._accept(self._accepting, self._config.opening_bytes)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._visit.over()
        self._all.leave(self)
        # Who connects and says nothing looks whether somebody listens.
        if self._first == refusals.TLS_RECORD:
            refusals.tell(refusals.SPEAKS_TLS, self.peer)
        elif self._first and self._server.handshake_exc is not None:
            refusals.tell(f"it asked for no WebSocket: {self._server.handshake_exc}", self.peer)


def accepting(
    accept: Accept, config: ConnectionConfig, connections: Connections
) -> Callable[[Visit], asyncio.Protocol]:
    """What makes a protocol for each who comes; those that are let in are in `connections`."""

    def make(visit: Visit) -> _Accepted:
        protocol = ServerProtocol(max_size=config.limits.frame_bytes, logger=_quiet)
        return _Accepted(protocol, accept, config, connections, visit)

    return make
