"""Names of consumers in Redis: each is a member of its own, and heir of those of its name."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from osmo_transport.queues.abc import QueueConfig
from osmo_transport.queues.delivery import Ack, Reject, Retry
from osmo_transport.queues.redis.queue import RedisQueue, open_queue
from osmo_transport.testing.contracts.queue_suite import drain, figures, is_silent, keys
from osmo_transport.testing.feeder import Feeder, report
from osmo_transport.testing.kinds import FIRST, OTHER
from osmo_transport.testing.redis_server import RedisServer
from tests.queues.harness import Clock, crash, current

CONFIG = QueueConfig(claim_interval=5.0, lease=3600.0, max_attempts=3)
STREAM = f"{{osmo}}:stream:{FIRST}"
ROUNDS = 2 * CONFIG.max_attempts
"""How often a consumer looks for what others left: often enough for an entry to be given up, if
each look took it over."""


@asynccontextmanager
async def opened(server: RedisServer) -> AsyncIterator[tuple[RedisQueue, Clock]]:
    """A queue on a clock that stands still."""
    clock = Clock()
    async with await open_queue(server.url, current(CONFIG), clock=clock) as queue:
        yield queue, clock


async def test_a_second_consumer_of_a_name_takes_over(server: RedisServer) -> None:
    """It has what the other held or was to retry, and the other, alive as it may be, can neither
    settle nor renew it, nor give it back when it leaves."""
    async with opened(server) as (queue, _):
        await Feeder(queue).append(report("a"), report("b"), report("c", OTHER))
        async with queue.consumer("workers", "w1") as one, queue.consumer("workers", "w1") as two:
            before = await drain(one, 3)
            await one.settle([(before[0], Retry("later", after=3600.0))])
            after = await drain(two, 3)
            assert sorted(keys(after)) == ["a", "b", "c"]
            assert {delivery.attempt for delivery in after} == {2}
            await one.settle([(before[1], Ack()), (before[2], Reject("stale"))])
            assert await figures(queue) == (0, 3, 0)
            for delivery in before:
                assert await one._member.renew(delivery.stream, [delivery.id]) == {delivery.id}
            await one.aclose()
            assert await is_silent(two)
            await two.settle([(delivery, Ack()) for delivery in after])
            assert await figures(queue) == (0, 0, 0)


async def test_the_first_does_not_take_it_back(server: RedisServer) -> None:
    """However often it receives, or what two hold under one name would go to and fro until its
    attempts are used up."""
    async with opened(server) as (queue, clock):
        feeder = Feeder(queue)
        await feeder.append(report("a"), report("b"))
        async with queue.consumer("workers", "w1") as one, queue.consumer("workers", "w1") as two:
            await drain(one, 2)
            after = await drain(two, 2)
            for _ in range(ROUNDS):
                clock.now += CONFIG.claim_interval
                assert await is_silent(one)
                assert await is_silent(two)
            await two.settle([(delivery, Ack()) for delivery in after])
            assert await figures(queue) == (0, 0, 0)
            await feeder.append(report("c"))
            assert keys(await drain(one, 1)) == ["c"]


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("w1", "w1:b"),
        ("w1", "w1:0123456789ab"),
        ("w1", "w10"),
        ("w1", "w"),
        ("w1", "W1"),
        ("w1:b", "w1"),
        ("w.", "w1"),
        ("%w*", "ww"),
        ("w-1", "w1"),
    ],
)
async def test_takes_nothing_of_who_is_called_otherwise(
    server: RedisServer, name: str, other: str
) -> None:
    """However alike the names are, and whether the other is there or gone."""
    async with opened(server) as (queue, clock), queue.consumer("workers", other) as holder:
        await Feeder(queue).append(report("a"), report("b"))
        held = await drain(holder, 2)
        async with queue.consumer("workers", name) as consumer:
            for _ in range(ROUNDS):
                clock.now += CONFIG.claim_interval
                assert await is_silent(consumer)
            await holder.settle([(held[0], Ack())])
            assert await figures(queue) == (0, 1, 0)
            await crash(holder)
            clock.now += CONFIG.claim_interval
            assert await is_silent(consumer)


@pytest.mark.parametrize("name", ["w1", "w1:b", "w1:0123456789ab", "%w*[.", "ä b\n", "", "w" * 500])
async def test_any_name_is_its_own_heir(server: RedisServer, name: str) -> None:
    """After a crash what its namesake held, and the crash counts."""
    async with opened(server) as (queue, _):
        await Feeder(queue).append(report("a"), report("b"))
        crashing = queue.consumer("workers", name)
        await drain(crashing, 2)
        await crash(crashing)
        async with queue.consumer("workers", name) as consumer:
            taken = await drain(consumer, 2)
            assert keys(taken) == ["a", "b"]
            assert {delivery.attempt for delivery in taken} == {2}


async def test_is_heir_of_a_plain_name(server: RedisServer) -> None:
    """As consumers of an earlier version had it in Redis."""
    async with opened(server) as (queue, _):
        await Feeder(queue).append(report("a"), report("b"))
        server.command("XGROUP", "CREATE", STREAM, "workers", "0")
        read = ("XREADGROUP", "GROUP", "workers", "w1", "COUNT", 1, "STREAMS", STREAM, ">")
        server.command(*read)
        async with queue.consumer("workers", "w1") as consumer:
            taken = await drain(consumer, 2)
            assert [(d.message.key, d.attempt) for d in taken] == [("a", 2), ("b", 1)]
            names = {
                fields[1] for fields in server.command("XINFO", "CONSUMERS", STREAM, "workers")
            }
            assert b"w1" not in names
