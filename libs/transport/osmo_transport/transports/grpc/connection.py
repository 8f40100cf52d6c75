"""A stream of frames in a gRPC call, either side."""

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Protocol

import grpc
from grpc import aio

from osmo_transport import _tasks
from osmo_transport._text import shown
from osmo_transport.credentials import Presented, token_of
from osmo_transport.errors import ConnectionLostError, TransportError
from osmo_transport.peers import of_grpc
from osmo_transport.transports.abc import CLOSE_TIMEOUT, WRITE_BUFFER, Accept
from osmo_transport.transports.connection import BaseConnection
from osmo_transport.transports.grpc.frames import PROTOBUF

_log = logging.getLogger(__name__)

END = b""
"""A message without a frame: its sender says nothing more."""

STATUS_TIMEOUT = 1.0
"""Seconds that a call which broke may take to say with which status."""

BROKEN = (grpc.RpcError, asyncio.InvalidStateError, aio.BaseError, RuntimeError)
"""What grpc.aio, and the event loop under it, raise when a stream is used that has ended."""


AUTHORIZATION = "authorization"
"""The metadata in which a token comes, as in HTTP."""


class CallContext(Protocol):
    """What a server knows of a call."""

    def peer(self) -> str:
        """Where its client is."""

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """What TLS found out about it."""

    def invocation_metadata(self) -> Any:
        """What came along: names and values."""


def presented(context: CallContext) -> Presented:
    """What the client of a call presented."""
    tokens = [value for key, value in context.invocation_metadata() or () if key == AUTHORIZATION]
    (pem,) = context.auth_context().get("x509_pem_cert") or (b"",)
    certificate = ssl.PEM_cert_to_DER_cert(pem.decode()) if pem else b""
    # Of two, nobody could say which one is meant.
    token = token_of(str(tokens[0])) if len(tokens) == 1 else ""
    return Presented(token, certificate, of_grpc(context.peer()))


class Stream(Protocol):
    """What both sides of a call have."""

    async def read(self) -> Any:
        """The next message, or `aio.EOF`."""

    async def write(self, message: bytes) -> None:
        """Send a message."""


class GrpcConnection(BaseConnection):
    """A stream; `serve` moves the frames until the end.

    `half_close` tells the other side that nothing more is sent: a server's empty message, because a
    call that a server leaves while its client is writing loses what the client has not read, and a
    client's end of its half of the stream, which is the answer to it. `status` asks a call that
    broke what the other side, or a proxy between, said.
    """

    def __init__(
        self,
        peer: str,
        stream: Stream,
        limit: int,
        half_close: Callable[[], Awaitable[None]],
        status: Callable[[], Awaitable[str]],
    ) -> None:
        super().__init__(PROTOBUF, limit)
        self._peer = peer
        self._stream = stream
        self._half_close = half_close
        self._status = status
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._filled = asyncio.Event()
        self._ended = asyncio.Event()
        self._blocked = False
        self._may_read = asyncio.Event()
        self._may_read.set()

    @property
    def peer(self) -> str:
        return self._peer

    @property
    def writable(self) -> bool:
        return self._queued < WRITE_BUFFER

    def pause(self) -> None:
        self._may_read.clear()

    def resume(self) -> None:
        self._may_read.set()

    def _write(self, data: bytes) -> None:
        self._queue.append(data)
        self._queued += len(data)
        self._blocked = not self.writable
        self._filled.set()

    def _finish(self, error: TransportError) -> None:
        self._filled.set()
        self._ended.set()

    async def serve(self, accept: Accept, opening: int | None = None) -> None:
        """Move frames until the connection ends, then tell the sink that `accept` gave why;
        `opening`: bytes that the first one may have."""
        self._accept(accept, opening)
        reader = asyncio.create_task(self._read())
        writer = asyncio.create_task(self._write_on())
        for task in (reader, writer):
            task.add_done_callback(self._moves_no_more)
        try:
            await self._ended.wait()
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._part(reader, writer)
        except TimeoutError:
            pass  # The other side does not read: it is cut off.
        finally:
            # gRPC may cancel the call while it ends: the sink is told all the same.
            try:
                await _tasks.end(reader, writer)
            finally:
                self._lost(ConnectionLostError("the connection was cancelled"))

    def _moves_no_more(self, task: "asyncio.Task[None]") -> None:
        _tasks.log_defect(task, _log, f"the connection to {self._peer}")
        self._end(ConnectionLostError("the connection broke"))

    async def _part(self, reader: "asyncio.Task[None]", writer: "asyncio.Task[None]") -> None:
        await writer
        if not reader.done():
            try:
                await self._half_close()
            except BROKEN:
                return
            await reader

    async def _read(self) -> None:
        # To the end of the stream, also when this side has ended it: the other side's end is the
        # sign that it has read everything.
        try:
            while (data := await self._stream.read()) is not aio.EOF:
                if not self._may_read.is_set():
                    await self._may_read.wait()
                if data == END:
                    self._end(ConnectionLostError("the other side closed the connection"))
                else:
                    self._received(data)
            self._end(ConnectionLostError("the other side closed the connection"))
        except BROKEN as exc:
            await self._break(exc)

    async def _write_on(self) -> None:
        try:
            while self._queue or self._error is None:
                while self._queue:
                    data = self._queue.popleft()
                    await self._stream.write(data)
                    self._queued -= len(data)
                    if self._blocked and self.writable:
                        self._blocked = False
                        self._resumed()
                self._filled.clear()
                if self._error is None:
                    await self._filled.wait()
        except BROKEN as exc:
            await self._break(exc)

    async def _break(self, exc: Exception) -> None:
        if self._error is not None:
            return
        said = ""
        try:
            async with asyncio.timeout(STATUS_TIMEOUT):
                said = await self._status()
        except (TimeoutError, *BROKEN):
            pass
        self._end(ConnectionLostError(f"the connection broke: {shown(said or str(exc))}"))
