"""Retries of a consumer over Redis, where what is due cannot be read."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from osmo_transport.errors import QueueUnavailableError
from osmo_transport.queues.abc import QueueConfig
from osmo_transport.queues.delivery import Delivery, Retry
from osmo_transport.queues.redis.consumer import RedisConsumer
from osmo_transport.queues.redis.member import Found, Pending
from osmo_transport.queues.redis.queue import RedisQueue
from osmo_transport.testing.contracts.queue_suite import drain, is_silent, keys
from osmo_transport.testing.feeder import Feeder, report
from osmo_transport.testing.kinds import OTHER, STATE
from osmo_transport.testing.redis_server import RedisServer
from tests.queues.harness import Clock, RedisHarness, current

CONFIG = QueueConfig(claim_interval=5.0, lease=30.0, max_attempts=5, max_delayed=5)


@asynccontextmanager
async def in_redis(
    server: RedisServer,
) -> AsyncIterator[tuple[RedisQueue, RedisHarness, RedisConsumer]]:
    """A queue on a clock that stands still, what moves it, and a consumer."""
    harness = RedisHarness("osmo", server, Clock())
    queue = await harness.open_queue(current(CONFIG))
    assert isinstance(queue, RedisQueue)
    async with queue, queue.consumer("workers", "w1") as consumer:
        harness.live = (consumer,)
        yield queue, harness, consumer


async def put_off(consumer: RedisConsumer, deliveries: Sequence[Delivery]) -> None:
    """Try them again in a second."""
    await consumer.settle([(delivery, Retry("later", after=1.0)) for delivery in deliveries])


@pytest.mark.parametrize("cancelled", [False, True])
async def test_what_is_due_is_not_forgotten_when_it_cannot_be_read(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch, cancelled: bool
) -> None:
    """The entries of every stream, not only of the one whose read failed."""
    async with in_redis(server) as (queue, harness, consumer):
        feeder = Feeder(queue)
        await feeder.append(report("a", STATE), report("b", OTHER))
        await put_off(consumer, await drain(consumer, 2))
        await harness.pass_time(1.0)
        take, failed = consumer._member.take, False

        async def fail_once(stream: str, wanted: Sequence[Pending]) -> tuple[list[Found], int]:
            nonlocal failed
            if failed:
                return await take(stream, wanted)
            failed = True
            raise asyncio.CancelledError if cancelled else QueueUnavailableError("reset")

        monkeypatch.setattr(consumer._member, "take", fail_once)
        with pytest.raises(asyncio.CancelledError if cancelled else QueueUnavailableError):
            await consumer.receive(10)
        assert sorted(keys(await drain(consumer, 2))) == ["a", "b"]


async def test_what_went_to_another_while_it_was_read_ends_nothing(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The renewer found its lease gone; the read's own error is what is raised."""
    async with in_redis(server) as (queue, harness, consumer):
        await Feeder(queue).append(report("a"))
        await put_off(consumer, await drain(consumer, 1))
        await harness.pass_time(1.0)

        async def lose(stream: str, wanted: Sequence[Pending]) -> tuple[list[Found], int]:
            for entry in wanted:
                consumer._forget([(stream, entry.id)])
            raise QueueUnavailableError("no answer")

        monkeypatch.setattr(consumer._member, "take", lose)
        with pytest.raises(QueueUnavailableError, match="no answer"):
            await consumer.receive(10)


async def test_who_holds_back_reads_nothing_while_others_hold_many(server: RedisServer) -> None:
    """Looking through what is pending for them takes several steps, between which it reads."""
    async with in_redis(server) as (queue, _, consumer), queue.consumer("workers", "w2") as other:
        feeder = Feeder(queue)
        await feeder.append(*(report(f"held-{number}") for number in range(600)))
        await drain(other, 600)
        await feeder.append(*(report(f"key-{number}") for number in range(20)))
        await put_off(consumer, await consumer.receive(CONFIG.max_delayed))
        assert await is_silent(consumer)
        assert len(consumer._waiting) == CONFIG.max_delayed
