"""`memory://name`: both ends in one process and one event loop; frames pass as they are."""

import asyncio
from collections import deque
from itertools import count
from urllib.parse import urlsplit

from osmo_transport.errors import (
    AddressInUseError,
    ClosedError,
    ConnectionLostError,
    TransportError,
)
from osmo_transport.frames import Batch, Frame
from osmo_transport.transports.abc import (
    WRITE_BUFFER,
    Accept,
    Connection,
    Endpoint,
    FrameSink,
    LinkConfig,
    Transport,
)

_endpoints: dict[str, "MemoryEndpoint"] = {}
_free_names = count(1)

SMALL_FRAME = 64
"""Bytes that a frame without messages counts for in the write buffer."""


class MemoryConnection(Connection):
    """One side of a pair. Frames are handed over in the next turn of the loop, as those of a socket
    are, so that a sink is never called from within its own `send`."""

    def __init__(self, peer: str) -> None:
        self._peer = peer
        self._loop = asyncio.get_running_loop()
        self.sink: FrameSink | None = None
        self._other: MemoryConnection | None = None
        self.inbox: deque[tuple[Frame, int]] = deque()
        self._buffered = 0
        self._scheduled = False
        self.ended: TransportError | None = None
        self._closed = asyncio.Event()

    def attach(self, other: "MemoryConnection", sink: FrameSink) -> None:
        """Pair with the other side; frames come to `sink` from now on."""
        self._other = other
        self.sink = sink
        self.schedule()

    @property
    def peer(self) -> str:
        return self._peer

    @property
    def writable(self) -> bool:
        return self._buffered < WRITE_BUFFER

    def send(self, frame: Frame) -> None:
        other = self._other
        if other is None or self.ended is not None or other.ended is not None:
            return
        size = sum(m.size for m in frame.messages) if type(frame) is Batch else SMALL_FRAME
        self._buffered += size
        other.inbox.append((frame, size))
        other.schedule()

    def close(self) -> None:
        if self._other is not None:
            self._other.end(ConnectionLostError("the other side closed the connection"))
        self.end(ClosedError("closed by this side"))

    async def wait_closed(self) -> None:
        await self._closed.wait()

    def end(self, error: TransportError) -> None:
        """End this side with `error`, after the frames that have arrived."""
        if self.ended is None:
            self.ended = error
            self.schedule()

    def schedule(self) -> None:
        """Hand over what has arrived, in the next turn of the loop."""
        if not self._scheduled and self.sink is not None and (self.inbox or self.ended):
            self._scheduled = True
            self._loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        self._scheduled = False
        sink, other = self.sink, self._other
        if sink is None or other is None:
            return
        if not isinstance(self.ended, ClosedError):
            while self.inbox and self.sink is not None:
                frame, size = self.inbox.popleft()
                other.sent(size)
                sink.frame_received(frame)
                if isinstance(self.ended, ClosedError):
                    break
        if self.ended is not None:
            self.inbox.clear()
            self.sink = None
            sink.connection_lost(self.ended)
            self._closed.set()

    def sent(self, size: int) -> None:
        """The other side took `size` bytes that this side had sent."""
        blocked = self._buffered >= WRITE_BUFFER
        self._buffered -= size
        if blocked and self.writable and self.sink is not None:
            self._loop.call_soon(self._resume)

    def _resume(self) -> None:
        if self.sink is not None:
            self.sink.writing_resumed()


class MemoryEndpoint(Endpoint):
    """A name in this process."""

    def __init__(self, name: str, accept: Accept, config: LinkConfig) -> None:
        self._name = name
        self._accept = accept
        self._max_connections = config.max_connections
        self._connections: set[MemoryConnection] = set()

    @property
    def url(self) -> str:
        return f"memory://{self._name}"

    def connect(self, sink: FrameSink) -> Connection:
        """A new connection's client side."""
        self._connections = {c for c in self._connections if c.sink is not None}
        if len(self._connections) >= self._max_connections:
            raise ConnectionLostError(f"{self.url} is full: {self._max_connections} connections")
        client, server = MemoryConnection(self.url), MemoryConnection(f"{self.url} (client)")
        server.attach(client, self._accept(server))
        client.attach(server, sink)
        self._connections.add(server)
        return client

    async def aclose(self) -> None:
        _endpoints.pop(self._name, None)
        for connection in self._connections:
            connection.close()
        self._connections = set()


class MemoryTransport(Transport):
    """The transport of tests and of the all-in-one process."""

    async def dial(self, url: str, sink: FrameSink, config: LinkConfig) -> Connection:
        endpoint = _endpoints.get(urlsplit(url).netloc)
        if endpoint is None:
            raise ConnectionLostError(f"nobody listens at {url} in this process")
        return endpoint.connect(sink)

    async def listen(self, url: str, accept: Accept, config: LinkConfig) -> Endpoint:
        name = urlsplit(url).netloc or f"free-{next(_free_names)}"
        if name in _endpoints:
            raise AddressInUseError(f"memory://{name} is in use in this process")
        endpoint = _endpoints[name] = MemoryEndpoint(name, accept, config)
        return endpoint


def open_transport() -> Transport:
    """The transport of `memory://`."""
    return MemoryTransport()
