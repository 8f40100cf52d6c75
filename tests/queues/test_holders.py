"""Who holds an entry, and what becomes of those that hold one no more, or not yet."""

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from osmo_transport.queues.abc import QueueConfig
from osmo_transport.queues.delivery import Ack, Retry
from osmo_transport.queues.memory import queue as memory
from osmo_transport.queues.memory.queue import MemoryQueue
from osmo_transport.queues.redis.queue import RedisQueue, open_queue
from osmo_transport.testing.contracts.queue_suite import drain, figures, is_silent, keys
from osmo_transport.testing.feeder import Feeder, report
from osmo_transport.testing.kinds import FIRST
from osmo_transport.testing.redis_server import RedisServer
from tests.helpers import eventually
from tests.queues.harness import Clock, RedisHarness, crash, current, name_in_redis

LONG = QueueConfig(claim_interval=5.0, lease=3600.0, max_attempts=5)
STREAM = f"{{osmo}}:stream:{FIRST}"


@asynccontextmanager
async def in_redis(
    server: RedisServer, config: QueueConfig = LONG
) -> AsyncIterator[tuple[RedisQueue, RedisHarness]]:
    """A queue on a clock that stands still, and what moves it."""
    harness = RedisHarness("osmo", server, Clock())
    queue = await harness.open_queue(current(config))
    assert isinstance(queue, RedisQueue)
    async with queue:
        yield queue, harness


@asynccontextmanager
async def in_memory() -> AsyncIterator[MemoryQueue]:
    """The same inside this process."""
    async with await memory.open_queue("memory://", LONG, clock=Clock()) as queue:
        yield queue


def members(server: RedisServer) -> dict[bytes, int]:
    """The idle milliseconds of the members of the group, by their names in Redis."""
    found = server.command("XINFO", "CONSUMERS", STREAM, "workers")
    return {fields[1]: fields[fields.index(b"idle") + 1] for fields in found}


async def test_a_retry_that_another_has_taken_over_stays_his(server: RedisServer) -> None:
    """Who slept while his lease ended does not take it back when it is due for him."""
    async with (
        in_redis(server) as (queue, harness),
        queue.consumer("workers", "w1") as paused,
        queue.consumer("workers", "w2") as other,
    ):
        await Feeder(queue).append(report("a"))
        (first,) = await drain(paused, 1)
        await paused.settle([(first, Retry("later", after=2 * LONG.lease))])
        harness.live = (other,)
        await harness.pass_time(LONG.lease)  # nobody renewed it for him
        (second,) = await drain(other, 1)
        assert second.attempt == 2
        await harness.pass_time(LONG.lease)
        harness.live = (paused, other)
        assert await is_silent(paused)
        await other.settle([(second, Ack())])
        assert await figures(queue) == (0, 0, 0)


async def test_looking_at_a_retry_before_its_time_counts_nothing(server: RedisServer) -> None:
    """Whoever comes by while it waits for nobody in particular, and however often."""
    async with in_redis(server) as (queue, harness):
        await Feeder(queue).append(report("a"))
        async with queue.consumer("workers", "w1") as leaving:
            (delivery,) = await drain(leaving, 1)
            await leaving.settle([(delivery, Retry("later", after=3 * LONG.lease))])
        async with queue.consumer("workers", "w2") as consumer:
            for _ in range(2):
                await harness.pass_time(LONG.lease)
                assert await is_silent(consumer)
                found = server.command("XPENDING", STREAM, "workers", "-", "+", 10)
                assert [attempts for *_, attempts in found] == [1]
            await harness.pass_time(LONG.lease)
            (delivery,) = await consumer.receive(1)
            assert delivery.attempt == 2


async def test_who_is_taken_over_settles_nothing() -> None:
    """From the moment that another one has joined under his name, received or not."""
    async with in_memory() as queue:
        await Feeder(queue).append(report("a"))
        async with queue.consumer("workers", "w1") as one:
            before = await drain(one, 1)
            async with queue.consumer("workers", "w1") as two:
                await one.settle([(delivery, Ack()) for delivery in before])
                assert await figures(queue) == (0, 1, 0)
                assert keys(await drain(two, 1)) == ["a"]


async def test_what_was_inherited_twice_is_the_last_ones() -> None:
    """Of three consumers of a name the second had not received yet when the third joined."""
    async with in_memory() as queue:
        await Feeder(queue).append(report("a"))
        async with queue.consumer("workers", "w1") as one:
            await drain(one, 1)
            async with (
                queue.consumer("workers", "w1") as two,
                queue.consumer("workers", "w1") as three,
            ):
                (delivery,) = await drain(three, 1)
                assert await is_silent(two)
                await three.settle([(delivery, Ack())])
                assert await figures(queue) == (0, 0, 0)


async def test_who_inherits_and_leaves_takes_no_attempt_back() -> None:
    """What his predecessor was handed out counts, though he himself has received nothing."""
    async with in_memory() as queue:
        await Feeder(queue).append(report("a"))
        async with queue.consumer("workers", "w1") as one:
            await drain(one, 1)
            await queue.consumer("workers", "w1").aclose()
        async with queue.consumer("workers", "w2") as consumer:
            (delivery,) = await drain(consumer, 1)
            assert delivery.attempt == 2


async def test_who_fell_silent_is_remembered_while_he_holds_an_entry() -> None:
    """So that the next one of his name has it at once, and not when its lease ends."""
    async with in_memory() as queue:
        await Feeder(queue).append(report("a"))
        silent = queue.consumer("workers", "w1")
        await drain(silent, 1)
        del silent
        gc.collect()
        assert set(queue._store.holders) == {"w1"}
        async with queue.consumer("workers", "w1") as consumer:
            assert keys(await drain(consumer, 1)) == ["a"]


async def test_a_silent_member_that_holds_entries_is_not_removed(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """However long nobody has looked: with it Redis would forget how often they were tried."""
    config = current(QueueConfig(claim_interval=0.02, lease=0.001, max_attempts=5))
    async with await open_queue(server.url, config) as queue:
        await Feeder(queue).append(report("a"))
        silent = queue.consumer("workers", "w1")
        for attempt in (1, 2):
            (delivery,) = await drain(silent, 1)
            assert delivery.attempt == attempt
            await silent.settle([(delivery, Retry("again", after=0.0))])
        (delivery,) = await drain(silent, 1)
        assert delivery.attempt == 3
        name = name_in_redis(silent).encode()
        await crash(silent)
        await eventually(lambda: members(server)[name] > 20)
        async with queue.consumer("workers", "w2") as consumer:
            await consumer._member.former()
            assert name in members(server)
            (delivery,) = await drain(consumer, 1)
            assert delivery.attempt == 4
    assert "pending for nobody" not in caplog.text


async def test_a_silent_member_that_holds_nothing_is_removed(server: RedisServer) -> None:
    """By whoever looks for what was left behind."""
    config = current(QueueConfig(claim_interval=0.02, lease=0.001))
    async with await open_queue(server.url, config) as queue:
        await Feeder(queue).append(report("a"))
        silent = queue.consumer("workers", "w1")
        (delivery,) = await drain(silent, 1)
        await silent.settle([(delivery, Ack())])
        name = name_in_redis(silent).encode()
        await crash(silent)
        await eventually(lambda: members(server)[name] > 20)
        async with queue.consumer("workers", "w2") as consumer:
            await consumer._claim(consumer._next_claim, 1)
            assert name not in members(server)


async def test_who_waits_for_entries_stays_a_member(server: RedisServer) -> None:
    """Others look for what was left behind, and leave the name of one alone that is only idle."""
    async with (
        in_redis(server) as (queue, harness),
        queue.consumer("workers", "w1") as idle,
        queue.consumer("workers", "w2") as other,
    ):
        await Feeder(queue).append(report("a"))
        (delivery,) = await drain(idle, 1)
        await idle.settle([(delivery, Ack())])
        harness.live = (idle, other)
        for _ in range(3):
            await harness.pass_time(LONG.claim_interval)
            assert await is_silent(other)
        assert name_in_redis(idle).encode() in members(server)


@pytest.mark.parametrize("taken_over", [False, True])
async def test_of_a_settled_retry_nothing_is_kept(server: RedisServer, taken_over: bool) -> None:
    """When it was due is forgotten, whoever tried it again."""
    async with in_redis(server) as (queue, harness):
        await Feeder(queue).append(report("a"))
        kept = ("KEYS", "{osmo}:due:*")
        async with queue.consumer("workers", "w1") as leaving:
            (delivery,) = await drain(leaving, 1)
            await leaving.settle([(delivery, Retry("later", after=1.0))])
        assert server.command(*kept)
        await harness.pass_time(1.0)
        if not taken_over:
            await harness.pass_time(LONG.lease)
        async with queue.consumer("workers", "w1" if taken_over else "w2") as consumer:
            (delivery,) = await drain(consumer, 1)
            assert delivery.attempt == 2
            await consumer.settle([(delivery, Ack())])
        assert not server.command(*kept)
