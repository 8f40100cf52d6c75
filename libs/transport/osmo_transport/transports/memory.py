"""`memory://name`: both ends in one process and one event loop; frames pass as they are."""

import asyncio
from collections import deque
from itertools import count
from urllib.parse import urlsplit

from osmo_transport.errors import (
    AddressInUseError,
    ClosedError,
    ConnectionLostError,
    PeerError,
    TransportError,
)
from osmo_transport.frames import Batch, Frame, Goodbye, GoodbyeCode
from osmo_transport.message import total_size
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

    def __init__(self, peer: str, limit: int) -> None:
        self._peer = peer
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._sink: FrameSink | None = None
        self._other: MemoryConnection = self
        self._inbox: deque[tuple[Frame, int]] = deque()
        self._buffered = 0
        self._scheduled = False
        self.error: TransportError | None = None
        """Why it ended, from the moment of the end; the sink is told after what has arrived."""
        self._closed = asyncio.Event()

    def pair(self, other: "MemoryConnection") -> None:
        """What this side sends arrives at `other`."""
        self._other = other

    def attach(self, sink: FrameSink) -> None:
        """What has arrived, and what will, is for `sink`."""
        self._sink = sink
        self._schedule()

    @property
    def peer(self) -> str:
        return self._peer

    @property
    def writable(self) -> bool:
        return self._buffered < WRITE_BUFFER

    @property
    def ended(self) -> bool:
        """Whether the sink has been told the end."""
        return self._closed.is_set()

    def send(self, frame: Frame) -> None:
        if self.error is None and self._other.error is None:
            size = total_size(frame.messages) if type(frame) is Batch else SMALL_FRAME
            self._buffered += size
            self._other.arrive(frame, size)

    def arrive(self, frame: Frame, size: int) -> None:
        """The other side sent a frame."""
        self._inbox.append((frame, size))
        self._schedule()

    def taken(self, size: int) -> None:
        """The other side handed a frame to its sink."""
        blocked = not self.writable
        self._buffered -= size
        if blocked and self.writable:
            self._loop.call_soon(self._resume)

    def close(self) -> None:
        self._end(ClosedError("closed by this side"))

    def lose(self) -> None:
        """The other side has ended the connection."""
        if self.error is None:
            self.error = ConnectionLostError("the other side closed the connection")
            self._schedule()

    async def wait_closed(self) -> None:
        await self._closed.wait()

    def _end(self, error: TransportError) -> None:
        self._inbox.clear()
        if self.error is None:
            self.error = error
            self._schedule()
            self._other.lose()

    def _schedule(self) -> None:
        if not self._scheduled and self._sink is not None and (self._inbox or self.error):
            self._scheduled = True
            self._loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        self._scheduled = False
        sink = self._sink
        if sink is None:
            return
        while self._inbox:
            frame, size = self._inbox.popleft()
            self._other.taken(size)
            if size > self._limit:
                self._refuse(size)
            else:
                sink.frame_received(frame)
        if self.error is not None:
            self._sink = None
            sink.connection_lost(self.error)
            self._closed.set()

    def _refuse(self, size: int) -> None:
        error = PeerError(f"a frame of {size} bytes, and the limit is {self._limit}")
        self.send(Goodbye(GoodbyeCode.PROTOCOL, str(error)))
        self._end(error)

    def _resume(self) -> None:
        if self._sink is not None and self.error is None:
            self._sink.writing_resumed()


class MemoryEndpoint(Endpoint):
    """A name in this process."""

    def __init__(self, name: str, accept: Accept, config: LinkConfig) -> None:
        self._name = name
        self._accept = accept
        self._config = config
        self._connections: set[MemoryConnection] = set()

    @property
    def url(self) -> str:
        return f"memory://{self._name}"

    def connect(self, sink: FrameSink, limit: int) -> Connection:
        """A new connection's client side."""
        self._connections = {c for c in self._connections if not c.ended}
        most = self._config.max_connections
        if len(self._connections) >= most:
            raise ConnectionLostError(f"{self.url} is full: {most} connections")
        client = MemoryConnection(self.url, limit)
        server = MemoryConnection(f"{self.url} (client)", self._config.limits.frame_bytes)
        client.pair(server)
        server.pair(client)
        client.attach(sink)
        server.attach(self._accept(server))
        self._connections.add(server)
        return client

    async def aclose(self) -> None:
        if _endpoints.get(self._name) is self:
            del _endpoints[self._name]
        connections, self._connections = self._connections, set()
        for connection in connections:
            connection.close()
        for connection in connections:
            await connection.wait_closed()


class MemoryTransport(Transport):
    """The transport of tests and of the all-in-one process."""

    async def dial(self, url: str, sink: FrameSink, config: LinkConfig) -> Connection:
        endpoint = _endpoints.get(urlsplit(url).netloc)
        if endpoint is None:
            raise ConnectionLostError(f"nobody listens at {url} in this process")
        return endpoint.connect(sink, config.limits.frame_bytes)

    async def listen(self, url: str, accept: Accept, config: LinkConfig) -> Endpoint:
        name = urlsplit(url).netloc or f"free-{next(_free_names)}"
        if name in _endpoints:
            raise AddressInUseError(f"memory://{name} is in use in this process")
        endpoint = _endpoints[name] = MemoryEndpoint(name, accept, config)
        return endpoint


def open_transport() -> Transport:
    """The transport of `memory://`."""
    return MemoryTransport()
