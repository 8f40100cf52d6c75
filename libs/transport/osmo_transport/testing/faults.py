"""A transport that breaks on demand."""

import asyncio
from collections import deque
from collections.abc import Callable
from enum import Enum
from math import inf

from osmo_transport.errors import (
    ClosedError,
    ConnectionLostError,
    HandshakeError,
    TransportError,
)
from osmo_transport.frames import Frame
from osmo_transport.transports.abc import (
    Accept,
    Connection,
    ConnectionConfig,
    Endpoint,
    FrameSink,
    Transport,
)


class Way(Enum):
    """A direction, seen from the side that dials."""

    OUT = "out"
    IN = "in"


BOTH = (Way.OUT, Way.IN)


class FaultyTransport(Transport):
    """Wraps a transport on the side that dials; the verbs act on all of its connections, those to
    come included, until they are taken back::

        faults = FaultyTransport(transport_for(url))
        async with connect(url, backend="b", transport=faults) as client:
            faults.reset()

    Frames are delayed or held in order. A dropped frame leaves a gap, as no real transport does:
    it stands for a peer that swallows what it gets.
    """

    def __init__(self, inner: Transport) -> None:
        self._inner = inner
        self._connections: set[_FaultyConnection] = set()
        self._refusing = False
        self._delay = 0.0
        self._held: set[Way] = set()
        self._to_drop: dict[Way, float] = dict.fromkeys(BOTH, 0)
        self.dialled = 0
        """Times that a connection was asked for."""
        self.dropped = 0
        """Frames that were swallowed."""

    @property
    def connections(self) -> int:
        """Open connections."""
        return len(self._connections)

    def drop(self, frames: float = inf, *ways: Way) -> None:
        """Swallow the next so many frames (all, until `drop(0)`) in each of `ways` (both)."""
        for way in ways or BOTH:
            self._to_drop[way] = frames

    def delay(self, seconds: float) -> None:
        """Let every frame from now on arrive so much later; 0 ends it."""
        self._delay = seconds

    def hold(self, *ways: Way) -> None:
        """Keep frames back in each of `ways` (both), as a peer does that neither reads nor speaks;
        the connections stay open."""
        self._held.update(ways or BOTH)

    def release(self, *ways: Way) -> None:
        """Let what was held, and what follows, pass in each of `ways` (both)."""
        self._held.difference_update(ways or BOTH)
        for connection in self._connections.copy():
            connection.pump()

    def reset(self) -> None:
        """Break every connection now; frames on their way are lost."""
        for connection in self._connections.copy():
            connection.break_off()

    def refuse(self) -> None:
        """Let every attempt to connect fail, until `accept`."""
        self._refusing = True

    def accept(self) -> None:
        """Let connections be made again."""
        self._refusing = False

    async def dial(self, url: str, sink: FrameSink, config: ConnectionConfig) -> Connection:
        self.dialled += 1
        if self._refusing:
            raise ConnectionLostError(f"cannot connect to {url}: refused by this test")
        connection = _FaultyConnection(self, sink)
        connection.inner = await self._inner.dial(url, connection, config)
        connection.local = connection.inner.local
        if connection.open:
            self._connections.add(connection)
        return connection

    async def why(
        self, url: str, error: HandshakeError, config: ConnectionConfig
    ) -> TransportError:
        return await self._inner.why(url, error, config)

    async def listen(self, url: str, accept: Accept, config: ConnectionConfig) -> Endpoint:
        """As the wrapped transport: faults are the dialling side's."""
        return await self._inner.listen(url, accept, config)

    def swallows(self, way: Way) -> bool:
        """Whether the next frame is to be dropped; counts it."""
        if self._to_drop[way] <= 0:
            return False
        self._to_drop[way] -= 1
        self.dropped += 1
        return True

    def holds(self, way: Way) -> bool:
        """Whether frames are kept back."""
        return way in self._held

    @property
    def due(self) -> float:
        """When a frame that is sent now may arrive."""
        return asyncio.get_running_loop().time() + self._delay

    def forget(self, connection: "_FaultyConnection") -> None:
        """A connection has ended."""
        self._connections.discard(connection)


class _Lane:
    """The frames of one direction that are on their way."""

    def __init__(self, faults: FaultyTransport, way: Way, arrive: Callable[[Frame], None]) -> None:
        self._faults = faults
        self._way = way
        self._arrive = arrive
        self._frames: deque[tuple[float, Frame]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def put(self, frame: Frame) -> None:
        if not self._faults.swallows(self._way):
            self._frames.append((self._faults.due, frame))
            self.pump()

    def pump(self) -> None:
        """Pass on what is due."""
        loop = asyncio.get_running_loop()
        while self._frames and not self._faults.holds(self._way):
            due, frame = self._frames[0]
            if due > loop.time():
                self.stop()
                self._timer = loop.call_at(due, self.pump)
                return
            self._frames.popleft()
            self._arrive(frame)

    def flush(self) -> None:
        """Pass on everything at once, as the end of a connection does."""
        while self._frames and not self._faults.holds(self._way):
            self._arrive(self._frames.popleft()[1])

    def stop(self) -> None:
        """No timer is left behind."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _FaultyConnection(Connection, FrameSink):
    def __init__(self, faults: FaultyTransport, sink: FrameSink) -> None:
        self._faults = faults
        self._sink = sink
        self.inner: Connection | None = None
        self.open = True
        self._error: TransportError | None = None
        self._out = _Lane(faults, Way.OUT, self._pass_out)
        self._in = _Lane(faults, Way.IN, sink.frame_received)

    @property
    def peer(self) -> str:
        return self.inner.peer if self.inner is not None else "?"

    @property
    def writable(self) -> bool:
        return self.inner is not None and self.inner.writable

    def send(self, frame: Frame) -> None:
        if self.open and self._error is None:
            self._out.put(frame)

    def pause(self) -> None:
        if self.inner is not None:
            self.inner.pause()

    def resume(self) -> None:
        if self.inner is not None:
            self.inner.resume()

    def close(self) -> None:
        if self.open and self._error is None:
            self._error = ClosedError("closed by this side")
            self._out.flush()
            self._close_inner()

    async def wait_closed(self) -> None:
        if self.inner is not None:
            await self.inner.wait_closed()

    def break_off(self) -> None:
        """End it as a broken network does: at once, and what was on its way is lost."""
        if self.open and self._error is None:
            self._error = ConnectionLostError("the connection was reset by this test")
            self._close_inner()
            asyncio.get_running_loop().call_soon(self.connection_lost, self._error)

    def pump(self) -> None:
        """Pass on what is due in both directions."""
        self._out.pump()
        self._in.pump()

    def _pass_out(self, frame: Frame) -> None:
        if self.inner is not None:
            self.inner.send(frame)

    def _close_inner(self) -> None:
        if self.inner is not None:
            self.inner.close()

    def frame_received(self, frame: Frame) -> None:
        if self._error is None:
            self._in.put(frame)

    def writing_resumed(self) -> None:
        if self._error is None:
            self._sink.writing_resumed()

    def connection_lost(self, error: TransportError) -> None:
        if self.open:
            if self._error is None:
                self._in.flush()
            self.open = False
            self._faults.forget(self)
            self._out.stop()
            self._in.stop()
            self._sink.connection_lost(self._error or error)
