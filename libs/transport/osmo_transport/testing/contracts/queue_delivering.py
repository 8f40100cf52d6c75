"""The contract of receiving: ordered, at least once, on lease, shared fairly."""

import asyncio
from collections import Counter

import pytest

from osmo_transport.errors import (
    UsageError,
)
from osmo_transport.kinds import DEFAULT_STREAM
from osmo_transport.queues.delivery import Ack, Reject, Retry
from osmo_transport.testing.contracts.queue_suite import (
    PATIENCE,
    QueueSuite,
    drain,
    figures,
    is_silent,
    keys,
)
from osmo_transport.testing.feeder import Feeder
from osmo_transport.testing.kinds import KIND_OF_STREAM, OTHER, WEIGHTS
from osmo_transport.testing.patience import patience


class Delivering(QueueSuite):
    """Tests of `receive` and of leases."""

    async def test_keeps_each_producers_order(self) -> None:
        """Within a stream the messages of one producer come in the order of their sequence."""
        async with self.opened() as queue:
            feeders = [Feeder(queue, f"b{n}") for n in range(3)]
            for step in range(10):
                for feeder in feeders:
                    await feeder.append(
                        *[self.report(f"{step:02}.{i}") for i in range(step % 4 + 1)]
                    )
            count = sum(feeder.state.sequence for feeder in feeders)
            async with queue.consumer("readers", "w1") as consumer:
                taken = await drain(consumer, count, limit=7)
            for feeder in feeders:
                mine = keys([d for d in taken if d.backend == feeder.producer.backend])
                assert mine == sorted(mine)
                assert len(mine) == feeder.state.sequence

    async def test_waits_for_entries(self) -> None:
        """`receive` on an empty queue returns when something is appended."""
        async with self.opened() as queue, queue.consumer("readers", "w1") as consumer:
            waiting = asyncio.create_task(consumer.receive(10))
            assert not (await asyncio.wait([waiting], timeout=0.05))[0]
            await Feeder(queue).append(self.report("a"))
            async with patience(PATIENCE):
                assert keys(await waiting) == ["a"]

    async def test_takes_at_most_the_limit(self) -> None:
        """`receive` never returns more than it was asked for, nor takes a limit below one."""
        async with self.opened() as queue, queue.consumer("readers", "w1") as consumer:
            kinds = list(KIND_OF_STREAM.values())
            await Feeder(queue).append(*[self.report(f"k{i}", kinds[i % 4]) for i in range(40)])
            for limit in (1, 2, 3, 5, 8):
                assert 1 <= len(await consumer.receive(limit)) <= limit
            with pytest.raises(UsageError):
                await consumer.receive(0)

    @pytest.mark.parametrize("limit", [1, 2, 3, 5])
    async def test_takes_no_entries_that_nobody_asked_for(self, limit: int) -> None:
        """What `receive` does not return stays for the other consumers, in its order."""
        kinds = list(KIND_OF_STREAM.values()) * 3
        async with self.opened() as queue, queue.consumer("readers", "w1") as consumer:
            feeder = Feeder(queue)
            await feeder.append(self.report("first"))
            await drain(consumer, 1)
            await feeder.append(*[self.report(f"{i:02}", kind) for i, kind in enumerate(kinds)])
            for _ in range(2):
                before = (await figures(queue))[1]
                taken = await consumer.receive(limit)
                assert (await figures(queue))[1] - before == len(taken) <= limit

    async def test_leases_an_entry_to_one_consumer(self) -> None:
        """What one consumer holds no other gets, and all together get everything once."""
        async with self.opened() as queue:
            await Feeder(queue).append(*[self.report(f"k{i}") for i in range(60)])
            async with (
                queue.consumer("readers", "w1") as one,
                queue.consumer("readers", "w2") as two,
            ):
                taken = []
                for _ in range(6):
                    taken += await one.receive(5) + await two.receive(5)
                assert sorted(keys(taken)) == sorted(f"k{i}" for i in range(60))
                assert await is_silent(one)
                assert await is_silent(two)
                assert await figures(queue) == (0, 60, 0)

    async def test_an_acknowledged_entry_is_gone(self) -> None:
        """After `Ack` nobody gets the entry again, and it takes no room; twice is as good."""
        async with self.opened() as queue:
            await Feeder(queue).append(self.report("a"), self.report("b", OTHER))
            async with queue.consumer("readers", "w1") as consumer:
                taken = await drain(consumer, 2)
                await consumer.settle([(delivery, Ack()) for delivery in taken])
                await consumer.settle([(delivery, Ack()) for delivery in taken])
                await consumer.settle([])
                assert await figures(queue) == (0, 0, 0)
            async with queue.consumer("readers", "w1") as consumer:
                assert await is_silent(consumer)

    async def test_leaving_gives_back_at_once(self) -> None:
        """What a consumer did not settle goes to another without a lease's wait, and this delivery
        does not count as an attempt."""
        async with self.opened() as queue:
            await Feeder(queue).append(*[self.report(f"k{i}") for i in range(4)])
            for turn in range(self.config.max_attempts + 2):
                async with queue.consumer("readers", f"w{turn}") as consumer:
                    taken = await drain(consumer, 4)
                    assert [delivery.attempt for delivery in taken] == [1] * 4
            assert await figures(queue) == (0, 4, 0)

    async def test_a_restarted_consumer_gets_its_own_first(self) -> None:
        """After a crash the same name has its entries again before anything new, and the lost
        delivery counts."""
        async with self.opened() as queue:
            feeder = Feeder(queue)
            await feeder.append(*[self.report(f"old{i}") for i in range(3)])
            crashed = queue.consumer("readers", "w1")
            await drain(crashed, 3)
            await self.crash(crashed)
            await feeder.append(*[self.report(f"new{i}") for i in range(3)])
            async with queue.consumer("readers", "w1") as consumer:
                taken = await drain(consumer, 6, limit=2)
            assert keys(taken) == ["old0", "old1", "old2", "new0", "new1", "new2"]
            assert [delivery.attempt for delivery in taken] == [2, 2, 2, 1, 1, 1]

    async def test_a_lease_holds_until_it_ends(self) -> None:
        """While the lease of a crashed consumer lasts, nobody else gets what it held."""
        async with self.opened() as queue:
            await Feeder(queue).append(self.report("a"))
            crashed = queue.consumer("readers", "w1")
            await drain(crashed, 1)
            await self.crash(crashed)
            async with queue.consumer("readers", "w2") as consumer:
                assert await is_silent(consumer)

    async def test_a_silent_consumers_lease_ends(self) -> None:
        """After `lease` another consumer gets what a crashed one held, and the attempt counts."""
        async with self.opened(lease=self.short_lease) as queue:
            await Feeder(queue).append(*[self.report(f"k{i}", OTHER) for i in range(30)])
            crashed = queue.consumer("readers", "w1")
            await drain(crashed, 30)
            await self.crash(crashed)
            async with queue.consumer("readers", "w2") as consumer:
                await self.pass_time(self.short_lease)
                taken = await drain(consumer, 30, limit=4)
                assert sorted(keys(taken)) == sorted(f"k{i}" for i in range(30))
                assert {delivery.attempt for delivery in taken} == {2}

    async def test_renews_leases_while_the_work_lasts(self) -> None:
        """A held entry, and one that waits for its retry, outlast their lease."""
        lease = 0.4
        async with self.opened(lease=lease) as queue:
            await Feeder(queue).append(self.report("held"), self.report("waiting"))
            async with (
                queue.consumer("readers", "w1") as one,
                queue.consumer("readers", "w2") as two,
            ):
                held, waiting = await drain(one, 2)
                await one.settle([(waiting, Retry("later", after=60.0))])
                await self.pass_time(2.5 * lease)
                assert await is_silent(two)
                await one.settle([(held, Ack())])
                assert await figures(queue) == (0, 1, 0)

    async def test_leaves_an_entry_to_its_new_holder(self) -> None:
        """A consumer whose lease ended cannot settle: the new holder's word counts."""
        async with self.opened() as queue:
            await Feeder(queue).append(self.report("a"), self.report("b"), self.report("c"))
            old = queue.consumer("readers", "w1")
            taken = await drain(old, 3)
            await self.crash(old)
            async with queue.consumer("readers", "w1") as new:
                again = await drain(new, 3)
                await new.settle([(again[0], Ack())])
                # The same outcomes as the old holder would have had, from its stale deliveries.
                await new.settle([(taken[1], Reject("stale")), (taken[2], Ack())])
                assert await figures(queue) == (0, 2, 0)
                await new.settle([(again[1], Ack()), (again[2], Ack())])
                assert await figures(queue) == (0, 0, 0)

    @pytest.mark.parametrize("name", ["w1", "w2"])
    async def test_what_is_taken_over_is_settled_at_once(self, name: str) -> None:
        """Also by a consumer that has read nothing else: of one that crashed, under its name or
        after its lease."""
        async with self.opened(lease=self.short_lease) as queue:
            await Feeder(queue).append(*[self.report(f"k{i}") for i in range(3)])
            crashed = queue.consumer("readers", "w1")
            await drain(crashed, 3)
            await self.crash(crashed)
            await self.pass_time(self.short_lease)
            async with queue.consumer("readers", name) as consumer:
                one, two = await drain(consumer, 2, limit=1)
                await consumer.settle([(one, Ack()), (two, Reject("no"))])
                assert await figures(queue) == (0, 1, 1)
                await consumer.settle([(each, Ack()) for each in await drain(consumer, 1)])
                assert await figures(queue) == (0, 0, 1)

    async def test_reads_streams_by_weight(self) -> None:
        """While all streams hold entries each one's share is its weight's, and none waits for more
        than `sum(weights)` reads."""
        if not self.streams:
            pytest.skip("this store has one stream")
        limit, rounds = 2, 2
        total = sum(WEIGHTS.values())
        async with self.opened() as queue, queue.consumer("readers", "w1") as consumer:
            for stream, kind in KIND_OF_STREAM.items():
                weight = WEIGHTS[stream]
                many = [self.report(f"k{i}", kind) for i in range(limit * weight * (rounds + 2))]
                await Feeder(queue, stream).append(*many)
            streams: list[str] = []
            async with patience(PATIENCE):
                while len(streams) < limit * rounds * total:
                    streams += [delivery.stream for delivery in await consumer.receive(limit)]
            for start in range(len(streams) - limit * total + 1):
                assert set(streams[start : start + limit * total]) == set(WEIGHTS)
            share = Counter(streams[: limit * rounds * total])
            for stream, weight in WEIGHTS.items():
                assert abs(share[stream] - limit * rounds * weight) <= limit

    async def test_old_and_new_entries_starve_neither(self) -> None:
        """While there are many entries to be retried, new ones still come, and the other way."""
        async with self.opened(max_attempts=1000) as queue:
            feeder = Feeder(queue)
            await feeder.append(*[self.report(f"old{i}") for i in range(20)])
            async with queue.consumer("readers", "w1") as consumer:
                taken = await drain(consumer, 20)
                await consumer.settle([(d, Retry("again", after=0.0)) for d in taken])
                await feeder.append(*[self.report(f"new{i}") for i in range(20)])
                seen = []
                for _ in range(8):
                    batch = await consumer.receive(4)
                    seen += keys(batch)
                    await consumer.settle([(d, Retry("again", after=0.0)) for d in batch])
                assert any(key.startswith("old") for key in seen)
                assert any(key.startswith("new") for key in seen)

    async def test_keeps_a_kind_it_does_not_know(self) -> None:
        """A message of an unknown kind is delivered, in the stream of all that are unknown."""
        if not self.opaque:
            pytest.skip("this store has a form of its own")
        async with self.opened() as queue, queue.consumer("readers", "w1") as consumer:
            await Feeder(queue).append(self.report("a", "from_the_future"))
            (delivery,) = await drain(consumer, 1)
            assert delivery.message.kind == "from_the_future"
            assert delivery.stream == DEFAULT_STREAM
