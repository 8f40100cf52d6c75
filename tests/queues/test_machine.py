"""Both queues hold up under the state machine, and faulty ones do not."""

import asyncio
import time
from collections.abc import Sequence
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from msgspec.structs import replace

from osmo_deployed.layout import STREAM
from osmo_transport.message import Message
from osmo_transport.queues.abc import AppendOutcome, Queue, QueueConfig
from osmo_transport.queues.delivery import Delivery, Outcome, ProducerBatch, Reject
from osmo_transport.queues.memory.queue import MemoryConsumer, MemoryQueue
from osmo_transport.queues.memory.store import MemoryStore
from osmo_transport.testing.redis_server import RedisServer
from tests.queues.harness import Clock, MemoryHarness, OsmoHarness, RedisHarness, report_with_body
from tests.queues.machine import QueueMachine


def run(machine: type[QueueMachine], examples: int, steps: int) -> int:
    """Run the machine; return the number of steps done."""
    machine.steps = 0
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=True,
            # A failing run is printed as it is: making it small takes minutes.
            phases=[Phase.generate],
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    return machine.steps


class MemoryMachine(QueueMachine):
    """Over `memory://`."""

    def new_harness(self, name: str) -> MemoryHarness:
        return MemoryHarness(name)


class RedisMachine(QueueMachine):
    """Over `redis://`."""

    server: ClassVar[RedisServer]

    def new_harness(self, name: str) -> RedisHarness:
        return RedisHarness(name, self.server, Clock())


class OsmoMachine(RedisMachine):
    """Over `redis://?layout=osmo`."""

    tries_once_more = True

    def new_harness(self, name: str) -> OsmoHarness:
        return OsmoHarness(name, self.server, Clock())

    def report(self, key: str, kind: str) -> Message:
        return report_with_body(key, kind)

    def arrives_as(self, sent: Message, delivery: Delivery) -> bool:
        got = delivery.message
        same = (sent.kind, sent.key, sent.payload) == (got.kind, got.key, got.payload)
        return same and delivery.stream == STREAM


def test_memory_queue_keeps_its_account() -> None:
    """Nothing is lost, doubled or out of order in memory, whatever comes to pass."""
    assert run(MemoryMachine, examples=60, steps=50) > 1000


def test_redis_queue_keeps_its_account(redis_server: RedisServer) -> None:
    """Nothing is lost, doubled or out of order in Redis, whatever comes to pass."""
    RedisMachine.server = redis_server
    assert run(RedisMachine, examples=15, steps=40) > 200


def test_deployed_layout_keeps_its_account(redis_server: RedisServer) -> None:
    """Nothing is lost, doubled or out of order in the deployed layout, whatever comes to pass."""
    OsmoMachine.server = redis_server
    assert run(OsmoMachine, examples=15, steps=40) > 200


class AckBeforeStore(MemoryQueue):
    """Says "stored" and stores a batch when the next one comes."""

    _late: Sequence[ProducerBatch] = ()

    async def append(self, batches: Sequence[ProducerBatch]) -> list[AppendOutcome]:
        await super().append(self._late)
        self._late = batches
        return [AppendOutcome.STORED] * len(batches)


class ResendTwice(MemoryQueue):
    """Does not look at what is stored already."""

    def _append(self, store: MemoryStore, batch: ProducerBatch) -> AppendOutcome:
        place = store.producers.place(batch.producer)
        if batch.first <= place.sequence:
            store.producers._places[batch.producer] = replace(place, sequence=batch.first - 1)
        return super()._append(store, batch)


class _RemoveThenBury(MemoryConsumer):
    async def settle(self, outcomes: Sequence[tuple[Delivery, Outcome]]) -> None:
        for delivery, outcome in outcomes:
            entry = self._holder.held.get((delivery.stream, delivery.id))
            if isinstance(outcome, Reject) and entry and entry.attempt == delivery.attempt:
                del self._holder.held[delivery.stream, delivery.id]
                self._store.remove(entry)
                await asyncio.sleep(0)
                self._store.pending[delivery.stream, delivery.id] = entry
                self._store.bury(entry, outcome.reason, self._config.max_dead_letters)
            else:
                await super().settle([(delivery, outcome)])


class RemoveThenBury(MemoryQueue):
    """Removes an entry in one step and makes it a dead letter in the next."""

    def consumer(self, group: str, name: str) -> MemoryConsumer:
        return _RemoveThenBury(self._open_store(), self._config, self._clock, group, name)


@pytest.mark.parametrize("planted", [AckBeforeStore, ResendTwice, RemoveThenBury])
def test_the_machine_catches_planted_bugs(planted: type[MemoryQueue]) -> None:
    """A queue with one classic mistake does not get through."""

    class PlantedHarness(MemoryHarness):
        async def open_queue(self, config: QueueConfig) -> Queue:
            return planted(self.name, config, self.clock, time.time)

    class PlantedMachine(QueueMachine):
        def new_harness(self, name: str) -> MemoryHarness:
            return PlantedHarness(name)

    with pytest.raises(AssertionError):
        run(PlantedMachine, examples=200, steps=50)
