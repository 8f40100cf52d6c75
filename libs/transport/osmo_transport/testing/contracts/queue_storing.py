"""The contract of appending: durable, idempotent, fenced, honest about loss."""

import asyncio

import pytest
from msgspec.structs import replace

from osmo_transport.errors import (
    FencedError,
    OccupiedError,
    QueueUnavailableError,
)
from osmo_transport.message import MAX_EPOCH, Version, new_message
from osmo_transport.queues.delivery import NEW, Ack, Producer, ProducerState
from osmo_transport.queues.leases import Renewal
from osmo_transport.session.admission import MAX_AHEAD
from osmo_transport.testing.contracts.queue_suite import (
    FENCED,
    LOST,
    STORED,
    QueueSuite,
    drain,
    figures,
    keys,
)
from osmo_transport.testing.feeder import Feeder
from osmo_transport.testing.kinds import EVENT, FIRST, OTHER, STATE


class Storing(QueueSuite):
    """Tests of `open_producer` and `append`."""

    async def test_delivers_what_was_appended(self) -> None:
        """Every field of a message, its backend and its stream arrive; the attempt is the first."""
        if not self.opaque:
            pytest.skip("this store has a form of its own")
        message = new_message(
            STATE,
            "w/ä/0",
            bytes(range(256)),
            version=Version(7, 2**60),
            final=True,
            traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        )
        async with self.opened() as queue:
            assert await Feeder(queue, "cluster-ö").append(message) is STORED
            async with queue.consumer("readers", "w1") as consumer:
                (delivery,) = await drain(consumer, 1)
        assert delivery.message == message
        assert (delivery.backend, delivery.stream) == ("cluster-ö", FIRST)
        assert delivery.attempt == 1

    async def test_stores_before_append_returns(self) -> None:
        """After `append` the messages are in the store for whoever opens it."""
        async with self.opened() as queue, self.opened() as other:
            await Feeder(queue).append(*[self.report(f"k{i}") for i in range(7)])
            assert await figures(other) == (7, 0, 0)
            async with other.consumer("readers", "w1") as consumer:
                assert len(await drain(consumer, 7)) == 7

    async def test_adds_a_repeated_batch_once(self) -> None:
        """A batch that comes again, later, at once or side by side, is stored, and added once."""
        async with self.opened() as queue:
            feeder = Feeder(queue)
            await feeder.open()
            batch = feeder.batch(*[self.report(f"k{i}") for i in range(5)])
            assert await queue.append([batch, batch]) == [STORED, STORED]
            assert await queue.append([batch]) == [STORED]
            one, two = await asyncio.gather(queue.append([batch]), queue.append([batch]))
            assert one == two == [STORED]
            assert await figures(queue) == (5, 0, 0)

    async def test_an_older_batch_that_comes_late_changes_nothing(self) -> None:
        """The sequence number of what is stored never falls, so what follows is not added again."""
        async with self.opened() as queue:
            feeder = Feeder(queue)
            await feeder.open()
            one = feeder.batch(self.report("a"), self.report("b"))
            two = feeder.batch(self.report("c"), first=3)
            for batch in (one, two, one, two):
                assert await queue.append([batch]) == [STORED]
            assert await figures(queue) == (3, 0, 0)

    @pytest.mark.parametrize("overlap", range(1, 5))
    async def test_adds_the_rest_of_a_partial_resend(self, overlap: int) -> None:
        """Of a batch whose beginning is stored only the end is added, whatever streams and sizes it
        mixes."""
        kinds = [STATE, OTHER, EVENT, STATE, EVENT]
        messages = [self.report("k" * size, kind) for size, kind in enumerate(kinds * 2, 1)]
        async with self.opened() as queue:
            feeder = Feeder(queue)
            await feeder.append(*messages[:5])
            assert await feeder.append(*messages[5 - overlap :], first=6 - overlap) is STORED
            async with queue.consumer("readers", "w1") as consumer:
                delivered = await drain(consumer, 10)
            assert sorted(keys(delivered)) == sorted(m.key for m in messages)
            assert (await feeder.open()).sequence == 10

    async def test_refused_messages_take_their_number_alone(self) -> None:
        """None in a batch moves the sequence on and adds nothing, also in a partial resend."""
        async with self.opened() as queue:
            feeder = Feeder(queue)
            assert (
                await feeder.append(None, self.report("a"), None, self.report("b"), None) is STORED
            )
            again = (None, self.report("b"), None, None, self.report("c"))
            assert await feeder.append(*again, first=3) is STORED
            assert await feeder.append(None, None) is STORED
            assert (await feeder.open()).sequence == 9
            async with queue.consumer("readers", "w1") as consumer:
                assert keys(await drain(consumer, 3)) == ["a", "b", "c"]

    async def test_answers_each_batch_by_itself(self) -> None:
        """Batches of one call are answered in order and do not affect each other."""
        async with self.opened() as queue:
            good, old, lost = (Feeder(queue, "b", source) for source in ("good", "old", "lost"))
            await old.open()
            stale = old.batch(self.report("old"))
            await Feeder(queue, "b", "old").open()
            await good.open()
            await lost.open()
            batches = [good.batch(self.report("a")), stale, lost.batch(self.report("gap"), first=2)]
            batches.append(good.batch(self.report("b"), first=2))
            assert await queue.append(batches) == [STORED, FENCED, LOST, STORED]
            assert await queue.append([]) == []
            assert await figures(queue) == (2, 0, 0)

    async def test_keeps_producers_apart(self) -> None:
        """Backend and source together name a producer."""
        async with self.opened() as queue:
            names = [("a", "b c"), ("a b", "c"), ("a", "b"), ("a", "")]
            feeders = [Feeder(queue, *name) for name in names]
            for feeder in feeders:
                assert await feeder.append(self.report(repr(feeder.producer))) is STORED
            assert await figures(queue) == (len(names), 0, 0)

    async def test_what_somebody_else_removes_is_a_loss(self) -> None:
        """`status` finds it out: the queue epoch changes, and who knows the old one is told."""
        async with self.opened() as queue:
            feeder = Feeder(queue)
            await feeder.append(self.report("a"), self.report("b"))
            before = (await queue.status()).queue_epoch
            await self.remove(queue)
            status = await queue.status()
            assert status.queue_epoch != before
            assert status.lost == 1
            assert await feeder.append(self.report("c")) is LOST

    async def test_refuses_when_full_and_takes_it_later(self) -> None:
        """Over `max_entries` nothing is added; after acknowledgements the same batches are."""
        async with self.opened(max_entries=6) as queue:
            feeder = Feeder(queue)
            await feeder.append(*[self.report(f"k{i}") for i in range(4)])
            more = feeder.batch(*[self.report(f"m{i}") for i in range(3)])
            with pytest.raises(QueueUnavailableError, match="max_entries"):
                await queue.append([more])
            assert await figures(queue) == (4, 0, 0)
            async with queue.consumer("readers", "w1") as consumer:
                taken = await drain(consumer, 4)
                with pytest.raises(QueueUnavailableError):
                    await queue.append([more])
                await consumer.settle([(taken[0], Ack())])
                assert await queue.append([more]) == [STORED]
                assert keys(await drain(consumer, 3)) == ["m0", "m1", "m2"]

    # Producers: fenced, honest about loss

    async def test_what_is_refused_needs_no_room(self) -> None:
        """A full queue takes the numbers of a batch that adds nothing, be it one of many."""
        async with self.opened(max_entries=2) as queue:
            feeder = Feeder(queue)
            await feeder.append(self.report("a"), self.report("b"))
            assert await feeder.append(None) is STORED
            assert await feeder.append(None, None, None) is STORED
            with pytest.raises(QueueUnavailableError, match="max_entries"):
                await feeder.append(None, self.report("c"))
            assert (await feeder.open()).sequence == 6
            assert await figures(queue) == (2, 0, 0)

    async def test_a_producer_goes_on_where_the_store_stands(self) -> None:
        """Who knows less than the store, or as much, keeps its epoch and learns the sequence."""
        async with self.opened() as queue:
            feeder = Feeder(queue)
            first = await feeder.open()
            await feeder.append(self.report("a"), self.report("b"))
            assert await feeder.open(first) == first._replace(sequence=2)
            assert await feeder.open() == first._replace(sequence=2)
            assert first.queue_epoch == (await queue.status()).queue_epoch != ""

    async def test_a_restarted_producer_outranks_the_old_one(self) -> None:
        """Who has just started gets a higher epoch and sequence 0; the old one is fenced."""
        async with self.opened() as queue:
            old, new = Feeder(queue), Feeder(queue)
            await old.append(self.report("a"), self.report("b"))
            state = await new.open()
            assert state.epoch > old.state.epoch
            assert state.sequence == 0
            assert await old.append(self.report("late")) is FENCED
            with pytest.raises(FencedError):
                await old.open()
            assert await new.append(self.report("c")) is STORED
            assert await figures(queue) == (3, 0, 0)

    async def test_who_waits_is_let_in_when_the_lease_has_ended(self) -> None:
        """Because it was given up, or not renewed for as long as it lasts; until then the one who
        waits is told for whom, and nobody is fenced. The older process waits in its turn."""
        async with self.opened() as queue:
            old, new = Feeder(queue), Feeder(queue)
            await old.hold("c1", 30.0)
            with pytest.raises(OccupiedError) as caught:
                await new.hold("c2", 30.0)
            assert caught.value.instance == old.instance
            assert caught.value.address == "host of c1"
            assert caught.value.since > 1_577_836_800
            place, free = old.producer, Producer("nobody", "here")
            assert await queue.renew([], [place, free]) == {free}
            assert await old.append(self.report("a")) is STORED
            assert await queue.renew([Renewal(place, "c1", 0.0)], [place]) == {place}
            await new.hold("c2", 30.0)
            assert await old.append(self.report("late")) is FENCED
            with pytest.raises(OccupiedError):
                await old.hold("c3", 30.0)
            await queue.renew([Renewal(place, "c1", 0.0), Renewal(free, "c2", 9.0)], [])
            assert await queue.renew([Renewal(place, "c2", self.short_lease)], [place]) == set()
            await self.pass_time(2 * self.short_lease)
            assert await queue.renew([], [place]) == {place}
            before = new.state.epoch
            await old.hold("c3", 30.0)
            assert old.state.epoch > before
            assert await old.append(self.report("b")) is STORED

    async def test_a_process_keeps_its_place_over_connections(self) -> None:
        """It goes on where it stands; what is told of its former connection does not count. Who
        waits is told its newest address, and when it came first."""
        async with self.opened() as queue:
            feeder, waiting = Feeder(queue), Feeder(queue)
            await feeder.hold("c1", 30.0)
            await feeder.append(self.report("a"))
            before = feeder.state
            with pytest.raises(OccupiedError) as first:
                await waiting.hold("c3", 30.0)
            assert await feeder.hold("c2", 30.0) == before
            with pytest.raises(OccupiedError) as later:
                await waiting.hold("c3", 30.0)
            assert (later.value.address, later.value.since) == ("host of c2", first.value.since)
            place = feeder.producer
            assert await queue.renew([Renewal(place, "c1", 0.0)], [place]) == set()
            await Feeder(queue).open()
            assert await queue.renew([], [place]) == {place}

    async def test_many_leases_are_renewed_at_once(self) -> None:
        """And as many are waited for; a name may hold anything."""
        async with self.opened() as queue:
            names = [Producer(f"b {number} ä", "{}%d") for number in range(1200)]
            feeder = Feeder(queue, *names[7])
            await feeder.hold("c1", 30.0)
            renewals = [Renewal(name, "c1", 30.0) for name in names]
            assert await queue.renew(renewals, names) == set(names) - {names[7]}

    async def test_epochs_start_at_the_time_of_day(self) -> None:
        """A first epoch is at least the milliseconds since 2020, so it rises after a wipe too."""
        async with self.opened() as queue:
            assert (await Feeder(queue).open()).epoch > 1_577_836_800_000

    async def test_an_epoch_that_is_claimed_is_believed_within_bounds(self) -> None:
        """What a process may have been given by a store that has forgotten it, or by a clock that
        was somewhat ahead, is outranked; a number that no clock gave puts none out of reach."""
        async with self.opened() as queue:
            now = (await Feeder(queue).open()).epoch
            ahead = ProducerState("another", now + MAX_AHEAD // 2, 5)
            assert (await Feeder(queue, "ahead").open(ahead)).epoch == ahead.epoch + 1
            for claimed in (now + 2 * MAX_AHEAD, 2**52, MAX_EPOCH):
                feeder = Feeder(queue, f"odd {claimed}")
                state = await feeder.open(ProducerState("another", claimed, 5))
                assert state.epoch < now + MAX_AHEAD
                assert await feeder.append(self.report("a")) is STORED
                assert (await Feeder(queue, feeder.producer.backend).open()).epoch > state.epoch
                assert await feeder.append(self.report("b")) is FENCED

    async def test_epochs_rise_above_what_is_remembered_elsewhere(self) -> None:
        """Also where a clock was far ahead when they were handed out, and the store has forgotten
        it since: who got a lower one meanwhile is told that it is lost, and gets a higher one."""
        async with self.opened() as queue:
            feeder, other = Feeder(queue), Feeder(queue, "another")
            await feeder.append(self.report("a"))
            await other.append(self.report("b"))
            border = feeder.state.epoch + 400 * MAX_AHEAD
            await queue.raise_epochs({feeder.producer.backend: border, "nobody": 7})
            assert await feeder.append(self.report("c")) is LOST
            assert (await feeder.open()).epoch > border
            assert await feeder.append(self.report("d")) is STORED
            before = feeder.state
            await queue.raise_epochs({feeder.producer.backend: border})
            await queue.raise_epochs({feeder.producer.backend: 1, "another": 1})
            assert await feeder.append(self.report("e")) is STORED
            assert await feeder.open() == before._replace(sequence=2)
            assert await other.append(self.report("f")) is STORED
            assert (await Feeder(queue, source="new").open()).epoch > before.epoch

    async def test_a_backend_is_reset(self) -> None:
        """Its epochs are counted from the clock again, however high they were; its producers are
        lost, and hold no lease. Others, and what the queue holds, stay."""
        async with self.opened() as queue:
            feeder, other = Feeder(queue, "b%* [1]"), Feeder(queue, "b%* [1]2")
            now = (await feeder.hold("c1", 30.0)).epoch
            backend = feeder.producer.backend
            await queue.raise_epochs({backend: now + 400 * MAX_AHEAD})
            assert (await feeder.open()).epoch > now + 400 * MAX_AHEAD
            assert await feeder.append(self.report("a")) is STORED
            assert await other.append(self.report("b")) is STORED
            assert await queue.reset(backend) == 1
            assert await queue.reset(backend) == 0
            assert await queue.renew([], [feeder.producer]) == {feeder.producer}
            assert await feeder.append(self.report("c")) is LOST
            assert now <= (await feeder.open()).epoch < now + MAX_AHEAD
            assert await feeder.append(self.report("d")) is STORED
            assert await other.append(self.report("e")) is STORED
            assert await figures(queue) == (4, 0, 0)

    async def test_a_store_behind_what_was_acknowledged_means_a_new_epoch(self) -> None:
        """A producer that knows of more than the store holds starts anew."""
        async with self.opened() as queue:
            feeder = Feeder(queue)
            await feeder.append(self.report("a"))
            state = await feeder.open(feeder.state._replace(sequence=9))
            assert state.sequence == 0
            assert await feeder.append(self.report("b")) is STORED

    async def test_who_asks_again_for_a_new_epoch_is_not_a_newer_process(self) -> None:
        """Questions whose answers were lost, or which are carried out late and in any order, give
        the process what it has; another process outranks it, whatever it asks then."""
        async with self.opened() as queue:
            feeder = Feeder(queue)
            first = await feeder.open()
            assert await feeder.open(NEW) == first
            await feeder.append(self.report("a"))
            ahead = feeder.state._replace(sequence=9)
            renewed = await feeder.open(ahead)
            assert renewed.epoch > first.epoch
            assert await feeder.open(ahead) == renewed
            assert await feeder.append(self.report("b")) is STORED
            for late in (NEW, first, ahead, first._replace(queue_epoch="")):
                told = await queue.open_producer(feeder.producer, feeder.instance, late)
                assert told == renewed._replace(sequence=1)
            assert await feeder.append(self.report("c")) is STORED
            assert (await feeder.open()).epoch == renewed.epoch
            await Feeder(queue).open()
            assert await feeder.append(self.report("d")) is FENCED
            for known in (first, ahead, feeder.state):
                with pytest.raises(FencedError):
                    await feeder.open(known)

    async def test_any_name_of_a_process_is_kept(self) -> None:
        """Spaces, digits, line breaks and letters of any language tell one process from another."""
        async with self.opened() as queue:
            feeder = Feeder(queue)
            epochs = []
            for name in ("7", "7 7", "7 7 ", "ä\n7", "{}%d", "7"):
                feeder.instance = name
                state = await feeder.open(NEW)
                assert await feeder.append(self.report(name)) is STORED
                assert await feeder.open(NEW) == state._replace(sequence=1)
                epochs.append(state.epoch)
            assert epochs == sorted(set(epochs))

    async def test_gaps_and_strangers_are_lost(self) -> None:
        """A gap, an unknown producer, another queue epoch or a future epoch add nothing."""
        async with self.opened() as queue:
            feeder = Feeder(queue)
            await feeder.append(self.report("a"))
            assert await feeder.append(self.report("c"), first=3) is LOST
            good = feeder.batch(self.report("x"))
            stranger = replace(good, producer=Feeder(queue, "stranger").producer)
            elsewhere = replace(good, state=good.state._replace(queue_epoch="elsewhere"))
            future = replace(good, state=good.state._replace(epoch=good.state.epoch + 1))
            assert await queue.append([stranger, elsewhere, future]) == [LOST] * 3
            assert await figures(queue) == (1, 0, 0)

    async def test_a_wiped_store_says_so(self) -> None:
        """After a loss of memory the queue epoch differs, batches are lost, epochs rise."""
        async with self.opened() as queue:
            feeder = Feeder(queue)
            await feeder.append(self.report("a"))
            before = feeder.state
            feeder.queue = wiped = await self.wipe(queue)
            assert await feeder.append(self.report("b")) is LOST
            after = await feeder.open()
            assert after.queue_epoch != before.queue_epoch
            assert after.epoch > before.epoch
            assert after.sequence == 0
            assert await feeder.append(self.report("c")) is STORED
            assert await figures(wiped) == (1, 0, 0)
            await wiped.aclose()
