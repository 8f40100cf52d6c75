"""The contract of settling: retries, bounded tries, dead letters; and of cancelling and closing."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from msgspec.structs import replace

from osmo_transport.errors import (
    ClosedError,
    QueueRefusedError,
    UsageError,
)
from osmo_transport.kinds import stream_weights
from osmo_transport.queues.abc import AppendOutcome, Consumer
from osmo_transport.queues.delivery import NEW, Ack, Outcome, Reject, Retry
from osmo_transport.testing.cancellation import cancel_at
from osmo_transport.testing.contracts.queue_suite import (
    PATIENCE,
    STORED,
    QueueSuite,
    buried,
    drain,
    figures,
    has_buried,
    is_silent,
    keys,
)
from osmo_transport.testing.feeder import Feeder
from osmo_transport.testing.kinds import FIRST, LAST, OTHER, SECOND
from osmo_transport.testing.patience import patience


class Settling(QueueSuite):
    """Tests of `settle`."""

    async def test_retries_after_the_delay_asked_for(self) -> None:
        """`Retry(after)` delivers the entry again after that time, counting the attempts."""
        async with self.opened() as queue, queue.consumer("readers", "w1") as consumer:
            await Feeder(queue).append(self.report("a"))
            (delivery,) = await drain(consumer, 1)
            await consumer.settle([(delivery, Retry("busy", after=0.3))])
            assert await is_silent(consumer)
            assert await figures(queue) == (0, 1, 0)
            await self.pass_time(0.3)
            (delivery,) = await drain(consumer, 1)
            assert (delivery.message.key, delivery.attempt) == ("a", 2)
            await consumer.settle([(delivery, Ack())])
            assert await figures(queue) == (0, 0, 0)

    async def test_a_retry_does_not_hold_up_others(self) -> None:
        """While one entry waits for its retry, later ones are delivered."""
        async with self.opened() as queue, queue.consumer("readers", "w1") as consumer:
            feeder = Feeder(queue)
            await feeder.append(self.report("a"))
            (delivery,) = await drain(consumer, 1)
            await consumer.settle([(delivery, Retry("busy", after=60.0))])
            await feeder.append(self.report("b"))
            assert keys(await drain(consumer, 1)) == ["b"]

    async def test_a_retry_without_delay_uses_the_backoff(self) -> None:
        """The queue's own delay starts at `retry_base` and doubles."""
        changes = {"retry_base": 0.25, "retry_maximum": 60.0}
        async with self.opened(**changes) as queue, queue.consumer("readers", "w1") as consumer:
            await Feeder(queue).append(self.report("a"))
            for delay in (0.25, 0.5):
                (delivery,) = await drain(consumer, 1)
                await consumer.settle([(delivery, Retry("busy"))])
                await self.pass_time(delay / 2)
                assert await is_silent(consumer, 0.01)
                await self.pass_time(delay / 2)
            assert (await drain(consumer, 1))[0].attempt == 3

    async def test_leaving_keeps_the_delay_of_a_retry(self) -> None:
        """What waits for its next try when its consumer leaves goes to another, in its time."""
        async with self.opened(lease=0.6) as queue:
            await Feeder(queue).append(self.report("a"))
            async with queue.consumer("readers", "w1") as consumer:
                (delivery,) = await drain(consumer, 1)
                await consumer.settle([(delivery, Retry("busy", after=0.4))])
            async with queue.consumer("readers", "w2") as consumer:
                await self.pass_time(0.2)
                assert await is_silent(consumer)
                await self.pass_time(0.2)
                assert (await drain(consumer, 1))[0].attempt == 2

    async def test_holds_back_while_many_wait_for_their_next_try(self) -> None:
        """With `max_delayed` entries waiting a consumer takes nothing new, which others do, until
        one of them is due."""
        async with self.opened(max_delayed=2) as queue, queue.consumer("readers", "w1") as consumer:
            feeder = Feeder(queue)
            await feeder.append(self.report("a"), self.report("b"))
            first, second = await drain(consumer, 2)
            retries = [(first, Retry("busy", after=0.3)), (second, Retry("busy", after=60.0))]
            await consumer.settle(retries)
            await feeder.append(self.report("c"), self.report("d"))
            assert await is_silent(consumer)
            async with queue.consumer("readers", "w2") as other:
                (delivery,) = await drain(other, 1, limit=1)
                assert delivery.message.key == "c"
                await other.settle([(delivery, Ack())])
            await self.pass_time(0.3)
            assert set(keys(await drain(consumer, 2))) == {"a", "d"}

    async def test_holds_back_from_what_others_left(self) -> None:
        """With `max_delayed` entries waiting a consumer takes none whose lease has ended either."""
        changes = {"max_delayed": 1, "lease": self.short_lease}
        async with self.opened(**changes) as queue, queue.consumer("readers", "w1") as consumer:
            await Feeder(queue).append(self.report("a"), self.report("b"))
            (delivery,) = await drain(consumer, 1, limit=1)
            crashing = queue.consumer("readers", "w2")
            await drain(crashing, 1)
            await consumer.settle([(delivery, Retry("busy", after=0.5))])
            await self.crash(crashing)
            await self.pass_time(self.short_lease)
            for _ in range(2):  # the first look may just finish an earlier one
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(consumer.receive(100), 0.05)
            await self.pass_time(0.5)
            assert sorted(keys(await drain(consumer, 2))) == ["a", "b"]

    async def test_gives_up_with_the_last_retrys_reason(self) -> None:
        """After `max_attempts` deliveries a retry makes a dead letter that tells everything."""
        async with self.opened() as queue, queue.consumer("readers", "w1") as consumer:
            message = self.report("a", OTHER)
            await Feeder(queue, "east").append(message)
            for attempt in range(1, self.config.max_attempts + 1):
                (delivery,) = await drain(consumer, 1)
                assert delivery.attempt == attempt
                await consumer.settle([(delivery, Retry(f"failed {attempt}", after=0.0))])
            (letter,) = await queue.dead_letters(10)
            assert letter.reason == f"failed {self.config.max_attempts}"
            assert (letter.backend, letter.stream) == ("east", delivery.stream)
            assert (letter.entry, letter.attempt) == (delivery.id, self.config.max_attempts)
            assert letter.message == delivery.message
            assert message.id.encode() in letter.raw
            assert await figures(queue) == (0, 0, 1)

    async def test_a_rejected_entry_is_a_dead_letter_at_once(self) -> None:
        """`Reject` needs one attempt, and hurts no other entry of the call."""
        async with self.opened() as queue, queue.consumer("readers", "w1") as consumer:
            await Feeder(queue).append(self.report("a"), self.report("b"), self.report("c"))
            one, two, three = await drain(consumer, 3)
            await consumer.settle([(one, Ack()), (two, Reject("unknown kind")), (three, Ack())])
            (letter,) = await queue.dead_letters(10)
            assert letter.message == two.message
            assert (letter.reason, letter.attempt) == ("unknown kind", 1)
            assert await figures(queue) == (0, 0, 1)

    async def test_what_is_no_message_is_buried(self) -> None:
        """With its bytes and what is wrong with them, and the entries beside it are delivered."""
        if not self.opaque:
            pytest.skip("this store has a form of its own")
        async with self.opened() as queue, queue.consumer("readers", "w1") as consumer:
            feeder = Feeder(queue, "east")
            await feeder.append(self.report("a"))
            garbage = replace(feeder.batch(self.report("b"), first=2), encoded=(b"\xc1garbage",))
            assert await queue.append([garbage]) == [AppendOutcome.STORED]
            assert await feeder.append(self.report("c"), first=3) is AppendOutcome.STORED
            deliveries = await drain(consumer, 2)
            assert keys(deliveries) == ["a", "c"]
            await consumer.settle([(delivery, Ack()) for delivery in deliveries])
            reading = asyncio.create_task(consumer.receive(1))
            (letter,) = await buried(queue, 1)
            await has_buried(consumer, 1)
            reading.cancel()
            await asyncio.wait([reading])
            assert (letter.raw, letter.message, letter.backend) == (b"\xc1garbage", None, "east")
            assert "cannot be read" in letter.reason
            assert await figures(queue) == (0, 0, 1)

    async def test_any_reason_can_be_kept(self) -> None:
        """One that is no Unicode is kept escaped, and of a very long one the beginning."""
        async with self.opened() as queue, queue.consumer("readers", "w1") as consumer:
            await Feeder(queue).append(self.report("a"), self.report("b"))
            first, second = await drain(consumer, 2)
            await consumer.settle([(first, Reject("no \udcff")), (second, Reject("x" * 1_000_000))])
            reasons = {
                letter.message.key: letter.reason
                for letter in await queue.dead_letters(2)
                if letter.message is not None
            }
            assert reasons["a"] == r"no \udcff"
            assert 100 < len(reasons["b"]) < 10_000

    async def test_a_message_that_kills_its_consumers_is_given_up(self) -> None:
        """Attempts count before delivery: after `max_attempts` crashes the entry is dead, and the
        entries beside it are delivered."""
        async with self.opened() as queue:
            await Feeder(queue).append(self.report("poison"))
            for attempt in range(1, self.config.max_attempts + 1):
                crashing = queue.consumer("readers", "w1")
                (delivery,) = await drain(crashing, 1)
                assert delivery.attempt == attempt
                await self.crash(crashing)
            await Feeder(queue, "b2").append(self.report("good"))
            async with queue.consumer("readers", "w1") as consumer:
                assert keys(await drain(consumer, 1)) == ["good"]
                (letter,) = await queue.dead_letters(10)
                assert letter.attempt == self.config.max_attempts
                assert str(self.config.max_attempts) in letter.reason
                assert await figures(queue) == (0, 1, 1)

    async def test_keeps_the_newest_dead_letters(self) -> None:
        """Beyond `max_dead_letters` the oldest is dropped and counted; reading is oldest first."""
        async with self.opened(max_dead_letters=3) as queue:
            await Feeder(queue).append(*[self.report(f"k{i}") for i in range(5)])
            async with queue.consumer("readers", "w1") as consumer:
                for delivery in await drain(consumer, 5):
                    await consumer.settle([(delivery, Reject(delivery.message.key))])
            assert [letter.reason for letter in await queue.dead_letters(2)] == ["k2", "k3"]
            status = await queue.status()
            assert (status.dead, status.dead_dropped) == (3, 2)


class Using(QueueSuite):
    """Tests of cancellation, closing, configuration and figures."""

    async def test_cancelled_receive_loses_nothing(self) -> None:
        """Cancelled at any of its suspensions, `receive` leaves every entry to be delivered."""
        async with self.opened(max_attempts=1000) as queue:
            feeder = Feeder(queue)
            consumer = queue.consumer("readers", "w1")
            seen: set[str] = set()

            async def take(consumer: Consumer) -> None:
                seen.update(keys(await consumer.receive(10)))

            for k in range(1, 60):
                await feeder.append(self.report(f"k{k}"), self.report(f"n{k}", OTHER))

                if not await cancel_at(k, take(consumer)):
                    break
                if k % 5 == 0:
                    await consumer.aclose()
                    consumer = queue.consumer("readers", "w1")
                    seen.clear()
            expected = {f"{letter}{i}" for letter in "kn" for i in range(1, k + 1)}
            async with patience(PATIENCE):
                while seen != expected:
                    seen.update(keys(await consumer.receive(10)))
            assert await figures(queue) == (0, 2 * k, 0)
            await consumer.aclose()

    async def test_cancelled_append_can_be_repeated(self) -> None:
        """Cancelled at any of its suspensions, `append` with the same batch adds it once."""
        async with self.opened() as queue:
            feeder = Feeder(queue)
            await feeder.open()
            for k in range(1, 60):
                batch = feeder.batch(self.report("a"), self.report("b"))
                cut = await cancel_at(k, queue.append([batch]))
                assert await feeder.append(*batch.messages) is STORED
                if not cut:
                    break
            assert await figures(queue) == (2 * k, 0, 0)

    async def test_cancelled_settle_can_be_repeated(self) -> None:
        """Cancelled at any of its suspensions, `settle` leaves each entry settled or pending, and
        the same outcomes again finish the work."""
        async with self.opened() as queue, queue.consumer("readers", "w1") as consumer:
            feeder = Feeder(queue)
            for k in range(1, 60):
                await feeder.append(*[self.report(f"{k}.{i}") for i in range(4)])
                taken = await drain(consumer, 4)
                answers: list[Outcome] = [Ack(), Reject("no"), Reject("never"), Ack()]
                outcomes = list(zip(taken, answers, strict=True))
                cut = await cancel_at(k, consumer.settle(outcomes))
                waiting, pending, dead = await figures(queue)
                assert waiting == 0
                assert dead - 2 * (k - 1) + pending >= 2, "an entry is neither pending nor dead"
                await consumer.settle(outcomes)
                assert await figures(queue) == (0, 0, 2 * k)
                if not cut:
                    break

    async def test_cancelled_leaving_loses_nothing(self) -> None:
        """Cancelled at any of its suspensions, `aclose` leaves every entry to a later consumer."""
        async with self.opened() as queue:
            await Feeder(queue).append(*[self.report(f"k{i}") for i in range(3)])
            for k in range(1, 60):
                consumer = queue.consumer("readers", "w1")
                taken = await drain(consumer, 3)
                assert max(delivery.attempt for delivery in taken) <= self.config.max_attempts
                if not await cancel_at(k, consumer.aclose()):
                    break
                with pytest.raises(ClosedError):
                    await consumer.receive(1)
                async with queue.consumer("readers", "w1") as again:
                    taken = await drain(again, 3)
                    await again.settle([(delivery, Ack()) for delivery in taken])
                await Feeder(queue, f"b{k}").append(*[self.report(f"k{i}") for i in range(3)])
            assert sum((await figures(queue))[:2]) == 3

    async def test_a_wipe_frees_consumers_of_what_they_held(self) -> None:
        """After a loss of memory a consumer goes on with new entries; old deliveries are void."""
        async with self.opened(max_delayed=1, lease=90.0) as queue:
            await Feeder(queue).append(self.report("before"), self.report("waiting"))
            consumer = queue.consumer("readers", "w1")
            before, waiting = await drain(consumer, 2)
            await consumer.settle([(waiting, Retry("later", after=60.0))])
            wiped = await self.wipe(queue)
            if wiped is not queue:
                consumer = wiped.consumer("readers", "w1")
            await Feeder(wiped).append(self.report("after"))
            assert keys(await drain(consumer, 1)) == ["after"]
            await consumer.settle([(before, Ack())])
            assert await figures(wiped) == (0, 1, 0)
            await wiped.aclose()

    async def test_has_one_group(self) -> None:
        """A second group is refused, because each would remove the other's entries."""
        if not self.groups:
            pytest.skip("this store has one group, whatever it is called")
        async with self.opened() as queue, queue.consumer("readers", "w1") as consumer:
            await Feeder(queue).append(self.report("a"))
            await drain(consumer, 1)
            async with queue.consumer("others", "w2") as other:
                with pytest.raises(QueueRefusedError, match="readers"):
                    async with patience(PATIENCE):
                        await other.receive(1)

    async def test_counts_what_it_holds(self) -> None:
        """`status` tells what is waiting and pending in each stream."""
        if not self.streams:
            pytest.skip("this store has one stream")
        async with self.opened() as queue, queue.consumer("readers", "w1") as consumer:
            await Feeder(queue).append(self.report("a"), self.report("b"), self.report("n", OTHER))
            waiting = (await queue.status()).waiting
            assert {s: n for s, n in waiting.items() if n} == {FIRST: 2, SECOND: 1}
            (delivery,) = await consumer.receive(1)
            status = await queue.status()
            assert status.pending[delivery.stream] == 1
            assert sum(status.waiting.values()) == 2
            assert (status.dead, status.dead_dropped, status.lost) == (0, 0, 0)

    async def test_tells_how_old_its_oldest_entries_are(self) -> None:
        """Of each stream, whether they wait or are on lease; 0 where there is none."""
        async with self.opened() as queue, queue.consumer("readers", "w1") as consumer:
            assert set((await queue.status()).oldest.values()) == {0.0}
            feeder = Feeder(queue)
            await feeder.append(self.report("a"))
            await self.pass_time(0.2)
            await feeder.append(self.report("b"), self.report("c", OTHER))
            for _ in range(2):
                oldest = (await queue.status()).oldest
                assert oldest.keys() == (await queue.status()).waiting.keys()
                assert 0.15 < max(oldest.values()) < PATIENCE
                if self.streams:
                    assert max(oldest, key=lambda stream: oldest[stream]) == FIRST
                    assert 0.0 <= oldest[SECOND] < oldest[FIRST] - 0.15
                    assert oldest[LAST] == 0.0
                deliveries = await drain(consumer, 3)
                await consumer.settle([(each, Retry("later", 0.0)) for each in deliveries])
            deliveries = await drain(consumer, 3)
            await consumer.settle([(each, Ack()) for each in deliveries])
            assert set((await queue.status()).oldest.values()) == {0.0}

    async def test_tells_how_many_consumers_there_are(self) -> None:
        """Those that take entries, until they leave."""
        async with self.opened() as queue:
            await Feeder(queue).append(self.report("a"), self.report("b"))
            assert (await queue.status()).consumers == 0
            one, two = queue.consumer("readers", "w1"), queue.consumer("readers", "w2")
            (first,) = await drain(one, 1, limit=1)
            (second,) = await drain(two, 1, limit=1)
            for left, consumer, delivery in ((2, one, first), (1, two, second)):
                assert (await queue.status()).consumers == left
                await consumer.settle([(delivery, Ack())])
                await consumer.aclose()
            assert (await queue.status()).consumers == 0

    async def test_closed_means_closed(self) -> None:
        """After `aclose`, also twice, every call says so; a closed queue closes its consumers."""
        queue = await self.open_queue(self.config)
        feeder = Feeder(queue)
        await feeder.append(self.report("a"))
        consumer, other = queue.consumer("readers", "w1"), queue.consumer("readers", "w2")
        (delivery,) = await drain(consumer, 1)
        await consumer.aclose()
        await consumer.aclose()
        await queue.aclose()
        await queue.aclose()
        async with patience(PATIENCE):
            calls: list[Callable[[], Awaitable[object]]] = [
                lambda: consumer.receive(1),
                lambda: other.receive(1),
                lambda: consumer.settle([(delivery, Ack())]),
                lambda: queue.append([feeder.batch(self.report("b"))]),
                lambda: queue.open_producer(feeder.producer, "another", NEW),
                queue.status,
                lambda: queue.peek(delivery.stream, 1),
                lambda: queue.dead_letters(1),
                lambda: queue.replay(["1-1"]),
                lambda: queue.drop(["1-1"]),
                lambda: queue.producers(1),
            ]
            for call in calls:
                with pytest.raises(ClosedError):
                    await call()
        with pytest.raises(ClosedError):
            queue.consumer("readers", "w3")

    @pytest.mark.parametrize("delayed", [False, True])
    async def test_leaving_wakes_a_waiting_receive(self, delayed: bool) -> None:
        """A consumer that is closed while it waits for entries is told so at once."""
        async with self.opened(max_delayed=1) as queue:
            consumer = queue.consumer("readers", "w1")
            if delayed:
                await Feeder(queue).append(self.report("a"))
                (delivery,) = await drain(consumer, 1)
                await consumer.settle([(delivery, Retry("later", after=60.0))])
            waiting = asyncio.create_task(consumer.receive(1))
            assert not (await asyncio.wait([waiting], timeout=0.05))[0]
            await consumer.aclose()
            async with patience(PATIENCE):
                with pytest.raises(ClosedError):
                    await waiting

    @pytest.mark.parametrize(
        "field",
        ["max_entries", "max_dead_letters", "max_attempts", "max_delayed", "lease", "retry_base"],
    )
    async def test_refuses_a_senseless_configuration(self, field: str) -> None:
        """A limit or a time of zero is refused by name."""
        with pytest.raises(UsageError, match=field):
            async with self.opened(**{field: 0}):
                pass

    async def test_refuses_weights_that_leave_out_a_stream(self) -> None:
        """A stream that nobody would read is refused by name."""
        with pytest.raises(UsageError, match=LAST):
            async with self.opened(
                weights={s: w for s, w in stream_weights().items() if s != LAST}
            ):
                pass
