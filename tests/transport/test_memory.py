"""When frames in memory are handed over: at once where that surprises nobody, or a turn later."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from osmo_transport import Limits, TlsConfig
from osmo_transport.frames import Frame, Goodbye, GoodbyeCode, Ping, Stored
from osmo_transport.testing import make_message, pair
from osmo_transport.testing.contracts.transport_suite import Accepted, Recorder, batch
from osmo_transport.transports.abc import WRITE_BUFFER, Connection, ConnectionConfig, FrameSink
from osmo_transport.transports.memory import MemoryTransport
from tests.helpers import eventually

CONFIG = ConnectionConfig(limits=Limits(), tls=TlsConfig(), open_timeout=10.0, max_connections=10)


@asynccontextmanager
async def linked(
    greet: Callable[[Connection], None] = lambda _: None,
) -> AsyncIterator[tuple[Connection, Recorder, Accepted]]:
    """The dialling side and its sink, and the accepting one; `greet` is called within `accept`."""
    accepted: list[Accepted] = []

    def accept(connection: Connection) -> FrameSink:
        sink = Accepted(connection)
        accepted.append(sink)
        greet(connection)
        return sink

    transport = MemoryTransport()
    endpoint = await transport.listen("memory://", accept, CONFIG)
    recorder = Recorder()
    connection = await transport.dial(endpoint.url, recorder, CONFIG)
    yield connection, recorder, accepted[0]
    await endpoint.aclose()
    assert recorder.ended == accepted[0].ended


async def test_batches_and_their_acknowledgements_are_handed_over_at_once() -> None:
    """Within `send`, in either direction; nothing of it counts as waiting."""
    async with linked() as (connection, recorder, accepted):
        connection.send(batch(1, 10))
        assert accepted.frames == [batch(1, 10)]
        accepted.connection.send(Stored(1))
        assert recorder.frames == [Stored(1)]


async def test_everything_else_waits_for_the_next_turn_and_nothing_overtakes_it() -> None:
    """What is sent behind it waits too."""
    frames: list[Frame] = [Ping(), batch(1, 10), Stored(1)]
    async with linked() as (connection, _, accepted):
        for frame in frames:
            connection.send(frame)
        assert not accepted.frames
        await asyncio.sleep(0)
        assert accepted.frames == frames


async def test_who_dials_is_told_nothing_before_he_has_his_connection() -> None:
    """Whatever the other side sends while it accepts."""
    async with linked(lambda accepted: accepted.send(Stored(1))) as (_, recorder, _):
        assert not recorder.frames
        await asyncio.sleep(0)
        assert recorder.frames == [Stored(1)]


async def test_a_chain_of_sinks_does_not_nest() -> None:
    """Each passes what it gets on over another connection: a thousand are no thousand calls
    within each other."""
    reached: list[Frame] = []
    onward: list[Connection] = []
    calls = 0

    class Relay(Recorder):
        def frame_received(self, frame: Frame) -> None:
            nonlocal calls
            assert calls == 0
            calls += 1
            if onward:
                onward.pop().send(frame)
            else:
                reached.append(frame)
            calls -= 1

    transport = MemoryTransport()
    config = ConnectionConfig(
        limits=Limits(), tls=TlsConfig(), open_timeout=10.0, max_connections=1_001
    )
    endpoint = await transport.listen("memory://", lambda _: Relay(), config)
    onward += [await transport.dial(endpoint.url, Recorder(), config) for _ in range(1_001)]
    onward.pop().send(batch(1, 10))
    await eventually(lambda: reached)
    assert reached == [batch(1, 10)]
    await endpoint.aclose()


async def test_a_side_that_pauses_gets_nothing_at_once() -> None:
    """And afterwards first what came meanwhile."""
    async with linked() as (connection, _, accepted):
        accepted.connection.pause()
        connection.send(batch(1, 10))
        accepted.connection.resume()
        connection.send(batch(2, 10))
        assert not accepted.frames
        await asyncio.sleep(0)
        assert accepted.frames == [batch(1, 10), batch(2, 10)]


async def test_who_sends_a_lot_is_held_back_for_a_turn() -> None:
    """No more than `WRITE_BUFFER` is handed over in one go, and no more waits before `writable`
    falls: so others have their turns, and what is sent meanwhile can coalesce."""
    quarter = batch(1, WRITE_BUFFER // 4)
    async with linked() as (connection, recorder, accepted):
        sent = 0
        while connection.writable:
            connection.send(quarter)
            sent += 1
        assert sent == 8
        assert len(accepted.frames) == 4
        await asyncio.sleep(0)
        assert len(accepted.frames) == 8
        connection.send(quarter)
        assert len(accepted.frames) == 9
        await eventually(lambda: recorder.resumed)


async def test_the_end_comes_after_what_was_handed_over() -> None:
    """A sink that ends its connection within `send` is told so later, and gets nothing more."""
    async with linked() as (connection, recorder, accepted):
        accepted.on_frame = lambda _: accepted.connection.close()
        connection.send(batch(1, 10))
        connection.send(batch(2, 10))
        assert accepted.frames == [batch(1, 10)]
        assert not accepted.ended
        await eventually(lambda: accepted.ended and recorder.ended)
        assert accepted.frames == [batch(1, 10)]


async def test_a_goodbye_arrives_behind_what_was_sent() -> None:
    """Also of a side that closes at once."""
    bye = Goodbye(GoodbyeCode.CLOSING, "bye")
    async with linked() as (connection, _, accepted):
        connection.send(batch(1, 10))
        connection.send(bye)
        connection.close()
        await eventually(lambda: accepted.ended)
        assert accepted.frames == [batch(1, 10), bye]


async def test_a_round_trip_is_one_turn_of_the_event_loop() -> None:
    """A server that waits is woken by the batch, and a client that flushes goes on behind it."""
    async with pair() as (client, server), asyncio.TaskGroup() as tasks:
        await client.epoch_after(0)

        async def acknowledge() -> None:
            async for incoming in server:
                incoming.acknowledge()

        tasks.create_task(acknowledge())
        await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        turns: list[asyncio.Handle] = []

        def count() -> None:
            turns.append(loop.call_soon(count))

        count()
        for _ in range(3):
            before = len(turns)
            await client.send(make_message())
            await client.flush()
            assert len(turns) == before + 1
        turns[-1].cancel()
        server.stop()


async def test_what_a_sink_sends_when_it_may_write_again_waits_for_the_next_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is within a call of a sink then, too."""
    inside = False

    async with linked() as (connection, recorder, accepted):

        def resumed() -> None:
            nonlocal inside
            inside = True
            connection.send(batch(2, 10))
            inside = False

        def got(_: Frame) -> None:
            assert not inside

        monkeypatch.setattr(recorder, "writing_resumed", resumed)
        accepted.on_frame = got
        accepted.connection.pause()
        while connection.writable:
            connection.send(batch(1, WRITE_BUFFER))
        accepted.connection.resume()
        await eventually(lambda: batch(2, 10) in accepted.frames)
        assert not accepted.ended
