"""Whether a listener is ready, and how far it has come."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from osmo_listener.checks import feed_check, operator_check, reporting_work, sending_work
from osmo_listener.errors import UnreachableError
from osmo_listener.informer import Informer
from osmo_listener.listeners.objects import Pod
from osmo_listener.testing import FakeSource
from osmo_listener.watches import Feed
from osmo_runtime.operations import Work
from osmo_transport import (
    Client,
    ClientConfig,
    OutboxConfig,
    Server,
    SessionConfig,
    connect,
    listen,
    new_message,
)
from tests.helpers import eventually
from tests.listener.harness import NO_RESYNC, Recorder, Time, make_pod, running

DEADLINE = 95.0
AT_ONCE = ClientConfig(drain_timeout=0.0)
NARROW = ClientConfig(drain_timeout=0.0, session=SessionConfig(outbox=OutboxConfig(max_entries=1)))


@asynccontextmanager
async def fed(
    source: FakeSource[Pod], time: Time | None = None
) -> AsyncIterator[tuple[Feed, Informer[Pod], Recorder]]:
    async with running(source, NO_RESYNC, time) as (informer, recorder):
        feed = Feed()
        feed.informers.append(informer)
        yield feed, informer, recorder


@pytest.fixture
def source() -> FakeSource[Pod]:
    source: FakeSource[Pod] = FakeSource()
    for name in ("a", "b", "c"):
        source.add(make_pod(name))
    return source


@asynccontextmanager
async def reporting(config: ClientConfig = AT_ONCE) -> AsyncIterator[tuple[Client, Server]]:
    async with (
        listen("memory://") as server,
        connect(server.url, backend="b", config=config) as client,
    ):
        yield client, server


async def test_who_is_let_in_is_ready_and_so_is_who_stands_by() -> None:
    """It says for whom; who is connected nowhere is not ready."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(listen("memory://"))
        first = await stack.enter_async_context(connect(server.url, backend="b", config=AT_ONCE))
        assert not operator_check(first).ok
        await first.epoch_after(0)
        check = operator_check(first)
        assert (check.ok, check.reason) == (True, "")
        assert check.age is not None
        async with connect(server.url, backend="b", config=AT_ONCE) as second:
            await second.placed()
            check = operator_check(second)
            assert check.ok
            assert check.reason.startswith("stands by: ")
    assert not operator_check(first).ok


async def test_a_listener_is_ready_when_it_knows_all_objects(source: FakeSource[Pod]) -> None:
    """Not while the list goes on."""
    source.hold_lists()
    async with fed(source) as (feed, informer, recorder):
        await eventually(lambda: recorder.pods)
        check = feed_check(feed, DEADLINE)
        assert (check.ok, check.reason) == (False, "does not know all objects yet")
        source.release_lists()
        await informer.synced()
        assert feed_check(feed, DEADLINE).ok


async def test_who_is_blind_is_not_ready(source: FakeSource[Pod]) -> None:
    """Because nothing came within the deadline; it says for how long, and what went wrong last."""
    time = Time()
    async with fed(source, time) as (feed, informer, _):
        await informer.synced()
        await eventually(lambda: source.watched_from)
        time.now += DEADLINE
        assert feed_check(feed, DEADLINE) == (True, "", DEADLINE)
        source.fail(UnreachableError("refused"), 1_000_000)
        source.leave_unanswered(UnreachableError("refused"), 1_000_000)
        source.reset_watch()
        await eventually(lambda: not feed_check(feed, DEADLINE).ok)
        check = feed_check(feed, DEADLINE)
        assert check.reason.startswith("has not heard of the API server for ")
        assert check.reason.endswith(" s: refused")
        assert check.age is not None
        assert check.age > DEADLINE
        source._failures.clear()
        source._unanswered.clear()
        source.modify(make_pod("a", "Running"))
        await eventually(lambda: feed_check(feed, DEADLINE).ok)


async def test_where_nothing_happens_and_no_bookmarks_come_nobody_is_blind(
    source: FakeSource[Pod],
) -> None:
    """That the server says where it stands is a sign of life: each watch ends in that."""
    time = Time()
    async with fed(source, time) as (feed, informer, _):
        await informer.synced()
        await eventually(lambda: source.watched_from)
        time.now += DEADLINE + 1
        assert not feed_check(feed, DEADLINE).ok
        source.hang()
        await eventually(lambda: feed_check(feed, DEADLINE).ok)
        assert source.lists == 1


async def test_a_listener_is_as_blind_as_the_blindest_of_what_feeds_it(
    source: FakeSource[Pod],
) -> None:
    """As usage, which needs pods and nodes."""
    times = Time(), Time()
    async with fed(source, times[0]) as (feed, one, _), fed(source, times[1]) as (_, two, _):
        feed.informers.append(two)
        await one.synced()
        await two.synced()
        times[1].now += 50
        assert feed_check(feed, DEADLINE).age == 50
        times[1].now += 50
        assert not feed_check(feed, DEADLINE).ok


async def test_what_waits_with_nothing_in_flight_has_to_leave() -> None:
    """What is in flight waits for the operator, and so does all without one."""
    async with reporting() as (client, server):
        work = sending_work(client)
        await client.send(new_message("update_pod", "a", b""))
        assert client.stats.waiting
        assert not work().waits
        await client.epoch_after(0)
        await eventually(lambda: client.stats.in_flight)
        assert not work().waits
        (incoming,) = await server.receive()
        incoming.acknowledge()
        await eventually(lambda: work() == Work(waits=False, done=1))
        await client.send(new_message("update_pod", "a", b""), more=True)
        assert work() == Work(waits=True, done=1)
        await eventually(lambda: not work().waits)


async def test_a_handler_that_does_not_return_is_told(source: FakeSource[Pod]) -> None:
    """But not one that waits for the operator to let it in, or for room in the outbox."""
    async with fed(source) as (feed, informer, recorder), reporting(NARROW) as (client, server):
        work = reporting_work(client, {"pods": feed})
        await informer.synced()
        recorder.gate.clear()
        source.add(make_pod("d"))
        await eventually(lambda: "d" in recorder.pods)
        if not client.epoch:
            assert not work().waits
        await client.epoch_after(0)
        before = work()
        assert before.waits
        await client.send(new_message("update_pod", "a", b""))
        await client.send(new_message("update_pod", "b", b""))
        assert client.stats.full
        assert not work().waits
        for incoming in await server.receive():
            incoming.acknowledge()
        await eventually(lambda: not client.stats.full)
        recorder.gate.set()
        await eventually(lambda: work().done > before.done)
        assert not work().waits


def test_who_is_fed_by_nothing_is_not_blind() -> None:
    """As before its watches were made."""
    assert Feed().silence == 0.0
