"""What only the client's own code decides: its waiting, its end, its logs and figures."""

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from osmo_transport import (
    BackoffConfig,
    Client,
    ClientConfig,
    ClosedError,
    Limits,
    ServerConfig,
    SessionConfig,
    TransportError,
    UnsendableError,
    UsageError,
    connect,
    listen,
    transport_for,
)
from osmo_transport._uplink import MOST_TURNS
from osmo_transport.client import FLUSH_EVERY
from osmo_transport.frames import (
    MAX_INTRODUCTION,
    Batch,
    Frame,
    Goodbye,
    GoodbyeCode,
    Hello,
    Ping,
    Pong,
    Stored,
    Welcome,
)
from osmo_transport.testing import FaultyTransport, Way, make_message, pair
from osmo_transport.transports.abc import (
    Connection,
    ConnectionConfig,
    Endpoint,
    FrameSink,
    Transport,
)
from osmo_transport.transports.memory import MemoryTransport
from tests.helpers import eventually
from tests.transport.line import Line

QUICK = ClientConfig(backoff=BackoffConfig(base=0.01, maximum=0.01), drain_timeout=0.0)


class Lines(MemoryTransport):
    """Dials the line."""

    def __init__(self, line: Line) -> None:
        super().__init__()
        self.line = line

    async def dial(self, url: str, sink: FrameSink, config: ConnectionConfig) -> Connection:
        self.sink = sink
        return self.line


@asynccontextmanager
async def on_a_line() -> AsyncIterator[tuple[Client, Line, FrameSink]]:
    """A client that was welcomed over a line, and who gets what is said to it."""
    line = Line()
    lines = Lines(line)
    async with connect("memory://x", backend="b", config=QUICK, transport=lines) as client:
        await eventually(lambda: line.sent)
        lines.sink.frame_received(Welcome("q", 1, 0, Limits()))
        assert await client.epoch_after(0) == 1
        yield client, line, lines.sink


async def test_waiting_and_giving_up_leaves_nothing_behind() -> None:
    """A thousand cancelled flushes do not pile up."""
    async with connect("memory://nobody", backend="b", config=QUICK) as client:
        await client.send(make_message())
        waiters = client._uplink.milestones._waiters
        for _ in range(1000):
            flushing = asyncio.create_task(client.flush())
            for _ in range(2):
                await asyncio.sleep(0)
            assert len(waiters) == 1
            flushing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await flushing
        assert not waiters


async def test_flush_is_told_of_an_end_that_comes_before_it_waits() -> None:
    """In the turn of the event loop that it gives an answer."""
    async with connect("memory://nobody", backend="b", config=QUICK) as client:
        await client.send(make_message())
        flushing = asyncio.create_task(client.flush())
        await asyncio.sleep(0)
        client._uplink.fail(ClosedError("the end"))
        with pytest.raises(ClosedError):
            await flushing


async def test_flush_is_not_told_of_an_end_that_comes_after_everything_was_acknowledged() -> None:
    """Be it before it has looked."""
    async with on_a_line() as (client, _, sink):
        await client.send(make_message())
        flushing = asyncio.create_task(client.flush())
        await asyncio.sleep(0)
        sink.frame_received(Stored(1))
        client._uplink.fail(ClosedError("the end"))
        await flushing


async def test_flush_returns_when_nothing_is_left() -> None:
    """Nothing sent, nothing to wait for, connected or not."""
    async with connect("memory://nobody", backend="b", config=QUICK) as client:
        await client.flush()


async def test_each_waiter_waits_for_what_was_sent_before() -> None:
    """Acknowledgements wake those whose messages they cover, and no other."""
    async with pair() as (client, server):
        await client.epoch_after(0)
        await client.send(make_message("a"))
        first = asyncio.create_task(client.flush())
        await asyncio.sleep(0)
        await client.send(make_message("b"))
        second = asyncio.create_task(client.flush())
        (incoming,) = await server.receive()
        incoming.acknowledge()
        await first
        assert not second.done()
        (incoming,) = await server.receive()
        incoming.acknowledge()
        await second


async def test_a_coalesced_report_needs_no_room() -> None:
    """While the server is away, one entry per resource is all that is kept."""
    async with connect("memory://nobody", backend="b", config=QUICK) as client:
        for _ in range(100):
            await client.send(make_message("a"))
        assert (client.stats.waiting, client.stats.coalesced) == (1, 99)


async def test_what_is_sent_with_more_leaves_together() -> None:
    """A message leaves at once if nothing is in flight, and one that others follow with these."""
    async with pair() as (client, server):
        await client.epoch_after(0)
        for more, sizes in ((False, [1, 2]), (True, [3])):
            for key in "abc":
                await client.send(make_message(key), more=more)
            for size in sizes:
                (incoming,) = await server.receive()
                assert len(incoming.messages) == size
                incoming.acknowledge()
            await client.flush()


async def test_the_figures_add_up() -> None:
    """What was sent is acknowledged, coalesced, in flight or waiting."""
    small = SessionConfig(limits=Limits(window_messages=2))
    async with pair(server=ServerConfig(session=small)) as (client, server):
        await client.epoch_after(0)
        for key in "aabcd":
            await client.send(make_message(key))
        (incoming,) = await server.receive()
        incoming.acknowledge()
        await eventually(lambda: client.stats.acknowledged)
        stats = client.stats
        assert stats.connected
        assert stats.connects == 1
        assert stats.epoch == client.epoch > 0
        total = stats.acknowledged + stats.coalesced + stats.in_flight + stats.waiting
        assert (total, stats.dropped, stats.refused, stats.resent) == (5, 0, 0, 0)


async def test_a_server_that_breaks_the_protocol_is_left(caplog: pytest.LogCaptureFixture) -> None:
    """And tried again, because the next connection starts from a clean state."""
    greeted = 0

    class Confused(FrameSink):
        def __init__(self, connection: Connection) -> None:
            self.connection = connection

        def frame_received(self, frame: Frame) -> None:
            nonlocal greeted
            if isinstance(frame, Hello):
                greeted += 1
                self.connection.send(Welcome("q", 1, 0, Limits()))
                self.connection.send(Stored(77))

        def writing_resumed(self) -> None: ...

        def connection_lost(self, error: TransportError) -> None: ...

    config = ConnectionConfig(limits=Limits(), tls=QUICK.tls, open_timeout=1.0, max_connections=10)
    endpoint = await MemoryTransport().listen("memory://", Confused, config)
    async with connect(endpoint.url, backend="b", config=QUICK) as client:
        await eventually(lambda: greeted >= 3)
        assert client.stats.in_flight == 0
    await endpoint.aclose()
    assert "acknowledged 77, which was not sent" in caplog.text


async def test_a_broken_transport_ends_the_client_and_is_told() -> None:
    """A third party's transport that raises what it must not: nobody waits for ever, and the error
    is not swallowed."""

    class Broken(Transport):
        async def dial(self, url: str, sink: FrameSink, config: ConnectionConfig) -> Connection:
            raise ZeroDivisionError("a defect")

        async def listen(self, url: str, accept: object, config: ConnectionConfig) -> Endpoint:
            raise NotImplementedError

    async def use() -> None:
        async with connect("memory://x", backend="b", transport=Broken()) as client:
            with pytest.raises(ClosedError, match="ZeroDivisionError"):
                await client.epoch_after(0)

    with pytest.raises(ZeroDivisionError, match="a defect"):
        await use()


async def test_a_defect_of_this_side_costs_a_reconnect(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged with its traceback; one frame that meets it does not end the client."""

    def stumble(*_: object) -> None:
        monkeypatch.undo()
        raise ZeroDivisionError("a defect")

    async with pair() as (client, server):
        epoch = await client.epoch_after(0)
        monkeypatch.setattr(client._uplink, "frame_received", stumble)
        await client.send(make_message("a"))
        (incoming,) = await server.receive()
        incoming.acknowledge()
        await client.flush()
        await client.send(make_message("b"))
        (incoming,) = await server.receive()
        assert [message.key for message in incoming.messages] == ["b"]
        incoming.acknowledge()
        await client.flush()
        assert (client.stats.connects, client.epoch) == (2, epoch)
    assert any(r.exc_info and r.exc_info[0] is ZeroDivisionError for r in caplog.records)


async def test_a_server_that_asks_and_does_not_read_is_not_answered_into_memory() -> None:
    """What cannot be written now is left out; when it can be, it is answered again."""
    async with on_a_line() as (client, line, sink):
        line.writable = False
        for _ in range(1000):
            sink.frame_received(Ping())
        await client.send(make_message())
        assert len(line.sent) == 1
        line.writable = True
        sink.writing_resumed()
        sink.frame_received(Ping())
        await eventually(lambda: len(line.sent) == 3)
        assert {type(frame) for frame in line.sent[1:]} == {Batch, Pong}


@pytest.mark.parametrize("turns", [0, 1, 2, 1000])
async def test_a_producer_that_never_pauses_gives_a_busy_connection_a_few_turns(turns: int) -> None:
    """As many as it needs until it is writable, one at least, and no more than a few."""
    loop = asyncio.get_running_loop()
    passed = 0

    def turn() -> None:
        nonlocal passed
        passed += 1
        line.writable = passed > turns
        loop.call_soon(turn)

    async with on_a_line() as (client, line, _):
        await client.send(make_message("first"))
        line.writable = turns == 0
        turn()
        for number in range(FLUSH_EVERY):
            await client.send(make_message(str(number)))
        assert passed == 1 + max(1, min(turns, MOST_TURNS))


async def test_the_time_to_say_welcome_starts_with_the_connection() -> None:
    """A slow dial does not use up the patience for the answer."""
    faults = FaultyTransport(transport_for("memory://"))
    session = SessionConfig(heartbeat_interval=0.2, heartbeat_timeout=0.2)

    class Slow(FaultyTransport):
        async def dial(self, url: str, sink: FrameSink, config: ConnectionConfig) -> Connection:
            await asyncio.sleep(0.3)
            return await super().dial(url, sink, config)

    slow = Slow(faults)
    async with pair(transport=slow, client=ClientConfig(session=session)) as (client, _):
        assert await client.epoch_after(0)
        assert slow.dialled == 1


async def test_an_unanswered_hello_is_given_up() -> None:
    """A server that lets nobody in is tried again."""
    faults = FaultyTransport(transport_for("memory://"))
    faults.hold(Way.IN)
    session = SessionConfig(heartbeat_interval=0.05, heartbeat_timeout=0.2)
    config = ClientConfig(session=session, backoff=QUICK.backoff, drain_timeout=0.0)
    async with pair(transport=faults, client=config) as (client, _):
        await eventually(lambda: faults.dialled >= 2)
        faults.release()
        assert await client.epoch_after(0)


async def test_a_goodbye_with_patience_is_kept() -> None:
    """The client stays away for as long as the server asks."""
    dialled: list[float] = []
    loop = asyncio.get_running_loop()

    class Busy(FrameSink):
        def __init__(self, connection: Connection) -> None:
            self.connection = connection
            dialled.append(loop.time())

        def frame_received(self, frame: Frame) -> None:
            self.connection.send(Goodbye(GoodbyeCode.UNAVAILABLE, "full", retry_after=0.1))

        def writing_resumed(self) -> None: ...

        def connection_lost(self, error: TransportError) -> None: ...

    config = ConnectionConfig(limits=Limits(), tls=QUICK.tls, open_timeout=1.0, max_connections=10)
    endpoint = await MemoryTransport().listen("memory://", Busy, config)
    async with connect(endpoint.url, backend="b", config=QUICK):
        await eventually(lambda: len(dialled) >= 3)
    await endpoint.aclose()
    assert all(b - a >= 0.1 for a, b in itertools.pairwise(dialled))


async def test_refusals_are_logged_with_their_reason(caplog: pytest.LogCaptureFixture) -> None:
    """More of them than the list of the last ones holds are still counted."""
    small = ServerConfig(session=SessionConfig(limits=Limits(message_bytes=150)))
    faults = FaultyTransport(transport_for("memory://"))
    faults.refuse()
    async with pair(transport=faults, server=small) as (client, server):
        # Before the client knows how little the server takes: it would not take them either.
        for number in range(1100):
            await client.send(make_message(str(number), payload=b"x" * 200))
        await client.send(make_message("last"))
        faults.accept()

        async def acknowledge() -> None:
            while taken := await server.receive():
                for incoming in taken:
                    incoming.acknowledge()

        working = asyncio.create_task(acknowledge())
        await client.flush()
        assert (client.stats.refused, len(client.refusals)) == (1100, 1000)
        server.stop()
        await working
    assert "(1100 in all)" in caplog.text


async def test_a_message_that_cannot_be_sent_is_refused_alone() -> None:
    """The error is its sender's; the link, and what was sent before and after, do not notice."""
    async with pair() as (client, server):
        await client.epoch_after(0)
        await client.send(make_message("before"))
        for key in ("", "\ud800", "k" * 2000):
            with pytest.raises(UnsendableError):
                await client.send(make_message(key))
        await client.send(make_message("after"))
        arrived: list[str] = []
        while len(arrived) < 2:
            for incoming in await server.receive():
                arrived += [message.key for message in incoming.messages]
                incoming.acknowledge()
        await client.flush()
        assert arrived == ["before", "after"]
        assert (client.stats.connects, client.stats.refused) == (1, 0)


async def test_an_endless_introduction_is_refused() -> None:
    """Before anything is dialled: every server would turn it away."""
    longest = b"x" * MAX_INTRODUCTION
    async with connect("memory://nobody", backend="b", config=QUICK, introduction=longest):
        pass
    with pytest.raises(UsageError, match=f"{MAX_INTRODUCTION + 1} bytes"):
        async with connect(
            "memory://nobody", backend="b", config=QUICK, introduction=longest + b"x"
        ):
            pass


async def test_what_was_not_delivered_is_logged_with_its_count(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """When leaving took too long, or made no sense any more."""
    caplog.set_level(logging.WARNING)
    async with connect("memory://nobody", backend="b", config=QUICK) as client:
        await client.send(make_message())
    assert "1 message was not acknowledged" in caplog.text


async def test_an_exception_leaves_at_once() -> None:
    """Without waiting for acknowledgements; the server is told goodbye."""
    async with listen("memory://") as server:

        async def fail() -> None:
            async with connect(server.url, backend="b") as client:
                await client.send(make_message())
                await eventually(lambda: client.stats.in_flight)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            async with asyncio.timeout(1):
                await fail()
        await eventually(lambda: server.connections == 0)


async def test_round_trips_are_told_to_who_wants_to_know() -> None:
    """One of those that are under way at a time, from sending to the acknowledgement."""
    times: list[float] = []
    async with listen("memory://") as server, connect(server.url, backend="b") as client:
        await client.epoch_after(0)
        await client.send(make_message())
        for incoming in await server.receive():
            incoming.acknowledge()
        await client.flush()
        client.on_round_trip = times.append
        await client.send(make_message())
        (first,) = await server.receive()
        await client.send(make_message())
        (second,) = await server.receive()
        assert not times
        first.acknowledge()
        await eventually(lambda: len(times) == 1)
        second.acknowledge()
        await client.flush()
        assert len(times) == 1
        await client.send(make_message())
        (third,) = await server.receive()
        third.acknowledge()
        await client.flush()
        assert len(times) == 2
    assert all(0 <= seconds < 30 for seconds in times)
