"""The contract catches classic mistakes: each faulty queue here fails a test that it names."""

import asyncio
from collections.abc import Sequence

import pytest

from osmo_transport.queues.abc import AppendOutcome, Queue, QueueConfig
from osmo_transport.queues.delivery import ProducerBatch
from osmo_transport.queues.redis.layout import OwnLayout
from osmo_transport.queues.redis.member import Member, Removal, Removed
from osmo_transport.queues.redis.queue import RedisQueue, open_queue
from osmo_transport.queues.redis.scripts.script import script
from osmo_transport.testing.contracts.queues import QueueContract
from osmo_transport.testing.redis_server import RedisServer


@pytest.fixture
def contract(redis_server: RedisServer) -> QueueContract:
    """The suite over Redis, for single tests to be called."""

    class Contract(QueueContract):
        async def open_queue(self, config: QueueConfig) -> Queue:
            return await open_queue(f"{redis_server.url}?namespace={self.name}", config)

    suite = Contract()
    suite.setup_method()
    return suite


async def test_catches_ack_before_store(
    contract: QueueContract, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An `append` that answers first and stores later."""
    append = RedisQueue.append
    later: list[asyncio.Task[list[AppendOutcome]]] = []

    async def hasty(self: RedisQueue, batches: Sequence[ProducerBatch]) -> list[AppendOutcome]:
        later.append(asyncio.create_task(append(self, batches)))
        return [AppendOutcome.STORED] * len(batches)

    await contract.test_refuses_when_full_and_takes_it_later()
    monkeypatch.setattr(RedisQueue, "append", hasty)
    contract.setup_method()
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        await contract.test_refuses_when_full_and_takes_it_later()
    await asyncio.gather(*later, return_exceptions=True)


async def test_catches_removing_before_burying(
    contract: QueueContract, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A `settle` that removes an entry in one round trip and adds its dead letter in the next."""
    remove = Member.remove

    async def in_two_steps(self: Member, removal: Removal) -> Removed:
        for stream, letters in removal.dead.items():
            key = self._keys.streams[stream]
            for entry_id, reason in letters:
                ((_, fields),) = (await self.writer.run(("XRANGE", key, entry_id, entry_id)))[0]
                counted = ("HINCRBY", self._keys.counts, f"{key} out", 1)
                acknowledge, delete = ("XACK", key, self.group, entry_id), ("XDEL", key, entry_id)
                await self.writer.run(acknowledge, delete, counted)
                letter = ("s", stream, "i", entry_id, "n", 1, "r", reason, *fields)
                await self.writer.run(("XADD", self._keys.dead, "*", *letter))
        removed = await remove(self, Removal(removal.acks, {}))
        dead = [(s, i) for s, ls in removal.dead.items() for i, _ in ls]
        return Removed([*removed.done, *dead], set(dead), removed.refused)

    await contract.test_cancelled_settle_can_be_repeated()
    monkeypatch.setattr(Member, "remove", in_two_steps)
    contract.setup_method()
    with pytest.raises((AssertionError, ValueError)):
        await contract.test_cancelled_settle_can_be_repeated()


async def test_catches_adding_a_resend_twice(
    contract: QueueContract, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An `append` that does not look at what is stored already of a batch."""
    check = "skip, instance = last - known, holder"
    assert check in OwnLayout.append.text
    await contract.test_adds_the_rest_of_a_partial_resend(2)
    faulty = OwnLayout.append.text.replace(check, "skip, instance = 0, holder")
    monkeypatch.setattr(OwnLayout, "append", script(faulty))
    contract.setup_method()
    with pytest.raises(AssertionError):
        await contract.test_adds_the_rest_of_a_partial_resend(2)
