"""What somebody removes from the streams by hand is noticed, told, and takes nothing with it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from osmo_transport.errors import FencedError
from osmo_transport.queues.abc import QueueConfig
from osmo_transport.queues.delivery import Ack, Delivery, Reject, Retry
from osmo_transport.queues.redis.queue import RedisQueue, open_queue
from osmo_transport.testing.contracts.queue_suite import (
    FENCED,
    LOST,
    STORED,
    drain,
    figures,
    is_silent,
    keys,
)
from osmo_transport.testing.feeder import Feeder, report
from osmo_transport.testing.kinds import FIRST, OTHER
from osmo_transport.testing.redis_server import RedisServer
from tests.helpers import eventually
from tests.queues.harness import current

CONFIG = QueueConfig(claim_interval=0.02, lease=30.0, max_attempts=3, retry_base=0.01)
STREAM = f"{{osmo}}:stream:{FIRST}"

COUNT = 6
"""Entries of `STREAM` before some are removed."""


def first_id(server: RedisServer) -> bytes:
    ((entry_id, _),) = server.command("XRANGE", STREAM, "-", "+", "COUNT", 1)
    assert isinstance(entry_id, bytes)
    return entry_id


HANDS: dict[str, tuple[Callable[[RedisServer], Sequence[object]], int]] = {
    "DEL": (lambda _: ("DEL", STREAM), COUNT),
    "UNLINK": (lambda _: ("UNLINK", STREAM), COUNT),
    "RENAME": (lambda _: ("RENAME", STREAM, "elsewhere"), COUNT),
    "XTRIM": (lambda _: ("XTRIM", STREAM, "MAXLEN", 2), COUNT - 2),
    "XDEL": (lambda server: ("XDEL", STREAM, first_id(server)), 1),
}
"""What somebody does, and how many entries are gone then."""


@asynccontextmanager
async def opened(server: RedisServer) -> AsyncIterator[RedisQueue]:
    async with await open_queue(server.url, current(CONFIG)) as queue:
        yield queue


@pytest.mark.parametrize("hand", HANDS)
@pytest.mark.parametrize("held", [0, 3, COUNT])
async def test_what_is_removed_by_hand_is_noticed(
    server: RedisServer, hand: str, held: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether it waited or was pending: the queue begins a new epoch, and says how much is gone,
    once; every producer is told, and starts anew; the entries of other streams are delivered."""
    command, gone = HANDS[hand]
    async with opened(server) as queue, queue.consumer("workers", "w1") as consumer:
        feeder, other = Feeder(queue), Feeder(queue, "another")
        await feeder.append(*[report(f"k{i}") for i in range(COUNT)])
        taken: list[Delivery] = []
        while len(taken) < held:
            taken += await consumer.receive(held - len(taken))
        await other.append(report("n0", OTHER), report("n1", OTHER))
        before = await queue.status()
        assert before.lost == 0
        server.command(*command(server))

        after = await queue.status()
        assert after.lost == gone
        assert after.queue_epoch != before.queue_epoch
        assert f"{gone} entries were removed by others" in caplog.text
        assert (await queue.status())._replace(oldest={}) == after._replace(oldest={})
        for producer in (feeder, other):
            assert await producer.append(report("late")) is LOST
            first = producer.state
            state = await producer.open()
            assert state.queue_epoch == after.queue_epoch
            assert state.epoch > first.epoch
            assert await producer.append(report(f"new of {producer.producer.backend}")) is STORED

        left = COUNT - gone
        rest = await drain(consumer, left + 4)
        assert sorted(keys(rest)) == sorted(
            [*[f"k{i}" for i in range(COUNT)][COUNT - left :], "n0", "n1"]
            + [f"new of {name}" for name in ("another", "b1")]
        )
        assert {delivery.attempt for delivery in rest} == {1}
        await consumer.settle([(delivery, Ack()) for delivery in [*taken, *rest]])
        waiting, _, dead = await figures(queue)
        assert (waiting, dead) == (0, 0)
        assert await is_silent(consumer)
        end = await queue.status()
        assert (end.lost, end.queue_epoch) == (gone, after.queue_epoch)


async def test_no_use_of_the_queue_counts_as_a_loss(server: RedisServer) -> None:
    """Whatever is done with entries, and however the figures are asked for in between."""
    async with opened(server) as queue:
        feeder = Feeder(queue)
        epoch = (await queue.status()).queue_epoch
        async with queue.consumer("workers", "w1") as consumer:
            for step in range(5):
                await feeder.append(
                    *[report(f"{step}.{i}", kind) for i, kind in enumerate(["x", OTHER] * 4)]
                )
                await feeder.append(None, report(f"{step}.a"), first=feeder.state.sequence)
                taken = await drain(consumer, 3, limit=3)
                await consumer.settle(
                    [(taken[0], Ack()), (taken[1], Reject("no")), (taken[2], Retry("x", 0.0))]
                )
                server.command("XADD", STREAM, "*", "foreign", str(step))
                status = await queue.status()
                assert (status.lost, status.queue_epoch) == (0, epoch)
        async with queue.consumer("workers", "w1") as consumer:
            taken = await drain(consumer, 5 * (9 - 2))
            await consumer.settle([(delivery, Ack()) for delivery in taken])
            burying = asyncio.create_task(consumer.receive(1))
            dead = "{osmo}:dead"
            await eventually(lambda: server.command("XLEN", dead) == 5 + 5)
            burying.cancel()
        status = await queue.status()
        assert (status.lost, status.queue_epoch) == (0, epoch)
        assert await figures(queue) == (0, 0, 5 + 5)


async def test_each_object_tells_what_it_found_out(server: RedisServer) -> None:
    """A loss is counted by the first that looks, the epoch is another one for all; a later loss is
    found as well."""
    async with opened(server) as one, opened(server) as two:
        feeder = Feeder(one)
        await feeder.append(*[report(f"k{i}") for i in range(4)])
        server.command("XDEL", STREAM, first_id(server))
        found, told = await one.status(), await two.status()
        assert (found.lost, told.lost) == (1, 0)
        assert found.queue_epoch == told.queue_epoch
        server.command("XTRIM", STREAM, "MAXLEN", 1)
        told = await two.status()
        assert told.lost == 2
        assert told.queue_epoch != found.queue_epoch
        assert (await one.status()).queue_epoch == told.queue_epoch


async def test_lost_counts_make_no_loss(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Where somebody removes the counts themselves, or the queue is one of an earlier version that
    had none: what is there from then on is counted, and nothing is told to be lost."""
    caplog.set_level(logging.ERROR)
    async with opened(server) as queue, queue.consumer("workers", "w1") as consumer:
        feeder = Feeder(queue)
        await feeder.append(*[report(f"k{i}") for i in range(4)])
        before = await queue.status()
        server.command("DEL", "{osmo}:counts")
        after = await queue.status()
        assert (after.lost, after.queue_epoch) == (0, before.queue_epoch)
        taken = await drain(consumer, 4)
        await consumer.settle([(taken[0], Ack()), (taken[1], Reject("no"))])
        assert (await queue.status()).lost == 0
        server.command("XDEL", STREAM, taken[2].id)
        assert (await queue.status()).lost == 1
        assert await feeder.append(report("late")) is LOST


async def test_a_fencing_outlasts_a_loss(server: RedisServer) -> None:
    """Who was overtaken before is not let in by the new epoch."""
    async with opened(server) as queue:
        old, new = Feeder(queue), Feeder(queue)
        await old.append(report("a"), report("b"))
        await new.append(report("c"))
        server.command("DEL", STREAM)
        assert (await queue.status()).lost == 3
        assert await old.append(report("d")) is not STORED
        with pytest.raises(FencedError):
            await old.open()
        await new.open()
        assert await new.append(report("e")) is STORED
        assert await old.append(report("f")) in (FENCED, LOST)
