"""A consumer of Redis leaves: at once, and what it did not settle goes on in its time."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from osmo_transport.errors import ClosedError
from osmo_transport.queues.abc import QueueConfig
from osmo_transport.queues.delivery import Ack, Retry
from osmo_transport.queues.redis import consumer as redis_consumer
from osmo_transport.queues.redis.member import CHUNK
from osmo_transport.queues.redis.queue import RedisQueue, open_queue
from osmo_transport.queues.redis.scripts import entries
from osmo_transport.testing.contracts.queue_suite import (
    drain,
    figures,
    is_silent,
    keys,
)
from osmo_transport.testing.feeder import Feeder, report
from osmo_transport.testing.kinds import FIRST
from osmo_transport.testing.redis_server import RedisServer
from tests.helpers import eventually
from tests.queues.harness import current
from tests.queues.way import way_to

PATIENCE = 5.0
CONFIG = QueueConfig(claim_interval=0.02, lease=0.05, max_attempts=3)
STREAM = f"{{osmo}}:stream:{FIRST}"
DUE = f"{{osmo}}:due:{FIRST}"


@asynccontextmanager
async def opened(url: str, config: QueueConfig = CONFIG) -> AsyncIterator[RedisQueue]:
    async with await open_queue(url, current(config)) as queue:
        yield queue


# What waits for its next try


async def test_a_retry_that_is_due_later_than_a_lease_comes_in_its_time(
    server: RedisServer,
) -> None:
    """Not when the lease of whoever left has ended, and not never."""
    after = 6 * CONFIG.lease
    async with opened(server.url) as queue:
        await Feeder(queue).append(report("a"))
        async with queue.consumer("workers", "w1") as leaving:
            (delivery,) = await drain(leaving, 1)
            settled = time.monotonic()
            await leaving.settle([(delivery, Retry("later", after=after))])
        async with queue.consumer("workers", "w2") as consumer:
            (again,) = await drain(consumer, 1)
            # Redis counts in whole milliseconds.
            assert time.monotonic() - settled >= after - 0.002
            assert again.attempt == 2
            await consumer.settle([(again, Ack())])
            assert await figures(queue) == (0, 0, 0)
            assert server.command("EXISTS", DUE) == 0


@pytest.mark.parametrize("name", ["w1", "w2"])
@pytest.mark.parametrize("after", [20.0, 3600.0])
async def test_a_retry_keeps_its_time_whoever_comes_next(
    server: RedisServer, name: str, after: float
) -> None:
    """Also when its consumer is the next one again, and when those leave too; with a lease that is
    shorter than its delay or longer."""
    config = QueueConfig(claim_interval=0.02, lease=60.0, max_attempts=3)
    async with opened(server.url, config) as queue:
        feeder = Feeder(queue)
        await feeder.append(report("a"))
        async with queue.consumer("workers", "w1") as leaving:
            (delivery,) = await drain(leaving, 1)
            await leaving.settle([(delivery, Retry("later", after=after))])
        for turn in range(3):
            async with queue.consumer("workers", name) as consumer:
                await feeder.append(report(f"new{turn}"))
                (new,) = await drain(consumer, 1)
                assert new.message.key == f"new{turn}"
                await consumer.settle([(new, Ack())])
                assert await is_silent(consumer)
        assert await figures(queue) == (0, 1, 0)


async def test_many_retries_hold_up_nobody(server: RedisServer) -> None:
    """More than one exchange looks at, given back by one that comes again under its name."""
    count = CHUNK + 100
    async with opened(server.url) as queue:
        feeder = Feeder(queue)
        await feeder.append(*[report(f"k{i}") for i in range(count)])
        async with queue.consumer("workers", "w1") as leaving:
            taken = await drain(leaving, count)
            retries = [(delivery, Retry("later", after=3600.0)) for delivery in taken]
            await leaving.settle(retries)
        assert server.command("ZCARD", DUE) == count
        await feeder.append(report("new"))
        async with queue.consumer("workers", "w1") as consumer:
            (new,) = await drain(consumer, 1)
            assert new.message.key == "new"
            await consumer.settle([(new, Ack())])
            assert await is_silent(consumer)
        for delivery in taken:
            server.command("ZADD", DUE, 0, delivery.id)
        async with queue.consumer("workers", "w1") as consumer:
            again = await drain(consumer, count)
            assert sorted(keys(again)) == sorted(keys(taken))
            assert {delivery.attempt for delivery in again} == {2}


# At once


async def test_gives_back_what_it_cannot_read_too(server: RedisServer) -> None:
    """One that was read and is not buried yet is the next one's at once, as the others are, and
    nothing is left of whoever read it."""
    config = QueueConfig(claim_interval=0.02, lease=3600.0)
    async with opened(server.url, config) as queue:
        async with queue.consumer("workers", "w1") as leaving:
            await Feeder(queue).append(report("a"))
            server.command("XADD", STREAM, "*", "foreign", "field")
            assert keys(await drain(leaving, 1)) == ["a"]
            assert await figures(queue) == (0, 2, 0)
        assert await figures(queue) == (0, 2, 0)
        async with queue.consumer("workers", "w2") as consumer:
            (delivery,) = await drain(consumer, 1)
            await consumer.settle([(delivery, Ack())])
            waiting = asyncio.create_task(consumer.receive(1))
            await eventually(lambda: server.command("XLEN", "{osmo}:dead") == 1, PATIENCE)
            waiting.cancel()
            assert await figures(queue) == (0, 0, 1)


async def test_leaving_does_not_wait_for_what_a_receive_goes_on_with(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closed while an unreadable entry is being buried, a consumer ends when that is done, and does
    not begin to wait for new entries first."""
    monkeypatch.setattr(redis_consumer, "BLOCK", 10 * PATIENCE)
    config = QueueConfig(claim_interval=20 * PATIENCE)
    async with way_to(server) as way, opened(server.url) as near, opened(way.url, config) as queue:
        consumer = queue.consumer("workers", "w1")
        receiving = asyncio.create_task(consumer.receive(1))
        await eventually(lambda: b"flags=b" in server.command("CLIENT", "LIST"))  # it is blocked
        way.hold_replies(entries.SETTLE.sha)
        server.command("XADD", STREAM, "*", "foreign", "field")
        await eventually(lambda: way.caught)
        closing = asyncio.create_task(consumer.aclose())
        await asyncio.sleep(0)
        way.mend()
        async with asyncio.timeout(PATIENCE):
            await closing
        with pytest.raises(ClosedError):
            await receiving
        assert await figures(near) == (0, 0, 1)
