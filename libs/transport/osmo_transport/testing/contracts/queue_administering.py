"""The contract of administration: looking at what a queue holds, and mending it."""

import asyncio
import logging

import pytest
from msgspec.structs import replace

from osmo_transport.errors import QueueUnavailableError, UsageError
from osmo_transport.message import Message, Version
from osmo_transport.queues.abc import PAGE_BYTES, Queue
from osmo_transport.queues.delivery import Ack, DeadLetter, Reject, Retry, StoredEntry
from osmo_transport.queues.leases import Renewal, Standing
from osmo_transport.queues.rules import DEAD_LETTERS
from osmo_transport.testing.contracts.queue_suite import (
    PATIENCE,
    STORED,
    QueueSuite,
    drain,
    figures,
    has_buried,
    keys,
)
from osmo_transport.testing.feeder import Feeder
from osmo_transport.testing.kinds import OTHER


def keys_of(entries: "list[StoredEntry] | list[DeadLetter]") -> list[str]:
    """Of those that are messages."""
    return [entry.message.key for entry in entries if entry.message is not None]


class Administering(QueueSuite):
    """Tests of `peek`, `dead_letters`, `replay`, `drop` and `producers`."""

    async def kill(self, queue: Queue, *messages: Message) -> None:
        """Make dead letters of these messages, in this order."""
        assert await Feeder(queue, "east").append(*messages) is STORED
        async with queue.consumer("readers", "killer") as consumer:
            for delivery in await drain(consumer, len(messages)):
                await consumer.settle([(delivery, Reject(f"no {delivery.message.key}"))])

    async def stream_with_entries(self, queue: Queue) -> str:
        """The stream that holds entries."""
        status = await queue.status()
        (stream,) = [s for s, n in status.waiting.items() if n + status.pending[s]]
        return stream

    async def test_looking_takes_nothing(self) -> None:
        """It shows what waits and what is on lease, with its attempts, its holder and its age, and
        changes nothing about them."""
        async with self.opened() as queue:
            feeder = Feeder(queue, "east")
            await feeder.append(self.report("k0"), self.report("k1"))
            stream = await self.stream_with_entries(queue)
            async with queue.consumer("readers", "w1") as consumer:
                first, second = await drain(consumer, 2, limit=1)
                await consumer.settle([(second, Ack()), (first, Retry("busy", after=0.0))])
                (first,) = await drain(consumer, 1, limit=1)
                await feeder.append(self.report("k2"), self.report("k3"))
                await self.pass_time(0.2)
                for _ in range(2):
                    entries = await queue.peek(stream, 10)
                    assert keys_of(entries) == ["k0", "k2", "k3"]
                    assert {(each.backend, each.stream) for each in entries} == {("east", stream)}
                    assert all(0.15 < each.age < PATIENCE for each in entries)
                    told = [(each.pending, each.attempts, each.holder) for each in entries]
                    assert told == [(True, 2, "w1"), (False, 0, ""), (False, 0, "")]
                assert entries[0].id == first.id
                assert entries[0].message == first.message
                assert first.message.id.encode() in entries[0].raw
                assert await figures(queue) == (2, 1, 0)
                rest = await drain(consumer, 2)
                assert [delivery.attempt for delivery in rest] == [1, 1]
                await consumer.settle([(delivery, Ack()) for delivery in (first, *rest)])
            assert await queue.peek(stream, 10) == []

    async def test_a_large_queue_is_seen_page_by_page(self) -> None:
        """From behind an entry on that may be gone by now, to the end, which is an empty page."""
        async with self.opened() as queue, queue.consumer("readers", "w1") as consumer:
            await Feeder(queue).append(*[self.report(f"k{i}") for i in range(7)])
            stream = await self.stream_with_entries(queue)
            page = await queue.peek(stream, 3)
            assert keys_of(page) == ["k0", "k1", "k2"]
            await consumer.settle([(each, Ack()) for each in await drain(consumer, 3, limit=3)])
            page = await queue.peek(stream, 3, page[-1].id)
            assert keys_of(page) == ["k3", "k4", "k5"]
            page = await queue.peek(stream, 3, page[-1].id)
            assert keys_of(page) == ["k6"]
            assert await queue.peek(stream, 3, page[-1].id) == []

    async def test_a_page_ends_with_its_bytes(self) -> None:
        """However many are asked for, one who looks gets no more than he can hold."""
        if not self.opaque:
            pytest.skip("this store has a form of its own")
        async with self.opened() as queue:
            large = bytes(1_000_000)
            count = 2 + PAGE_BYTES // len(large)
            feeder = Feeder(queue)
            for number in range(count):
                report = self.report(f"k{number}")
                await feeder.append(replace(report, payload=large))
            stream = await self.stream_with_entries(queue)
            page = await queue.peek(stream, 1000)
            assert 1 <= len(page) < count
            rest = await queue.peek(stream, 1000, page[-1].id)
            assert keys_of(page) + keys_of(rest) == [f"k{number}" for number in range(count)]

    async def test_dead_letters_are_seen_page_by_page(self) -> None:
        """The oldest first, each with an id of its own, the moment of its burial, and its entry's
        id; from behind one that may be gone by now."""
        async with self.opened() as queue:
            await self.kill(queue, *[self.report(f"k{i}") for i in range(5)])
            everything = await queue.dead_letters(10)
            assert keys_of(everything) == [f"k{i}" for i in range(5)]
            assert len({letter.id for letter in everything}) == 5
            moments = [letter.buried for letter in everything]
            assert moments == sorted(moments)
            assert moments[0] > 1_577_836_800
            page = await queue.dead_letters(2)
            assert page == everything[:2]
            assert await queue.drop([page[1].id]) == 1
            assert await queue.dead_letters(2, page[1].id) == everything[2:4]
            assert await queue.dead_letters(2, everything[3].id) == everything[4:]
            assert await queue.dead_letters(2, everything[4].id) == []

    async def test_what_is_replayed_is_delivered_anew(self) -> None:
        """As a new entry of the same message, backend and stream, with all its attempts before it;
        it is a dead letter no longer, and none is replayed twice."""
        async with self.opened() as queue:
            await self.kill(queue, self.report("a"), self.report("b", OTHER), self.report("c"))
            letters = {letter.reason: letter for letter in await queue.dead_letters(10)}
            one, two = letters["no a"], letters["no b"]
            producers = await queue.producers(10)
            assert await queue.replay([one.id, two.id, "nobody", "9-9", one.id]) == 2
            assert await queue.producers(10) == producers
            assert await queue.replay([one.id, two.id]) == 0
            assert await queue.replay([]) == 0
            assert await figures(queue) == (2, 0, 1)
            assert keys_of(await queue.dead_letters(10)) == ["c"]
            async with queue.consumer("readers", "w1") as consumer:
                deliveries = {each.message.key: each for each in await drain(consumer, 2)}
                for letter, key in ((one, "a"), (two, "b")):
                    delivery = deliveries[key]
                    assert (delivery.attempt, delivery.backend) == (1, "east")
                    assert delivery.stream == letter.stream
                    assert letter.message is not None
                    assert delivery.message.payload == letter.message.payload
                    assert delivery.message.id == letter.message.id
                await consumer.settle([(each, Ack()) for each in deliveries.values()])
            status = await queue.status()
            assert (status.dead, status.lost) == (1, 0)
            assert await figures(queue) == (0, 0, 1)

    async def test_what_is_replayed_is_no_newer_than_it_was(self) -> None:
        """Its consumer can tell that it knows a newer report by now."""
        async with self.opened() as queue:
            await self.kill(queue, self.report("a"))
            (letter,) = await queue.dead_letters(1)
            await self.pass_time(0.002)
            newer = replace(self.report("a"), version=Version(1, 2))
            await Feeder(queue, "east", "other").append(newer)
            await queue.replay([letter.id])
            async with queue.consumer("readers", "w1") as consumer:
                now, before = await drain(consumer, 2)
            assert before.message.id != now.message.id == newer.id
            assert now.message.supersedes(before.message)
            assert not before.message.supersedes(now.message)

    async def test_a_replayed_letter_may_die_again(self) -> None:
        """It is another letter then, behind all others."""
        async with self.opened() as queue:
            await self.kill(queue, self.report("a"), self.report("b"))
            first, second = await queue.dead_letters(2)
            assert await queue.replay([first.id]) == 1
            async with queue.consumer("readers", "w1") as consumer:
                (delivery,) = await drain(consumer, 1)
                await consumer.settle([(delivery, Reject("still no"))])
            assert await queue.replay([first.id]) == 0
            letters = await queue.dead_letters(3)
            assert [letter.reason for letter in letters] == ["no b", "still no"]
            assert letters[0].id == second.id
            assert letters[1].id != first.id

    async def test_a_full_queue_takes_no_dead_letter_back(self) -> None:
        """It says so, and those for which there is no room stay what they are."""
        async with self.opened(max_entries=3) as queue:
            await self.kill(queue, *[self.report(f"k{i}") for i in range(3)])
            letters = [letter.id for letter in await queue.dead_letters(10)]
            await Feeder(queue).append(self.report("x"), self.report("y"))
            with pytest.raises(QueueUnavailableError, match="full"):
                await queue.replay(letters)
            waiting, _, dead = await figures(queue)
            assert waiting + dead == 5
            assert waiting <= 3
            async with queue.consumer("readers", "w1") as consumer:
                for _ in range(waiting):
                    (delivery,) = await drain(consumer, 1, limit=1)
                    await consumer.settle([(delivery, Ack())])
            assert await queue.replay(letters) == dead
            assert await figures(queue) == (dead, 0, 0)

    async def test_many_are_replayed_and_dropped_at_once(self) -> None:
        """Thousands in one call, and none is forgotten or doubled."""
        async with self.opened() as queue:
            count = 1_300
            feeder = Feeder(queue)
            for start in range(0, count, 100):
                await feeder.append(*[self.report(f"k{start + i}") for i in range(100)])
            async with queue.consumer("readers", "w1") as consumer:
                deliveries = await drain(consumer, count)
                await consumer.settle([(each, Reject("no")) for each in deliveries])
            letters = [letter.id for letter in await queue.dead_letters(count)]
            assert len(set(letters)) == count
            assert await queue.replay(letters[: count - 100]) == count - 100
            assert await queue.drop(letters) == 100
            assert await figures(queue) == (count - 100, 0, 0)
            async with queue.consumer("readers", "w1") as consumer:
                assert len(set(keys(await drain(consumer, count - 100)))) == count - 100

    async def test_what_is_dropped_is_gone(self) -> None:
        """And nothing else."""
        async with self.opened() as queue:
            await self.kill(queue, *[self.report(f"k{i}") for i in range(3)])
            letters = await queue.dead_letters(3)
            assert await queue.drop([letters[1].id, letters[1].id, "", "nobody"]) == 1
            assert await queue.drop([letters[1].id]) == 0
            assert await queue.drop([]) == 0
            assert await queue.dead_letters(3) == [letters[0], letters[2]]
            assert await queue.drop([letters[2].id]) == 1
            await self.kill(queue, self.report("late"))
            assert keys_of(await queue.dead_letters(3, letters[2].id)) == ["late"]

    async def test_each_dead_letter_is_said_and_counted(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Once, whoever made it: a handler's answer, the last attempt, an end without an answer."""
        with caplog.at_level(logging.WARNING, DEAD_LETTERS):
            async with self.opened(max_attempts=2) as queue:
                await Feeder(queue, "east").append(self.report("rejected"), self.report("tried"))
                async with queue.consumer("readers", "w1") as consumer:
                    one, two = await drain(consumer, 2)
                    assert consumer.buried == 0
                    await consumer.settle([(one, Reject("bad\nbody")), (two, Retry("busy", 0.0))])
                    (two,) = await drain(consumer, 1)
                    await consumer.settle([(two, Retry("still busy", 0.0))])
                    assert consumer.buried == 2
                await Feeder(queue, "west").append(self.report("poison"))
                for _ in range(2):
                    crashing = queue.consumer("readers", "w1")
                    await drain(crashing, 1)
                    await self.crash(crashing)
                async with queue.consumer("readers", "w1") as consumer:
                    reading = asyncio.create_task(consumer.receive(1))
                    await has_buried(consumer, 1)
                    reading.cancel()
                    await asyncio.wait([reading])
                assert len(await queue.dead_letters(9)) == 3
        lines = [record.getMessage() for record in caplog.records if record.name == DEAD_LETTERS]
        assert len(lines) == 3
        kind = one.message.kind
        assert f"dead letter: {kind} rejected of east" in lines[0]
        assert r"at attempt 1: bad\nbody" in lines[0]
        assert f"{kind} tried of east" in lines[1]
        assert "at attempt 2: still busy" in lines[1]
        assert f"{kind} poison of west" in lines[2]
        assert "at attempt 2: delivered 2 times and never settled" in lines[2]

    async def test_what_was_buried_when_no_answer_came_is_said_once(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A settlement that is cut short and made again makes one letter, and one line."""
        with caplog.at_level(logging.WARNING, DEAD_LETTERS):
            async with self.opened() as queue, queue.consumer("readers", "w1") as consumer:
                await Feeder(queue).append(*[self.report(f"k{i}") for i in range(20)])
                for turns, delivery in enumerate(await drain(consumer, 20)):
                    settling = asyncio.create_task(consumer.settle([(delivery, Reject("no"))]))
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    settling.cancel()
                    await asyncio.wait([settling])
                    await consumer.settle([(delivery, Reject("no"))])
                assert consumer.buried == 20
                assert len(await queue.dead_letters(100)) == 20
        assert sum(record.name == DEAD_LETTERS for record in caplog.records) == 20

    async def test_tells_who_reports(self) -> None:
        """Each producer with its epoch and number, when it connected, and who holds its place; page
        by page, in the order in which they connected last."""
        async with self.opened() as queue:
            assert await queue.producers(10) == []
            feeders = [Feeder(queue, f"b {number}", "{}%d") for number in range(5)]
            for feeder in feeders:
                await feeder.open()
                await self.pass_time(0.002)
            holding = feeders[1]
            await holding.hold("c1", 30.0)
            await holding.append(self.report("a"), self.report("b"))
            ordered = [0, 2, 3, 4, 1]
            page = await queue.producers(10)
            assert [each.producer for each in page] == [feeders[i].producer for i in ordered]
            assert [each.epoch for each in page] == [feeders[i].state.epoch for i in ordered]
            assert [each.instance for each in page] == [feeders[i].instance for i in ordered]
            last = page[-1]
            assert (last.sequence, page[0].sequence) == (2, 0)
            assert last.opened >= page[0].opened > 1_577_836_800
            assert last.holder is not None
            assert last.holder[:2] == (holding.instance, "host of c1")
            assert last.holder.credential == "token of c1"
            assert last.holder.since > 1_577_836_800
            assert {each.holder for each in page[:-1]} == {None}
            walked: list[Standing] = []
            while step := await queue.producers(2, walked[-1] if walked else None):
                walked += step
            assert walked == page
            await queue.renew([Renewal(holding.producer, "c1", 0.0)], [])
            assert (await queue.producers(1, page[-2]))[0].holder is None
            assert await queue.reset(page[1].producer.backend) == 1
            assert await queue.producers(9, page[1]) != []

    async def test_refuses_to_look_at_nothing(self) -> None:
        """A limit that is none, and a stream that is not there, are refused by name."""
        async with self.opened() as queue:
            stream = next(iter((await queue.status()).waiting))
            for limit in (0, -1):
                for asked in (
                    queue.peek(stream, limit),
                    queue.dead_letters(limit),
                    queue.producers(limit),
                ):
                    with pytest.raises(UsageError, match="limit"):
                        await asked
            with pytest.raises(UsageError, match="no stream 'elsewhere'"):
                await queue.peek("elsewhere", 1)
            assert await queue.peek(stream, 1, "no id") == []
            assert await queue.dead_letters(1, "no id") == []
