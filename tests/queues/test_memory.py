"""What is particular to `memory://`."""

import gc
import time

import pytest

from osmo_transport.errors import UsageError
from osmo_transport.queues.abc import QueueConfig
from osmo_transport.queues.delivery import Ack, Retry
from osmo_transport.queues.memory.queue import _named, open_queue
from osmo_transport.testing.contracts.queue_suite import drain, figures, keys
from osmo_transport.testing.feeder import Feeder, report
from tests.queues.harness import Clock


async def test_a_name_is_shared_while_it_is_open() -> None:
    """Two openers of one name see one store; after the last has closed it, a new one begins."""
    async with await open_queue("memory://shared", QueueConfig()) as one:
        await Feeder(one).append(report("a"))
        async with await open_queue("memory://shared", QueueConfig()) as two:
            assert await figures(two) == (1, 0, 0)
            epoch = (await two.status()).queue_epoch
        assert (await one.status()).queue_epoch == epoch
    assert "shared" not in _named
    async with await open_queue("memory://shared", QueueConfig()) as three:
        assert await figures(three) == (0, 0, 0)
        assert (await three.status()).queue_epoch != epoch


async def test_without_a_name_it_is_ones_own() -> None:
    """`memory://` opened twice are two stores."""
    async with await open_queue("memory://", QueueConfig()) as one:
        await Feeder(one).append(report("a"))
        async with await open_queue("memory://", QueueConfig()) as two:
            assert await figures(two) == (0, 0, 0)


@pytest.mark.parametrize("url", ["memory://name?size=1", "memory://name/path"])
async def test_refuses_what_it_does_not_know(url: str) -> None:
    """A URL with more than a name is refused."""
    with pytest.raises(UsageError):
        await open_queue(url, QueueConfig())


async def test_a_dropped_consumer_ends_its_lease() -> None:
    """A consumer that nobody holds any more is a silent one, and its name is forgotten."""
    clock = Clock()
    async with await open_queue("memory://", QueueConfig(), clock=clock) as queue:
        await Feeder(queue).append(report("a"))
        dropped = queue.consumer("workers", "w1")
        await drain(dropped, 1)
        del dropped
        gc.collect()
        clock.now += QueueConfig().lease
        async with queue.consumer("workers", "w2") as consumer:
            (delivery,) = await drain(consumer, 1)
            assert delivery.attempt == 2
            assert set(queue._store.holders) == {"w2"}
        assert queue._store.holders == {}


async def test_a_second_consumer_of_a_name_takes_over() -> None:
    """Who joins under a name has what the other held or was to retry, who can settle it no more."""
    async with await open_queue("memory://", QueueConfig()) as queue:
        await Feeder(queue).append(report("a"), report("b"))
        async with queue.consumer("workers", "w1") as one:
            before = await drain(one, 2)
            await one.settle([(before[0], Retry("later", after=0.0))])
            async with queue.consumer("workers", "w1") as two:
                assert keys(await drain(two, 2)) == ["b", "a"]
                await one.settle([(delivery, Ack()) for delivery in before])
                await one.aclose()
                assert await figures(queue) == (0, 2, 0)


async def test_epochs_follow_the_wall_clock() -> None:
    """A first epoch is the time in milliseconds."""
    async with await open_queue("memory://", QueueConfig(), wall=lambda: 1_800_000_000.5) as queue:
        assert (await Feeder(queue).open()).epoch == 1_800_000_000_500
    async with await open_queue("memory://", QueueConfig()) as queue:
        assert (await Feeder(queue).open()).epoch / 1000 == pytest.approx(time.time(), abs=60)
