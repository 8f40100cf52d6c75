"""Replies of Redis that never arrive: what was read all the same is not tried, and not given up."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from osmo_transport.errors import QueueUnavailableError
from osmo_transport.queues.abc import QueueConfig
from osmo_transport.queues.delivery import Ack, Delivery, Outcome, Reject, Retry
from osmo_transport.queues.redis import client, consumer
from osmo_transport.queues.redis.consumer import RedisConsumer
from osmo_transport.queues.redis.queue import RedisQueue, open_queue
from osmo_transport.queues.redis.scripts import entries
from osmo_transport.testing.contracts.queue_suite import (
    PATIENCE,
    drain,
    figures,
    is_silent,
    keys,
)
from osmo_transport.testing.feeder import Feeder, report
from osmo_transport.testing.kinds import OTHER, STATE
from osmo_transport.testing.redis_server import RedisServer
from tests.helpers import eventually
from tests.queues.harness import crash, current
from tests.queues.way import Way, way_to

CONFIG = QueueConfig(claim_interval=0.02, lease=30.0, max_attempts=3)
TIMES = 2 * CONFIG.max_attempts
"""How often a reply is lost: enough for an entry to be given up, if each counted."""

KINDS = [STATE, STATE, OTHER, "unknown"]

READ, WAIT = "XREADGROUP", "BLOCK"
TAKE, CLAIM, SETTLE = entries.TAKE.sha, entries.CLAIM.sha, entries.SETTLE.sha

Lose = Callable[..., Awaitable[list[Delivery]]]
"""Receives while replies are lost to what has one of these words; what arrives all the same."""


@pytest.fixture(params=["broken", "given up"])
def lose(request: pytest.FixtureRequest) -> Lose:
    """Replies are lost because the connection breaks in front of them, or because whoever waits for
    them gives up, as at a timeout."""

    async def lose(way: Way, reader: RedisConsumer, *words: str) -> list[Delivery]:
        before = way.lost
        if request.param == "broken":
            way.lose_replies(*words)
        else:
            way.swallow_replies(*words)
        async with asyncio.timeout(PATIENCE):
            receiving = asyncio.create_task(reader.receive(100))
            await eventually(lambda: receiving.done() or way.lost > before)
            if request.param == "given up":
                receiving.cancel()
            (result,) = await asyncio.gather(receiving, return_exceptions=True)
        if isinstance(result, list):
            return result
        assert isinstance(result, QueueUnavailableError | asyncio.CancelledError)
        return []

    return lose


@asynccontextmanager
async def opened(
    server: RedisServer, config: QueueConfig = CONFIG
) -> AsyncIterator[tuple[RedisQueue, Way]]:
    """A queue, and the way by which it can be reached too."""
    async with (
        way_to(server) as way,
        await open_queue(server.url, current(config)) as queue,
    ):
        yield queue, way


async def test_a_read_whose_reply_is_lost_counts_no_attempt(
    server: RedisServer, lose: Lose
) -> None:
    """Again and again: all is delivered once, in order, as the first attempt; none is buried."""
    async with (
        opened(server) as (queue, way),
        await open_queue(way.url, current(CONFIG)) as far,
        far.consumer("workers", "w1") as reader,
    ):
        feeder, taken = Feeder(queue), list[Delivery]()
        assert await is_silent(reader)
        steps = 0
        while way.lost < TIMES:
            await feeder.append(*[report(f"{steps:02}{i}", kind) for i, kind in enumerate(KINDS)])
            taken += await lose(way, reader, READ)
            steps += 1
        way.mend()
        taken += await drain(reader, len(KINDS) * steps - len(taken))
        expected = [f"{step:02}{i}" for step in range(steps) for i in range(len(KINDS))]
        assert sorted(keys(taken)) == expected
        assert {delivery.attempt for delivery in taken} == {1}
        for stream in {delivery.stream for delivery in taken}:
            mine = keys([delivery for delivery in taken if delivery.stream == stream])
            assert mine == sorted(mine)
        assert await figures(queue) == (0, len(taken), 0)
        await reader.settle([(delivery, Ack()) for delivery in taken])
        assert await figures(queue) == (0, 0, 0)


async def test_a_read_that_waited_in_vain_counts_none_either(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it got in the end is delivered as the first attempt, whether its connection breaks, it
    is cancelled, or it is out of time."""
    async with (
        opened(server) as (queue, way),
        await open_queue(way.url, current(CONFIG)) as far,
        far.consumer("workers", "w1") as reader,
    ):
        feeder = Feeder(queue)
        for step, end in enumerate(["broken", "cancelled", "late"] * CONFIG.max_attempts):
            before = way.lost
            if end == "late":
                monkeypatch.setattr(client, "COMMAND_TIMEOUT", 0.5)
                monkeypatch.setattr(client, "SLOWEST", 1e12)
                monkeypatch.setattr(consumer, "BLOCK", 0.05)
            if end == "broken":
                way.lose_replies(WAIT)
            else:
                way.swallow_replies(WAIT)
            receiving = asyncio.create_task(reader.receive(100))
            await eventually(lambda n=step: way.caught > n)  # type: ignore[misc]
            await feeder.append(*[report(f"{step}.{i}", kind) for i, kind in enumerate(KINDS)])
            if end == "cancelled":
                await eventually(lambda n=before: way.lost > n)  # type: ignore[misc]
                receiving.cancel()
            with pytest.raises((QueueUnavailableError, asyncio.CancelledError)):
                async with asyncio.timeout(PATIENCE):
                    await receiving
            monkeypatch.undo()
            way.mend()
            taken = await drain(reader, len(KINDS))
            assert sorted(keys(taken)) == [f"{step}.{i}" for i in range(len(KINDS))]
            assert {delivery.attempt for delivery in taken} == {1}
            await reader.settle([(delivery, Ack()) for delivery in taken])
        assert await figures(queue) == (0, 0, 0)


async def test_a_lost_reply_to_the_search_for_lost_ones_counts_none_either(
    server: RedisServer, lose: Lose
) -> None:
    """What was read and never arrived is asked for by itself, as often as it takes."""
    async with (
        opened(server) as (queue, way),
        await open_queue(way.url, current(CONFIG)) as far,
        far.consumer("workers", "w1") as reader,
    ):
        assert await is_silent(reader)
        await Feeder(queue).append(*[report(f"k{i}") for i in range(5)])
        assert not await lose(way, reader, READ)
        for _ in range(TIMES):
            assert not await lose(way, reader, TAKE)
        way.mend()
        taken = await drain(reader, 5)
        assert keys(taken) == [f"k{i}" for i in range(5)]
        assert {delivery.attempt for delivery in taken} == {1}
        assert await figures(queue) == (0, 5, 0)


@pytest.mark.parametrize("successor", ["w1", "w2"])
async def test_what_is_taken_over_counts_once_however_often_it_is_told(
    server: RedisServer, lose: Lose, successor: str
) -> None:
    """The crash of its holder is an attempt; lost replies to who takes over are none."""
    short = QueueConfig(claim_interval=0.02, lease=0.05, max_attempts=3)
    async with (
        opened(server, short) as (queue, way),
        await open_queue(way.url, current(short)) as far,
    ):
        await Feeder(queue).append(*[report(f"k{i}") for i in range(5)])
        crashing = queue.consumer("workers", "w1")
        await drain(crashing, 5)
        await crash(crashing)
        async with far.consumer("workers", successor) as reader:
            assert not await lose(way, reader, CLAIM)
            for _ in range(TIMES):
                assert not await lose(way, reader, CLAIM, TAKE)
            way.mend()
            taken = await drain(reader, 5)
            assert sorted(keys(taken)) == [f"k{i}" for i in range(5)]
            assert {delivery.attempt for delivery in taken} == {2}
            assert await figures(queue) == (0, 5, 0)


async def test_a_retry_counts_once_however_often_it_is_told(
    server: RedisServer, lose: Lose
) -> None:
    """And it is not late for ever: it is due again at once."""
    async with opened(server) as (queue, way), await open_queue(way.url, current(CONFIG)) as far:
        await Feeder(queue).append(*[report(f"k{i}") for i in range(5)])
        async with far.consumer("workers", "w1") as reader:
            taken = await drain(reader, 5)
            await reader.settle([(delivery, Retry("busy", after=0.0)) for delivery in taken])
            for _ in range(TIMES):
                assert not await lose(way, reader, TAKE)
            way.mend()
            again = await drain(reader, 5)
            assert sorted(keys(again)) == [f"k{i}" for i in range(5)]
            assert {delivery.attempt for delivery in again} == {2}


async def test_who_leaves_gives_back_what_never_arrived_too(
    server: RedisServer, lose: Lose
) -> None:
    """At once, and as if it had not been read."""
    async with opened(server) as (queue, way), await open_queue(way.url, current(CONFIG)) as far:
        feeder = Feeder(queue)
        for turn in range(TIMES):
            async with far.consumer("workers", f"w{turn}") as reader:
                await feeder.append(report(f"k{turn}"))
                assert not await lose(way, reader, READ, TAKE, CLAIM)
                way.mend()
        async with queue.consumer("workers", "last") as last:
            taken = await drain(last, TIMES)
            assert sorted(keys(taken)) == [f"k{turn}" for turn in range(TIMES)]
            assert {delivery.attempt for delivery in taken} == {1}


async def test_a_settlement_whose_reply_is_lost_is_asked_for_again(server: RedisServer) -> None:
    """What was carried out is not carried out twice, and nothing comes again."""
    async with opened(server) as (queue, way), await open_queue(way.url, current(CONFIG)) as far:
        await Feeder(queue).append(*[report(f"k{i}") for i in range(4)])
        async with far.consumer("workers", "w1") as reader:
            taken = await drain(reader, 4)
            outcomes: list[tuple[Delivery, Outcome]]
            outcomes = [(delivery, Ack()) for delivery in taken[:2]]
            outcomes += [(delivery, Reject("no")) for delivery in taken[2:]]
            for _ in range(TIMES):
                way.lose_replies(SETTLE)
                with pytest.raises(QueueUnavailableError):
                    await reader.settle(outcomes)
            way.mend()
            await reader.settle(outcomes)
            assert await figures(queue) == (0, 0, 2)
            assert await is_silent(reader)


async def test_who_thinks_better_of_a_settlement_without_an_answer_is_heard(
    server: RedisServer,
) -> None:
    """An entry that was to be given up, and is acknowledged after all: a letter that was made
    stays, and nothing else is wrong."""
    async with opened(server) as (queue, way), await open_queue(way.url, current(CONFIG)) as far:
        await Feeder(queue).append(report("a"))
        async with far.consumer("workers", "w1") as reader:
            (delivery,) = await drain(reader, 1)
            way.lose_replies(SETTLE)
            with pytest.raises(QueueUnavailableError):
                await reader.settle([(delivery, Reject("no"))])
            way.mend()
            await reader.settle([(delivery, Ack())])
            waiting, pending, dead = await figures(queue)
            assert (waiting, pending) == (0, 0)
            assert dead <= 1
