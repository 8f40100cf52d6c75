"""`memory://name`: both ends in one process and one event loop; frames pass as they are."""

import asyncio
from collections import deque
from itertools import count
from weakref import WeakKeyDictionary

from osmo_transport.credentials import Presented
from osmo_transport.errors import (
    AddressInUseError,
    ConnectionLostError,
    PeerError,
    TransportError,
)
from osmo_transport.frames import MSGPACK, Batch, Frame, Goodbye, Push, Refused, Stored
from osmo_transport.transports.abc import (
    WRITE_BUFFER,
    Accept,
    Connection,
    ConnectionConfig,
    Endpoint,
    FrameSink,
    Transport,
)
from osmo_transport.transports.connection import BaseConnection
from osmo_transport.transports.urls import parsed

_endpoints: dict[str, "MemoryEndpoint"] = {}
_free_names = count(1)

SMALL = 64
"""Bytes that a frame, and each message in one, counts for besides what it carries."""


class _Desk:
    """Where the connections of one event loop hand over their frames."""

    busy = False
    """Whether a sink is being called: for as long as the context is entered."""

    def __enter__(self) -> None:
        self.busy = True

    def __exit__(self, *_: object) -> None:
        self.busy = False


_desks: WeakKeyDictionary[asyncio.AbstractEventLoop, _Desk] = WeakKeyDictionary()


class MemoryConnection(BaseConnection):
    """One side of a pair.

    A batch is handed over within `send`, and so is what says that it is stored: a turn of the event
    loop each way would be a large part of a round trip. All else waits for the next turn, as with a
    socket, and so does what is sent from within a sink, behind what waits already, to a side that
    takes nothing now, and beyond `WRITE_BUFFER` in one go. So no sink of such a connection is
    called from within another one, let alone from within its own `send`, and nobody is kept from
    his turn for long.
    """

    local = True

    def __init__(self, peer: str, limit: int) -> None:
        super().__init__(MSGPACK, limit)
        self._peer = peer
        self._loop = asyncio.get_running_loop()
        self._desk = _desks.setdefault(self._loop, _Desk())
        self._other: MemoryConnection = self
        self._inbox: deque[tuple[Frame, int]] = deque()
        self._buffered = 0
        self._at_once = 0
        """Bytes that were handed to the sink since it last had to wait for them."""
        self._scheduled = False
        self._paused = False
        self._gone: TransportError | None = None
        """The wire is gone: the sink is told so after what has arrived."""

    def pair(self, other: "MemoryConnection") -> None:
        """What this side sends arrives at `other`."""
        self._other = other

    def attach(self, sink: FrameSink) -> None:
        """What has arrived, and what will, is for `sink`."""
        self._attach(sink)
        self._schedule()

    def let_in(self, accept: Accept, opening: int | None) -> None:
        """The same, for the sink that `accept` gives."""
        with self._desk:
            self._accept(accept, opening)
        self._schedule()

    @property
    def peer(self) -> str:
        return self._peer

    @property
    def writable(self) -> bool:
        return self._buffered < WRITE_BUFFER

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        self._schedule()

    @property
    def over(self) -> bool:
        """Whether one side has ended it."""
        return self._error is not None

    @property
    def ended(self) -> bool:
        """Whether the sink has been told the end."""
        return self._closed.is_set()

    def send(self, frame: Frame) -> None:
        # Not encoded: it stays in this process.
        if self._error is None:
            waiting = self._other.arrive(frame)
            self._buffered += waiting

    def _write(self, data: bytes) -> None:
        raise NotImplementedError("frames in memory are not encoded")

    def _finish(self, error: TransportError) -> None:
        self._inbox.clear()
        self._gone = error
        self._schedule()
        self._other.lose()

    def arrive(self, frame: Frame) -> int:
        """The other side sent a frame; bytes of it that wait until they are `taken`."""
        if self._error is not None:
            return 0
        size = _size_of(frame)
        if (
            self._desk.busy
            or self._inbox
            or self._paused
            or self._at_once >= WRITE_BUFFER
            or not (type(frame) is Batch or type(frame) is Stored)
            or size > self._limit
            or self._opening is not None
            or self._sink is None
        ):
            self._inbox.append((frame, size))
            self._schedule()
            return size
        self._at_once += size
        desk = self._desk
        desk.busy = True  # not by `with`, which takes two calls more of every round trip
        try:
            self._sink.frame_received(frame)
        except Exception as exc:  # noqa: BLE001  (as in `_hand_over`, which is one more)
            self._defect(exc)
        finally:
            desk.busy = False
        return 0

    def _resumed(self) -> None:
        with self._desk:
            super()._resumed()

    def taken(self, size: int) -> None:
        """The other side handed a frame to its sink."""
        blocked = not self.writable
        self._buffered -= size
        if blocked and self.writable:
            self._loop.call_soon(self._resumed)

    def lose(self) -> None:
        """The other side has ended the connection."""
        if self._gone is None:
            self._gone = ConnectionLostError("the other side closed the connection")
            self._schedule()

    def _schedule(self) -> None:
        heard = self._sink is not None and self._inbox
        if not (self._scheduled or self._paused) and (heard or self._gone):
            self._scheduled = True
            self._loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        self._scheduled = False
        self._at_once = 0
        with self._desk:
            while self._inbox and self._error is None and not self._paused:
                frame, size = self._inbox.popleft()
                self._other.taken(size)
                self._look_at(frame, size)
            if self._gone is not None and not self._paused:
                self._lost(self._gone)

    def _look_at(self, frame: Frame, size: int) -> None:
        """Hand over a frame that waited, unless it is too large."""
        if self._opening is not None and not self._opens(size):
            return
        if size > self._limit:
            self._refuse(PeerError(f"a frame of {size} bytes, and the limit is {self._limit}"))
        else:
            self._hand_over(frame)


def _size_of(frame: Frame) -> int:
    if type(frame) is Stored:
        return SMALL
    if type(frame) is Batch:
        messages = frame.messages
        if len(messages) == 1:
            return 2 * SMALL + len(messages[0])
        return SMALL * (1 + len(messages)) + sum(map(len, messages))
    if type(frame) is Push:
        return SMALL + len(frame.kind) + len(frame.payload)
    if type(frame) is Goodbye or type(frame) is Refused:
        return SMALL + len(frame.reason)
    return SMALL


class MemoryEndpoint(Endpoint):
    """A name in this process."""

    def __init__(self, name: str, accept: Accept, config: ConnectionConfig) -> None:
        self._name = name
        self._accept = accept
        self._config = config
        self._connections: set[MemoryConnection] = set()

    @property
    def url(self) -> str:
        return f"memory://{self._name}"

    def connect(self, sink: FrameSink, limit: int, token: str) -> Connection:
        """A new connection's client side."""
        self._connections = {c for c in self._connections if not c.ended}
        most = self._config.max_connections
        if len(self._connections) >= most:
            raise ConnectionLostError(f"{self.url} is full: {most} connections")
        client = MemoryConnection(self.url, limit)
        server = MemoryConnection(f"{self.url} (client)", self._config.limits.frame_bytes)
        server.presented = Presented(token, address=server.peer)
        client.pair(server)
        server.pair(client)
        client.attach(sink)
        server.let_in(self._accept, self._config.opening_bytes)
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

    def check(self, url: str) -> None:
        parsed(url)

    async def dial(self, url: str, sink: FrameSink, config: ConnectionConfig) -> Connection:
        endpoint = _endpoints.get(parsed(url).netloc)
        if endpoint is None:
            raise ConnectionLostError(f"nobody listens at {url} in this process")
        return endpoint.connect(sink, config.limits.frame_bytes, config.token)

    async def listen(self, url: str, accept: Accept, config: ConnectionConfig) -> Endpoint:
        name = parsed(url).netloc or f"free-{next(_free_names)}"
        if name in _endpoints:
            raise AddressInUseError(f"memory://{name} is in use in this process")
        endpoint = _endpoints[name] = MemoryEndpoint(name, accept, config)
        return endpoint


def open_transport() -> Transport:
    """The transport of `memory://`."""
    return MemoryTransport()
