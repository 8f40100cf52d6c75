"""What is looked at for all who watch."""

import asyncio

import pytest

from osmo_pipeline.web.latency import Latency, Percentiles
from osmo_pipeline.web.pulse import BLIND_AFTER, SILENT_AFTER, Pulse
from osmo_transport import NEW, Producer, Queue, batch_of, open_queue
from osmo_worker.store import open_store
from osmo_worker.store import tally as tally_module
from tests.worker.harness import BACKEND, apply, heartbeat, node_report, report


class Clock:
    """A clock that stands still until it is set."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


async def send(queue: Queue, first: int, count: int) -> None:
    """Append reports as one producer does that goes on."""
    producer = Producer(BACKEND, "workflow")
    state = await queue.open_producer(producer, "one", NEW)
    await queue.append([batch_of(producer, state, first, [report(f"{i}") for i in range(count)])])


async def test_rates_are_those_of_the_time_between_two_looks() -> None:
    """The first one has nothing to compare with."""
    clock = Clock()
    async with await open_queue("memory://") as queue, open_store("memory://") as store:
        pulse = Pulse(queue, store, None, monotonic=clock)
        await send(queue, 1, 5)
        await pulse.beat()
        assert pulse.flow.rates == {}
        clock.now += 2
        await send(queue, 6, 8)
        await pulse.beat()
        clock.now += 1
        await pulse.beat()
    assert [each.rate for each in pulse.flow.moments] == [None, 4.0, 0.0]
    assert [each.depth for each in pulse.flow.moments] == [5, 13, 13]


async def test_what_cannot_be_looked_at_is_said_and_kept() -> None:
    """The queue and the store, each for itself."""
    async with await open_queue("memory://") as queue, open_store("memory://") as store:
        pulse = Pulse(queue, store, None)
        await apply(store, report())
        await pulse.beat()
        await queue.aclose()
        await pulse.beat()
        assert pulse.flow.error
        assert pulse.flow.status is not None
        assert [each.name for each in pulse.backends] == [BACKEND]
        assert pulse.error == ""


async def test_who_is_silent_and_who_is_blind() -> None:
    """By the last heartbeat, and by what it told."""
    clock = Clock()
    async with await open_queue("memory://") as queue, open_store("memory://") as store:
        pulse = Pulse(queue, store, None, clock=clock)
        await apply(store, heartbeat(at=clock.now, watch_ages={"workflow": BLIND_AFTER + 1}))
        await pulse.beat()
        (row,) = pulse.backends
        assert (pulse.is_silent(row), pulse.is_blind(row)) == (False, True)
        clock.now += SILENT_AFTER + 1
        assert (pulse.is_silent(row), pulse.is_blind(row)) == (True, False)


async def test_counting_takes_a_part_of_each_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much there is; the rest is for the next ones."""
    monkeypatch.setattr(tally_module, "STEP_ROWS", 1)
    ticks = iter(range(10_000))
    async with await open_queue("memory://") as queue, open_store("memory://") as store:
        await apply(store, *(report(f"{i}") for i in range(4)), node_report())
        pulse = Pulse(queue, store, None, monotonic=lambda: float(next(ticks)))
        await pulse.beat()
        assert pulse.tasks.rounds == 0
        for _ in range(5):
            await pulse.beat()
        assert pulse.tasks.counts == {BACKEND: {"RUNNING": 4}}
        assert pulse.nodes.counts == {BACKEND: {True: 1}}


async def test_the_latency_is_that_of_the_workers() -> None:
    """Where somebody tells it."""
    counts = iter(({0.1: 1.0}, {0.1: 2.0}))

    async def read() -> dict[float, float]:
        await asyncio.sleep(0)
        return next(counts)

    async with await open_queue("memory://") as queue, open_store("memory://") as store:
        pulse = Pulse(queue, store, Latency(read))
        await pulse.beat()
        await pulse.beat()
    assert pulse.flow.latency == Percentiles(0.1, 0.1)
