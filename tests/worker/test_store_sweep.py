"""Semantics 3.2: a task that does not start in time fails."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from osmo_transport import Message
from osmo_worker import StoreConfig, StoreUnavailableError
from osmo_worker.store import StateStore, Task, open_store, sweep
from tests.worker.harness import (
    BACKEND,
    STORE,
    apply,
    delivery,
    existence,
    node_report,
    report,
    snapshot_end,
)

MINUTE = 60.0
CONFIG = replace(
    STORE,
    start_timeout=30 * MINUTE,
    event_retention=0,
    task_retention=0,
    node_retention=0,
    backend_retention=0,
)
TOLD = ("FAILED_START_TIMEOUT", 3005, "Pod did not start within 30 minutes")


class Clock:
    """Seconds since the Unix epoch, moved by hand."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now

    def pass_minutes(self, minutes: float) -> None:
        self.now += minutes * MINUTE


@asynccontextmanager
async def opened(url: str, config: StoreConfig = CONFIG) -> AsyncIterator[tuple[StateStore, Clock]]:
    """A store and its clock."""
    clock = Clock()
    async with open_store(url, config, clock=clock) as store:
        yield store, clock


def starting(task: str = "task", *, version: tuple[int, int] = (1, 5), node: str = "n") -> Message:
    """A report of a pod whose containers do not run yet."""
    return report(task, version=version, status="INITIALIZING", node=node)


async def _only(store: StateStore) -> Task:
    (task,) = await store.tasks()
    return task


async def test_a_task_that_does_not_start_fails(store_url: str) -> None:
    """When the time is up and not before."""
    async with opened(store_url) as (store, clock):
        await apply(store, starting())
        clock.pass_minutes(30)
        await store.sweep()
        assert (await _only(store)).status == "INITIALIZING"
        clock.pass_minutes(0.1)
        await store.sweep()
        task = await _only(store)
        assert (task.status, task.exit_code, task.message) == TOLD
        assert task.terminal
        assert task.concluded
        assert task.status_since.timestamp() == task.updated_at.timestamp() == clock.now
        assert (task.epoch, task.resource_version, task.deleted_at) == (1, 5, None)


@pytest.mark.parametrize(
    "messages",
    [
        [report(version=(1, 5), status="SCHEDULING")],
        [report(version=(1, 5), status="RUNNING")],
        [starting(), report(version=(1, 6), status="RUNNING")],
        [starting(), report(version=(1, 6), status="COMPLETED")],
        [starting(), report(version=(1, 6), status="INITIALIZING", deleted=True)],
        [starting(), existence(version=(1, 6), deleted=True)],
        [starting(), snapshot_end(0, version=(2, 6))],
    ],
    ids=[
        "still scheduling",
        "running",
        "started",
        "ended",
        "deleted",
        "known to be gone",
        "left out of a snapshot",
    ],
)
async def test_other_tasks_do_not_fail(store_url: str, messages: list[Message]) -> None:
    """The rule is about live pods that stay INITIALIZING."""
    async with opened(store_url) as (store, clock):
        for message in messages:
            await apply(store, message)
        before = await _only(store)
        clock.pass_minutes(100)
        await store.sweep()
        assert await _only(store) == before


async def test_the_time_is_since_the_status_changed(store_url: str) -> None:
    """By the worker's clock; what is only reported again, or says more, does not start it anew."""
    async with opened(store_url) as (store, clock):
        await apply(store, report(version=(1, 4), status="SCHEDULING"))
        clock.pass_minutes(20)
        await apply(store, starting(version=(1, 5)))
        begun = clock.now
        clock.pass_minutes(20)
        await apply(store, starting(version=(1, 5)), starting(version=(2, 5), node="m"))
        await apply(store, starting(version=(1, 3)))
        await store.sweep()
        task = await _only(store)
        assert (task.status, task.status_since.timestamp()) == ("INITIALIZING", begun)
        clock.pass_minutes(11)
        await store.sweep()
        assert (await _only(store)).status == "FAILED_START_TIMEOUT"


async def test_a_later_report_that_is_no_end_takes_nothing_back(store_url: str) -> None:
    """Users were told of the end; where the pod runs is shown all the same."""
    async with opened(store_url) as (store, clock):
        await apply(store, starting())
        clock.pass_minutes(31)
        await store.sweep()
        await apply(store, report(version=(1, 9), status="RUNNING", node="n", pod_ip="10.0.0.1"))
        task = await _only(store)
        assert (task.status, task.exit_code, task.message) == TOLD
        assert (task.pod_ip, task.status_resource_version) == ("10.0.0.1", 9)


@pytest.mark.parametrize("version", [(1, 9), (1, 4)])
async def test_the_pods_own_end_replaces_it(store_url: str, version: tuple[int, int]) -> None:
    """It knows more, however late it comes."""
    async with opened(store_url) as (store, clock):
        await apply(store, starting())
        clock.pass_minutes(31)
        await store.sweep()
        await apply(store, report(version=version, status="COMPLETED", exit_code=0))
        task = await _only(store)
        assert (task.status, task.exit_code, task.concluded) == ("COMPLETED", 0, False)


async def test_the_first_conclusion_stays(store_url: str) -> None:
    """A node that is lost after the time was up, and the other way round."""
    removed = node_report("n", version=(1, 9), deleted=True)
    async with opened(store_url) as (store, clock):
        await apply(store, starting("a"))
        clock.pass_minutes(31)
        await store.sweep()
        await apply(store, starting("b"))
        await apply(store, removed)
        clock.pass_minutes(31)
        await store.sweep()
        tasks = await store.tasks()
        assert [task.status for task in tasks] == ["FAILED_START_TIMEOUT", "FAILED_BACKEND_ERROR"]


async def test_without_a_start_timeout_no_task_fails(store_url: str) -> None:
    """0 is for ever."""
    async with opened(store_url, replace(CONFIG, start_timeout=0)) as (store, clock):
        await apply(store, starting())
        clock.pass_minutes(1e6)
        await store.sweep()
        assert (await _only(store)).status == "INITIALIZING"


async def test_a_sweep_is_bounded(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left waits for the next one."""
    monkeypatch.setattr(sweep, "SWEEP_ROWS", 3)
    async with opened(store_url) as (store, clock):
        await apply(store, *(starting(f"t{number}") for number in range(5)))
        clock.pass_minutes(61)
        for left in (2, 0, 0):
            await store.sweep()
            assert (await store.counts()).get("INITIALIZING", 0) == left


async def test_a_sweep_hears_of_no_backend(
    store_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is the worker's doing; the log says what was done, and nothing when nothing was."""
    caplog.set_level(logging.INFO, "osmo_worker.store.sweep")
    async with opened(store_url) as (store, clock):
        await apply(store, starting())
        (before,) = await store.backends()
        await store.sweep()
        assert caplog.messages == []
        clock.pass_minutes(61)
        await store.sweep()
        assert await store.backends() == [before]
    assert caplog.messages == [f"1 tasks of {BACKEND} did not start in time"]


async def test_each_backend_is_swept(store_url: str) -> None:
    """And its tasks alone hold its lock."""
    async with opened(store_url) as (store, clock):
        for backend in "abc":
            await store.handle_batch([delivery(starting(), backend=backend)])
        clock.pass_minutes(31)
        await store.sweep()
        assert await store.counts() == {"FAILED_START_TIMEOUT": 3}


@pytest.mark.parametrize("timeout", [1e18, 1e300])
async def test_a_time_beyond_every_calendar_fails_nothing(store_url: str, timeout: float) -> None:
    """No setting stops the sweep."""
    async with opened(store_url, replace(CONFIG, start_timeout=timeout)) as (store, _):
        await apply(store, starting())
        await store.sweep()
        assert (await _only(store)).status == "INITIALIZING"


async def test_a_sweep_reads_indices_alone(tmp_path: Path) -> None:
    """However many rows there are, it looks at those that it changes."""
    async with opened(f"sqlite:///{tmp_path}/x.db") as (store, clock):
        await apply(store, starting())
        clock.pass_minutes(61)
        asked: list[str] = []

        def watch(listener: Callable[[str], None] | None) -> None:
            with store._database.transaction(write=False) as connection:
                driver = connection.connection.driver_connection
                assert driver is not None
                driver.set_trace_callback(listener)

        def plan(statement: str) -> str:
            with store._database.transaction(write=False) as connection:
                return str(connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}").all())

        await store._database.call(watch, asked.append)
        await store.sweep()
        await store._database.call(watch, None)
        assert (await _only(store)).status == "FAILED_START_TIMEOUT"
        asked = [line for line in asked if line.startswith(("SELECT", "UPDATE", "DELETE"))]
        plans = [await store._database.call(plan, statement) for statement in asked]
    assert len(plans) == 2
    assert not [each for each in plans if "SCAN" in each]
    assert "tasks_starting (status_since<?)" in plans[0]


async def test_a_database_that_is_away_is_told(tmp_path: Path) -> None:
    """Whoever keeps house comes again."""
    async with open_store(f"sqlite:///{tmp_path}/absent/x.db", CONFIG) as store:
        with pytest.raises(StoreUnavailableError):
            await store.sweep()
