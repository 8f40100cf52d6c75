"""When the store is swept, and when not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from osmo_worker import StoreRefusedError, StoreUnavailableError, WorkerMetrics
from osmo_worker.housekeeping import keep_house


class SweptStore:
    """A store that counts, and fails as it is told to."""

    def __init__(self) -> None:
        self.sweeps = 0
        self.error: Exception | None = None

    async def check(self) -> None:
        if self.error is not None:
            raise self.error

    async def sweep(self) -> None:
        await self.check()
        self.sweeps += 1

    async def silences(self) -> dict[str, float]:
        return {"a": 1.0}


class Rounds:
    """A sleep that ends when a test says so."""

    def __init__(self) -> None:
        self._sleeping = asyncio.Event()
        self._wake = asyncio.Event()
        self.slept: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._sleeping.set()
        await self._wake.wait()
        self._wake.clear()

    async def next(self) -> None:
        """Let one interval pass, and all that follows it happen."""
        await self._sleeping.wait()
        self._sleeping.clear()
        self._wake.set()
        await self._sleeping.wait()


@asynccontextmanager
async def keeping(store: SweptStore, metrics: WorkerMetrics) -> AsyncIterator[Rounds]:
    """The housekeeping at work."""
    rounds = Rounds()
    task = asyncio.create_task(keep_house(store, metrics, 30.0, sleep=rounds))
    try:
        yield rounds
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_the_store_is_swept_in_every_interval() -> None:
    """The first time when one has passed: what waits in the queue at the start is applied first."""
    store = SweptStore()
    async with keeping(store, WorkerMetrics()) as rounds:
        await asyncio.sleep(0)
        assert store.sweeps == 0
        for sweeps in (1, 2, 3):
            await rounds.next()
            assert store.sweeps == sweeps
        assert set(rounds.slept) == {30.0}


async def test_a_worker_that_holds_does_not_sweep() -> None:
    """Nor in the first interval after it: reports that waited may say that a task has started."""
    store, metrics = SweptStore(), WorkerMetrics()
    async with keeping(store, metrics) as rounds:
        metrics.holding = "the queue is away"
        await rounds.next()
        await rounds.next()
        metrics.holding = None
        await rounds.next()
        assert store.sweeps == 0
        await rounds.next()
        assert store.sweeps == 1


@pytest.mark.parametrize("away", [3, 4])
async def test_a_database_that_is_away_is_waited_for(away: int) -> None:
    """Also when the worker has nothing to apply and does not notice."""
    store = SweptStore()
    async with keeping(store, WorkerMetrics()) as rounds:
        store.error = StoreUnavailableError("away")
        for _ in range(away):
            await rounds.next()
        store.error = None
        await rounds.next()
        assert store.sweeps == 0
        await rounds.next()
        assert store.sweeps == 1


async def test_a_database_that_is_not_ours_ends_it() -> None:
    """No waiting mends that."""
    store = SweptStore()
    store.error = StoreRefusedError("of another version")

    async def sleep(_: float) -> None:
        pass

    with pytest.raises(StoreRefusedError):
        await keep_house(store, WorkerMetrics(), 1.0, sleep=sleep)


async def test_who_is_silent_is_told_while_that_says_something() -> None:
    """While reports wait, every backend would look silent."""
    store, metrics = SweptStore(), WorkerMetrics()
    async with keeping(store, metrics) as rounds:
        assert metrics.silences is None
        await rounds.next()
        assert metrics.silences == {"a": 1.0}
        metrics.holding = "the queue is away"
        await rounds.next()
        assert metrics.silences is None
        metrics.holding = None
        await rounds.next()
        assert metrics.silences is None
        await rounds.next()
        assert metrics.silences == {"a": 1.0}
        store.error = StoreUnavailableError("away")
        await rounds.next()
        assert metrics.silences is None
