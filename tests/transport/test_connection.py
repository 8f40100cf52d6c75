"""One end of each connection, told once, whatever goes wrong: in the base of all, and over each
transport."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import pytest

from osmo_transport import (
    ClosedError,
    ConnectionLostError,
    DefectError,
    Limits,
    PeerError,
    TlsConfig,
    Transport,
    TransportError,
    transport_for,
)
from osmo_transport.frames import MSGPACK, Frame, Goodbye, GoodbyeCode, Ping, Pong, Stored
from osmo_transport.testing.contracts.transport_suite import Recorder, batch
from osmo_transport.transports.abc import WRITE_BUFFER, Connection, ConnectionConfig, FrameSink
from osmo_transport.transports.connection import DEFECT, BaseConnection
from osmo_transport.transports.websocket.transport import WebSocketTransport
from tests.helpers import eventually
from tests.transport.engines import ENGINES

pytestmark = pytest.mark.usefixtures("no_socket_left")

CONFIG = ConnectionConfig(limits=Limits(), tls=TlsConfig(), open_timeout=10.0, max_connections=10)
LOGGER = "osmo_transport.transports.connection"


class Clumsy(Recorder):
    """A sink that raises in some of its calls."""

    def __init__(self, *calls: str) -> None:
        super().__init__()
        self.calls = calls
        self.error = ZeroDivisionError("a defect")
        self.connection: Connection

    def _stumble(self, call: str) -> None:
        if call in self.calls:
            raise self.error

    def frame_received(self, frame: Frame) -> None:
        super().frame_received(frame)
        self._stumble("frame_received")

    def writing_resumed(self) -> None:
        super().writing_resumed()
        self._stumble("writing_resumed")

    def connection_lost(self, error: TransportError) -> None:
        super().connection_lost(error)
        self._stumble("connection_lost")


def logged(caplog: pytest.LogCaptureFixture) -> list[BaseException | None]:
    """What was logged with its traceback by the connections."""
    records = [r for r in caplog.records if r.name == LOGGER and r.levelno == logging.ERROR]
    return [r.exc_info[1] for r in records if r.exc_info is not None and r.exc_info[2] is not None]


# The base


class Wire(BaseConnection):
    """A connection whose bytes go nowhere."""

    def __init__(self, sink: FrameSink | None = None) -> None:
        super().__init__(MSGPACK, 1000)
        self.written: list[Frame] = []
        self.finished: list[TransportError] = []
        if sink is not None:
            self._attach(sink)

    @property
    def peer(self) -> str:
        return "nobody"

    @property
    def writable(self) -> bool:
        return True

    def _write(self, data: bytes) -> None:
        self.written.append(MSGPACK.decode(data))

    def pause(self) -> None:
        pass

    def resume(self) -> None:
        pass

    def _finish(self, error: TransportError) -> None:
        self.finished.append(error)

    def arrive(self, frame: Frame) -> None:
        """A frame arrived."""
        self._received(MSGPACK.encode(frame))


async def test_after_the_first_end_nothing_passes() -> None:
    """In either direction, whatever comes; the first reason counts, and is told once."""
    sink = Recorder()
    wire = Wire(sink)
    wire.arrive(Ping())
    wire.send(Pong())
    wire.close()
    wire.close()
    wire.send(Ping())
    wire.arrive(Pong())
    wire._received(b"no frame")
    wire._received(bytes(1001))
    wire._resumed()
    assert sink.ends == []
    for late in (ConnectionLostError("late"), PeerError("later")):
        wire._lost(late)
        wire.send(Ping())
        wire.arrive(Pong())
        wire._resumed()
    await wire.wait_closed()
    assert (sink.frames, wire.written, sink.resumed) == ([Ping()], [Pong()], 0)
    (end,) = sink.ends
    assert isinstance(end, ClosedError)
    assert wire.finished == [end]
    assert not sink.too_late


async def test_a_wire_that_breaks_is_the_end() -> None:
    """There is nothing to finish then."""
    sink = Recorder()
    wire = Wire(sink)
    broken = ConnectionLostError("it broke")
    wire._lost(broken)
    wire.close()
    await wire.wait_closed()
    assert sink.ends == [broken]
    assert wire.finished == []


@pytest.mark.parametrize(
    ("data", "reason"), [(b"no frame", "not a frame"), (bytes(1001), "the limit is 1000")]
)
async def test_what_is_not_allowed_is_refused_with_its_reason(data: bytes, reason: str) -> None:
    """The other side is told, then it ends; what was allowed passes before."""
    sink = Recorder()
    wire = Wire(sink)
    wire.arrive(Ping())
    wire._received(data)
    wire.arrive(Pong())
    (goodbye,) = wire.written
    assert isinstance(goodbye, Goodbye)
    assert goodbye.code is GoodbyeCode.PROTOCOL
    assert reason in goodbye.reason
    (why,) = wire.finished
    wire._lost(ConnectionLostError("gone"))
    assert (sink.frames, sink.ends) == ([Ping()], [why])
    assert isinstance(why, PeerError)
    assert reason in str(why)


async def test_what_comes_from_nowhere_is_nobodys() -> None:
    """Before the connection is open, and when it never was: nothing is raised."""
    wire = Wire()
    wire.arrive(Ping())
    wire._resumed()
    wire._lost(ConnectionLostError("never open"))
    await wire.wait_closed()
    assert (wire.written, wire.finished) == ([], [])


@pytest.mark.parametrize("call", ["frame_received", "writing_resumed"])
async def test_a_defect_of_a_sink_ends_its_connection(
    call: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The other side is told that it is not to blame; the traceback is in the log."""
    sink = Clumsy(call)
    wire = Wire(sink)
    wire.arrive(Ping())
    wire._resumed()
    wire.arrive(Pong())
    assert wire.written == [DEFECT]
    wire._lost(ConnectionLostError("gone"))
    assert sink.frames == [Ping()]
    (end,) = sink.ends
    assert isinstance(end, DefectError)
    assert repr(sink.error) in str(end)
    assert wire.finished == [end]
    assert logged(caplog) == [sink.error]


async def test_a_defect_at_the_end_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The end has been told; whoever waits for it goes on."""
    sink = Clumsy("connection_lost")
    wire = Wire(sink)
    wire._lost(ConnectionLostError("gone"))
    await wire.wait_closed()
    wire._lost(ConnectionLostError("gone"))
    assert len(sink.ends) == 1
    assert (wire.written, wire.finished) == ([], [])
    assert logged(caplog) == [sink.error]


# Every transport


class Way(NamedTuple):
    """A transport, and where it listens."""

    transport: Transport
    url: str


WAYS = {
    "memory": Way(transport_for("memory://"), "memory://"),
    **{
        name: Way(WebSocketTransport(engine), "ws://127.0.0.1:0")
        for name, engine in ENGINES.items()
    },
    "grpc": Way(transport_for("grpc://"), "grpc://127.0.0.1:0"),
}


class Pair:
    """The two sides of one connection: the clumsy one, and the other."""

    def __init__(self, clumsy: Clumsy, *, dialling: bool = True) -> None:
        self.clumsy, self.other = clumsy, Clumsy()
        self.sides = (clumsy, self.other) if dialling else (self.other, clumsy)
        """The dialling and the accepting one."""

    async def close(self) -> None:
        """End it, and wait until both sides have been told."""
        self.other.connection.close()
        for side in self.sides:
            await side.connection.wait_closed()
            await eventually(lambda side=side: side.ended)  # type: ignore[misc]
            assert not side.too_late


@asynccontextmanager
async def connected(way: Way, *pairs: Pair) -> AsyncIterator[None]:
    """Connections of these pairs to one endpoint, one after the other."""
    waiting = [pair.sides[1] for pair in pairs]

    def accept(connection: Connection) -> FrameSink:
        sink = waiting.pop(0)
        sink.connection = connection
        return sink

    endpoint = await way.transport.listen(way.url, accept, CONFIG)
    try:
        for pair in pairs:
            left = len(waiting)
            dialling = pair.sides[0]
            dialling.connection = await way.transport.dial(endpoint.url, dialling, CONFIG)
            await eventually(lambda left=left: len(waiting) < left)  # type: ignore[misc]
        yield
        for pair in pairs:
            await pair.close()
    finally:
        await endpoint.aclose()


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Way:
    """Each transport in turn, WebSockets over both engines."""
    return WAYS[request.param]


either_side = pytest.mark.parametrize("dialling", [True, False], ids=["dialling", "accepting"])


async def is_unharmed(bystander: Pair) -> None:
    """A connection of the same endpoint goes on in both directions."""
    for here, there in (bystander.sides, bystander.sides[::-1]):
        here.connection.send(Stored(7))
        await eventually(lambda there=there: Stored(7) in there.frames)  # type: ignore[misc]
        assert not there.ended


async def is_ended_by_a_defect(pair: Pair) -> None:
    """The clumsy side for a `DefectError`, the other one because it was told so."""
    await eventually(lambda: pair.clumsy.ended and pair.other.ended)
    (end,) = pair.clumsy.ends
    assert isinstance(end, DefectError)
    assert repr(pair.clumsy.error) in str(end)
    assert pair.other.frames[-1] == DEFECT
    (told,) = pair.other.ends
    assert isinstance(told, ConnectionLostError)


@either_side
async def test_a_frame_that_meets_a_defect_ends_its_connection_alone(
    way: Way, dialling: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """No other frame is handed over after it, and other connections do not notice."""
    pair, bystander = (
        Pair(Clumsy("frame_received"), dialling=dialling),
        Pair(Clumsy(), dialling=True),
    )
    async with connected(way, pair, bystander):
        for sequence in (1, 2, 3):
            pair.other.connection.send(Stored(sequence))
        await is_ended_by_a_defect(pair)
        assert pair.clumsy.frames == [Stored(1)]
        await is_unharmed(bystander)
    assert logged(caplog) == [pair.clumsy.error]


@either_side
async def test_a_writer_with_a_defect_ends_its_connection_alone(
    way: Way, dialling: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """What was sent before arrives, then why there is no more."""
    pair, bystander = (
        Pair(Clumsy("writing_resumed"), dialling=dialling),
        Pair(Clumsy(), dialling=True),
    )
    async with connected(way, pair, bystander):
        count = 0
        while pair.clumsy.connection.writable:
            count += 1
            pair.clumsy.connection.send(batch(count, WRITE_BUFFER // 4))
        await is_ended_by_a_defect(pair)
        assert pair.clumsy.resumed == 1
        assert len(pair.other.frames) == count + 1
        await is_unharmed(bystander)
    assert logged(caplog) == [pair.clumsy.error]


@either_side
@pytest.mark.parametrize("closing", ["clumsy", "other"])
async def test_an_end_that_meets_a_defect_is_the_end(
    way: Way, dialling: bool, closing: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whichever side began it: it is told once, whoever waits goes on, the endpoint closes."""
    pair, bystander = (
        Pair(Clumsy("connection_lost"), dialling=dialling),
        Pair(Clumsy(), dialling=True),
    )
    async with connected(way, pair, bystander):
        side = pair.clumsy if closing == "clumsy" else pair.other
        side.connection.close()
        async with asyncio.timeout(10):
            await pair.clumsy.connection.wait_closed()
        await eventually(lambda: pair.clumsy.ended and pair.other.ended)
        assert len(pair.clumsy.ends) == len(pair.other.ends) == 1
        assert not isinstance(pair.clumsy.ends[0], DefectError)
        await is_unharmed(bystander)
    assert logged(caplog) == [pair.clumsy.error]


@either_side
async def test_a_sink_that_always_raises_ends_like_any_other(
    way: Way, dialling: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Each of its errors is logged."""
    calls = ("frame_received", "writing_resumed", "connection_lost")
    pair, bystander = Pair(Clumsy(*calls), dialling=dialling), Pair(Clumsy())
    async with connected(way, pair, bystander):
        pair.other.connection.send(Ping())
        await is_ended_by_a_defect(pair)
        await is_unharmed(bystander)
    assert logged(caplog) == [pair.clumsy.error] * 2
