"""Semantics 3.2: a task that does not start in time fails, by its backend's own clock."""

import itertools
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from osmo_transport import Message
from osmo_worker import StoreConfig, StoreUnavailableError
from osmo_worker.store import StateStore, Task, conclusions, open_store
from tests.worker.harness import (
    BACKEND,
    STORE,
    apply,
    delivery,
    existence,
    heartbeat,
    node_report,
    pods_current,
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
T0 = 1_000_000.0
"""When the pods of these tests begin to wait, by their listener's clock."""


@asynccontextmanager
async def opened(url: str, config: StoreConfig = CONFIG) -> AsyncIterator[StateStore]:
    """A store whose own clock tells nothing: it jumps by days, forwards and backwards."""
    ticks = itertools.cycle((T0, T0 - 1e6, T0 + 1e6))
    async with open_store(url, config, clock=lambda: next(ticks)) as store:
        yield store


def starting(
    task: str = "task", *, version: tuple[int, int] = (1, 5), at: float = T0, **fields: str
) -> Message:
    """A report of a pod whose containers do not run yet."""
    fields.setdefault("node", "n")
    return report(task, version=version, status="INITIALIZING", at=at, **fields)  # type: ignore[arg-type]  # the fields given by name are all text


SNAPSHOT = snapshot_end(0, version=(1, 0))


async def pass_time(store: StateStore, minutes: float, *, epoch: int = 1) -> None:
    """The listener says that so long after `T0` its reports are all there is; then it is looked
    what has not started."""
    await apply(store, SNAPSHOT, pods_current(T0 + minutes * MINUTE, epoch=epoch))
    await store.sweep()


async def _only(store: StateStore) -> Task:
    (task,) = await store.tasks()
    return task


async def _told(store: StateStore) -> tuple[str, int | None, str]:
    task = await _only(store)
    return task.status, task.exit_code, task.message


async def test_a_task_that_does_not_start_fails(store_url: str) -> None:
    """When the time is up and not before."""
    async with opened(store_url) as store:
        await apply(store, starting())
        await pass_time(store, 30)
        assert (await _only(store)).status == "INITIALIZING"
        await pass_time(store, 30.1)
        task = await _only(store)
        assert (task.status, task.exit_code, task.message) == TOLD
        assert task.terminal
        assert task.concluded
        assert task.status_since.timestamp() == T0 + 30.1 * MINUTE
        assert (task.epoch, task.resource_version, task.deleted_at) == (1, 5, None)


async def test_a_listener_that_is_away_makes_nothing_late(store_url: str) -> None:
    """Nobody knows whether the pods have started meanwhile, neither while it is away nor when it
    has come back and not yet told of all its pods."""
    async with opened(store_url) as store:
        await apply(store, SNAPSHOT, starting(), pods_current(T0 + MINUTE))
        await store.sweep()
        assert (await _only(store)).status == "INITIALIZING"
        await apply(store, heartbeat(version=(2, 1), at=T0 + 100 * MINUTE))
        await apply(store, pods_current(T0 + 100 * MINUTE, epoch=2))
        await store.sweep()
        assert (await _only(store)).status == "INITIALIZING"
        await apply(store, report(version=(2, 6), status="RUNNING", at=T0 + 100 * MINUTE))
        await apply(store, snapshot_end(1, version=(2, 6)))
        await store.sweep()
        assert (await _only(store)).status == "RUNNING"


async def test_a_clock_that_was_put_right_makes_nothing_late(store_url: str) -> None:
    """That of the listener was a day ahead for a moment; what it says last counts."""
    async with opened(store_url) as store:
        await apply(store, SNAPSHOT, pods_current(T0 + 1440 * MINUTE, number=1))
        await apply(store, starting(), pods_current(T0 + MINUTE, number=2))
        await store.sweep()
        assert (await _only(store)).status == "INITIALIZING"
        await apply(store, pods_current(T0 + 31 * MINUTE, number=3))
        await store.sweep()
        assert await _told(store) == TOLD


async def test_where_pods_are_not_said_to_be_current_heartbeats_count(store_url: str) -> None:
    """Listeners of the deployed protocol say no more."""
    async with opened(store_url) as store:
        await apply(store, starting(), heartbeat(at=T0 + 30 * MINUTE))
        await store.sweep()
        assert (await _only(store)).status == "INITIALIZING"
        await apply(store, heartbeat(at=T0 + 31 * MINUTE))
        await store.sweep()
        assert await _told(store) == TOLD


@pytest.mark.parametrize(
    "messages",
    [
        [report(version=(1, 5), status="SCHEDULING", at=T0)],
        [report(version=(1, 5), status="RUNNING", at=T0)],
        [starting(), report(version=(1, 6), status="RUNNING", at=T0)],
        [starting(), report(version=(1, 6), status="COMPLETED", at=T0)],
        [starting(), report(version=(1, 6), status="INITIALIZING", deleted=True, at=T0)],
        [starting(), existence(version=(1, 6), deleted=True)],
        [starting(version=(0, 5))],
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
    async with opened(store_url) as store:
        for message in messages:
            await apply(store, message)
        await pass_time(store, 0)
        before = await _only(store)
        await pass_time(store, 100)
        assert await _only(store) == before


async def test_the_time_is_since_the_status_changed(store_url: str) -> None:
    """What is only reported again, or says more, does not start it anew."""
    async with opened(store_url) as store:
        await apply(store, report(version=(1, 4), status="SCHEDULING", at=T0 - 20 * MINUTE))
        await apply(store, starting())
        later = T0 + 20 * MINUTE
        await apply(store, starting(), starting(version=(2, 5), at=later, node="m"))
        await apply(store, starting(version=(1, 3), at=later))
        await pass_time(store, 29)
        task = await _only(store)
        assert (task.status, task.status_since.timestamp()) == ("INITIALIZING", T0)
        await pass_time(store, 31)
        assert await _told(store) == TOLD


async def test_a_pod_that_was_created_anew_has_its_own_time(store_url: str) -> None:
    """Though the status is the same; and also after the first one was late."""
    first, second = "2026-01-01T00:00:00Z", "2026-01-01T00:20:00Z"
    async with opened(store_url) as store:
        await apply(store, starting(created_at=first))
        await pass_time(store, 31)
        assert await _told(store) == TOLD
        later = T0 + 35 * MINUTE
        await apply(store, starting(version=(1, 6), at=later, created_at=second))
        await pass_time(store, 60)
        task = await _only(store)
        assert (task.status, task.concluded) == ("INITIALIZING", False)
        assert task.status_since.timestamp() == later
        await pass_time(store, 66)
        assert await _told(store) == TOLD


async def test_a_later_report_takes_it_back(store_url: str) -> None:
    """That it still waits is nothing new; that it runs is, and that it is gone leaves what users
    were told."""
    async with opened(store_url) as store:
        await apply(store, starting())
        await pass_time(store, 31)
        await apply(store, starting(version=(1, 8), at=T0 + 32 * MINUTE, pod_ip="10.0.0.1"))
        task = await _only(store)
        assert await _told(store) == TOLD
        assert (task.pod_ip, task.status_resource_version) == ("10.0.0.1", 8)
        running = report(version=(1, 9), status="RUNNING", node="n", at=T0 + 33 * MINUTE)
        await apply(store, running)
        task = await _only(store)
        assert (task.status, task.exit_code, task.message) == ("RUNNING", None, "")
        assert not task.concluded
        assert not task.terminal
    async with opened("memory://") as store:
        await apply(store, starting())
        await pass_time(store, 31)
        await apply(store, report(version=(1, 9), status="INITIALIZING", deleted=True))
        assert await _told(store) == TOLD


async def test_the_pods_own_end_replaces_it(store_url: str) -> None:
    """It knows more."""
    async with opened(store_url) as store:
        await apply(store, starting())
        await pass_time(store, 31)
        await apply(store, report(version=(1, 9), status="COMPLETED", exit_code=0))
        task = await _only(store)
        assert (task.status, task.exit_code, task.concluded) == ("COMPLETED", 0, False)


async def test_the_first_conclusion_stays(store_url: str) -> None:
    """A node that is lost after the time was up, and the other way round."""
    removed = node_report("n", version=(1, 9), deleted=True)
    async with opened(store_url) as store:
        await apply(store, starting("a"))
        await pass_time(store, 31)
        await apply(store, starting("b"))
        await apply(store, removed)
        await pass_time(store, 62)
        tasks = await store.tasks()
        assert [task.status for task in tasks] == ["FAILED_START_TIMEOUT", "FAILED_BACKEND_ERROR"]


async def test_without_a_start_timeout_no_task_fails(store_url: str) -> None:
    """0 is for ever."""
    async with opened(store_url, replace(CONFIG, start_timeout=0)) as store:
        await apply(store, starting())
        await pass_time(store, 1e6)
        assert (await _only(store)).status == "INITIALIZING"


async def test_a_look_is_bounded(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left waits for the next one."""
    monkeypatch.setattr(conclusions, "STEP_ROWS", 3)
    async with opened(store_url) as store:
        await apply(store, *(starting(f"t{number}") for number in range(5)))
        for left in (2, 0, 0):
            await pass_time(store, 61)
            assert (await store.counts()).get("INITIALIZING", 0) == left


async def test_it_is_told_and_hears_of_no_backend(
    store_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is the worker's doing; the log says what was done, and nothing when nothing was."""
    caplog.set_level(logging.INFO, "osmo_worker.store.conclusions")
    async with open_store(store_url, CONFIG, clock=lambda: T0) as store:
        await apply(store, SNAPSHOT, starting(), pods_current(T0))
        await store.sweep()
        assert caplog.messages == []
        await apply(store, pods_current(T0 + 61 * MINUTE))
        (before,) = await store.backends()
        await store.sweep()
        assert await store.backends() == [before]
    assert caplog.messages == [f"1 task of {BACKEND} did not start in time"]


async def test_each_backend_has_its_own_time(store_url: str) -> None:
    """What one says is not said of another."""
    async with opened(store_url) as store:
        for backend, minutes in (("a", 31), ("b", 29), ("c", 40)):
            messages = SNAPSHOT, starting(), pods_current(T0 + minutes * MINUTE)
            await store.handle_batch([delivery(each, backend=backend) for each in messages])
        await store.sweep()
        assert {task.backend: task.concluded for task in await store.tasks()} == {
            "a": True,
            "b": False,
            "c": True,
        }


@pytest.mark.parametrize("timeout", [1e18, 1e300])
async def test_a_time_beyond_every_calendar_fails_nothing(store_url: str, timeout: float) -> None:
    """No setting stops the sweep."""
    async with opened(store_url, replace(CONFIG, start_timeout=timeout)) as store:
        await apply(store, starting())
        await pass_time(store, 100)
        assert (await _only(store)).status == "INITIALIZING"


async def test_a_look_reads_indices_alone(tmp_path: Path) -> None:
    """However many tasks there are, it looks at those that it changes."""
    async with opened(f"sqlite:///{tmp_path}/x.db") as store:
        await apply(store, SNAPSHOT, starting(), pods_current(T0 + 61 * MINUTE))
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
        asked = [line for line in asked if " tasks" in line and line[:6] in {"SELECT", "UPDATE"}]
        plans = [await store._database.call(plan, statement) for statement in asked]
    assert len(plans) == 3
    assert "USING INDEX tasks_starting" in plans[0]
    assert "USING INDEX tasks_starting (backend=? AND starting_since<?)" in plans[1]
    assert not [each for each in plans[1:] if "SCAN" in each]


async def test_a_database_that_is_away_is_told(tmp_path: Path) -> None:
    """Whoever keeps house comes again."""
    async with open_store(f"sqlite:///{tmp_path}/absent/x.db", CONFIG) as store:
        with pytest.raises(StoreUnavailableError):
            await store.sweep()
