"""What is removed when its time is over: a bounded number of rows at a time, and never one that a
late report could bring back."""

import asyncio
import logging
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text

from osmo_transport import Message
from osmo_worker import StoreConfig, StoreUnavailableError, WorkerConfig
from osmo_worker.store import StateStore, open_store, retention
from osmo_worker.store.schema import metadata
from tests.worker.harness import (
    BACKEND,
    STORE,
    apply,
    delivery,
    heartbeat,
    inventory,
    node_report,
    pod_event,
    report,
    snapshot_end,
    usage_report,
)

HOUR = 3600.0
FOR_EVER = replace(
    STORE, event_retention=0, task_retention=0, node_retention=0, backend_retention=0
)


class Clock:
    """Seconds since the Unix epoch, moved by hand."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now

    def pass_hours(self, hours: float) -> None:
        self.now += hours * HOUR


@asynccontextmanager
async def opened(url: str, **fields: float) -> AsyncIterator[tuple[StateStore, Clock]]:
    """A store that keeps all for ever but for what is said, and its clock."""
    clock = Clock()
    config: StoreConfig = replace(FOR_EVER, **fields)  # type: ignore[arg-type]
    async with open_store(url, config, clock=clock) as store:
        yield store, clock


def gone(task: str = "task", *, version: tuple[int, int] = (1, 5)) -> Message:
    """A report of a task whose pod is gone."""
    return report(task, version=version, status="COMPLETED", deleted=True)


async def _names(store: StateStore) -> list[str]:
    return [task.task_uuid for task in await store.tasks()]


async def test_a_task_is_kept_for_its_time_after_its_pod_is_gone(store_url: str) -> None:
    """And for ever while the pod is there, however old."""
    async with opened(store_url, task_retention=HOUR) as (store, clock):
        await apply(store, report("live"), report("ended", status="COMPLETED"), gone("old"))
        clock.pass_hours(0.5)
        await apply(store, gone("new"))
        clock.pass_hours(0.4)
        await store.sweep()
        assert await _names(store) == ["ended", "live", "new", "old"]
        clock.pass_hours(0.2)
        await store.sweep()
        assert await _names(store) == ["ended", "live", "new"]


async def test_a_task_that_came_back_is_kept(store_url: str) -> None:
    """Its time begins anew when it is gone again."""
    async with opened(store_url, task_retention=HOUR) as (store, clock):
        await apply(store, gone(version=(1, 5)))
        await apply(store, report(version=(1, 6)))
        clock.pass_hours(2)
        await store.sweep()
        assert await _names(store) == ["task"]


async def test_a_report_of_an_older_epoch_revives_nothing(store_url: str) -> None:
    """However late it comes: the newest snapshot has left it out."""
    async with opened(store_url, task_retention=HOUR) as (store, clock):
        await apply(store, report(version=(1, 5)))
        await apply(store, snapshot_end(0, version=(2, 6)))
        clock.pass_hours(2)
        await store.sweep()
        assert await _names(store) == []
        await apply(store, report(version=(1, 5)))
        assert await store.counts() == {}
        clock.pass_hours(2)
        await store.sweep()
        assert await _names(store) == []


async def test_a_node_is_kept_for_its_time_and_its_usage_with_it(store_url: str) -> None:
    """Whether the node was removed or left out of an inventory, and whatever the usage says."""
    async with opened(store_url, node_retention=HOUR) as (store, clock):
        for name in ("removed", "lost", "there"):
            await apply(store, node_report(name), usage_report(name))
        await apply(store, node_report("removed", version=(1, 2), deleted=True))
        await apply(store, inventory("there", version=(1, 3)))
        clock.pass_hours(0.9)
        await store.sweep()
        assert len(await store.nodes()) == len(await store.node_usage()) == 3
        clock.pass_hours(0.2)
        await store.sweep()
        assert [row.node for row in await store.nodes()] == ["there"]
        assert [row.node for row in await store.node_usage()] == ["there"]


async def test_usage_of_which_nobody_knows_any_more_is_removed(store_url: str) -> None:
    """A newer snapshot left it out."""
    async with opened(store_url, node_retention=HOUR) as (store, clock):
        await apply(store, node_report("there"), usage_report("there"))
        await apply(store, snapshot_end(0, version=(2, 1), kind="update_node_usage"))
        clock.pass_hours(2)
        await store.sweep()
        assert len(await store.nodes()) == 1
        assert await store.node_usage() == []


async def test_events_are_kept_for_their_time(store_url: str) -> None:
    """Since they were stored: the cluster's clock may say anything."""
    async with opened(store_url, event_retention=HOUR) as (store, clock):
        await apply(store, pod_event(message="first", timestamp="2999-01-01T00:00:00Z"))
        clock.pass_hours(0.9)
        await apply(store, pod_event(message="second", timestamp="1001-01-01T00:00:00Z"))
        await store.sweep()
        assert len(await store.pod_events("osmo/pod-1")) == 2
        clock.pass_hours(0.2)
        await store.sweep()
        assert [row.message for row in await store.pod_events("osmo/pod-1")] == ["second"]


EVERYTHING = (
    *(report("live"), gone("gone"), node_report(), usage_report(), pod_event()),
    *(inventory("node-1", version=(1, 9)), snapshot_end(2, version=(1, 9)), heartbeat()),
)


async def test_all_of_a_silent_backend_is_removed(
    store_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its live tasks too, and nothing of another one; it is told, and it may come back."""
    async with opened(store_url, backend_retention=2 * HOUR) as (store, clock):
        for backend in ("silent", BACKEND):
            await store.handle_batch([delivery(each, backend=backend) for each in EVERYTHING])
        clock.pass_hours(1.9)
        await apply(store, heartbeat(version=(1, 2)))
        await store.sweep()
        assert len(await store.backends()) == 2
        clock.pass_hours(0.2)
        await store.sweep()
        assert [row.name for row in await store.backends()] == [BACKEND]
        for rows in (store.tasks, store.nodes, store.node_usage):
            found: list[object] = [*await rows()]
            assert found
            assert {row.backend for row in found} == {BACKEND}  # type: ignore[attr-defined]
        assert len(await store.pod_events("osmo/pod-1")) == 1
        assert await store.epochs() == {BACKEND: 1}
        assert "removed all of silent, silent for 0.0833333 days" in caplog.messages
        await store.handle_batch([delivery(each, backend="silent") for each in EVERYTHING])
        assert len(await store.tasks("silent")) == 2


async def test_a_worker_that_has_just_come_takes_nobody_for_silent(store_url: str) -> None:
    """What was said while no worker was there waits in the queue."""
    if store_url == "memory://":
        pytest.skip("lives as long as the object")
    async with opened(store_url) as (store, clock):
        await apply(store, report())
    clock.pass_hours(1000)
    config = replace(FOR_EVER, backend_retention=HOUR)
    async with open_store(store_url, config, clock=clock) as store:
        clock.pass_hours(0.9)
        await store.sweep()
        assert await _names(store) == ["task"]
        clock.pass_hours(0.2)
        await store.sweep()
        assert await _names(store) == []


async def test_a_sweep_is_bounded(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By steps, each of a few rows; what is left waits for the next one."""
    monkeypatch.setattr(retention, "STEP_ROWS", 2)
    monkeypatch.setattr(retention, "MAX_STEPS", 2)
    kept = dict.fromkeys(("task_retention", "event_retention"), HOUR)
    async with opened(store_url, **kept) as (store, clock):
        await apply(store, *(gone(f"t{number}") for number in range(9)))
        await apply(store, *(pod_event(message=str(number)) for number in range(9)))
        clock.pass_hours(2)
        for left in (5, 1, 0, 0):
            await store.sweep()
            assert len(await store.tasks()) == left
            assert len(await store.pod_events("osmo/pod-1")) == left


async def test_a_silent_backend_goes_step_by_step(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own row is the last, so that no step is forgotten."""
    monkeypatch.setattr(retention, "STEP_ROWS", 2)
    monkeypatch.setattr(retention, "MAX_STEPS", 3)
    async with opened(store_url, backend_retention=HOUR) as (store, clock):
        await apply(store, *(report(f"t{number}") for number in range(9)))
        clock.pass_hours(2)
        for left, known in ((3, 1), (0, 0)):
            await store.sweep()
            assert len(await store.tasks()) == left
            assert len(await store.backends()) == known


async def _purge(store: StateStore, backend: str, *, force: bool = False) -> Counter[str]:
    """How many rows of each sort that removed."""
    removed: Counter[str] = Counter()
    async for step in store.purge(backend, force=force):
        removed[step.rows] += step.removed
    return removed


async def _has_everything(store: StateStore, backend: str) -> None:
    """One row of each table, and five tasks, of a backend."""
    messages = (
        *(report(f"t{number}") for number in range(4)),
        *(gone("t4"), node_report(), usage_report(), pod_event()),
        *(heartbeat(at=1.0), snapshot_end(5, version=(1, 9)), inventory("n", version=(1, 9))),
    )
    await store.handle_batch([delivery(message, backend=backend) for message in messages])


async def test_all_of_a_backend_is_purged(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing of another one; what was removed is told, as is that there was nothing."""
    monkeypatch.setattr(retention, "STEP_ROWS", 2)
    async with opened(store_url) as (store, clock):
        for backend in (BACKEND, "other"):
            await _has_everything(store, backend)
        clock.pass_hours(1)
        assert await _purge(store, BACKEND) == {
            "events": 1,
            "tasks": 5,
            "usage": 1,
            "nodes": 1,
            "backends": 1,
        }
        assert [backend.name for backend in await store.backends()] == ["other"]
        assert await _tables_naming(store, BACKEND) == []
        assert {task.backend for task in await store.tasks()} == {"other"}
        assert await _purge(store, BACKEND) == Counter()


async def test_a_purge_that_is_cut_short_is_done_again(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backend itself is there until the end, and each step is small."""
    monkeypatch.setattr(retention, "STEP_ROWS", 2)
    async with opened(store_url) as (store, clock):
        await _has_everything(store, BACKEND)
        clock.pass_hours(1)
        async with aclosing(store.purge(BACKEND)) as steps:
            async for step in steps:
                assert step.removed <= 2
                if step.rows == "tasks":
                    break
        assert len(await store.tasks()) == 3
        assert len(await store.backends()) == 1
        assert (await _purge(store, BACKEND))["tasks"] == 3
        assert await _tables_naming(store, BACKEND) == []


async def test_a_backend_that_is_heard_of_is_not_purged(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is what is left of one that comes back meanwhile, unless by force."""
    monkeypatch.setattr(retention, "STEP_ROWS", 2)
    async with opened(store_url) as (store, clock):
        await _has_everything(store, BACKEND)
        clock.pass_hours(1)
        removed: Counter[str] = Counter()
        async for step in store.purge(BACKEND):
            removed[step.rows] += step.removed
            if removed["tasks"] == 2:
                await apply(store, report("back", version=(2, 1)))
        assert removed["backends"] == 0
        assert len(await store.tasks()) == 4
        assert (await _purge(store, BACKEND, force=True))["backends"] == 1
        assert await _tables_naming(store, BACKEND) == []


async def _tables_naming(store: StateStore, backend: str) -> list[str]:
    """The tables that have a row of the backend."""

    def look() -> list[str]:
        with store._database.transaction(write=False) as connection:
            return [
                table.name
                for table in metadata.tables.values()
                for column in table.primary_key
                if (table.name, column.name) == ("backends", "name") or column.name == "backend"
                if connection.execute(select(column).where(column == backend).limit(1)).all()
            ]

    return await store._database.call(look)


async def test_others_get_their_turn_between_two_steps(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch waits for one step, not for the sweep."""
    monkeypatch.setattr(retention, "STEP_ROWS", 2)
    async with opened(store_url, task_retention=HOUR) as (store, clock):
        await apply(store, *(gone(f"t{number}") for number in range(20)))
        clock.pass_hours(2)
        order: list[str] = []
        call = store._database.call

        async def told(work: Callable[..., object], *args: object) -> object:
            answer = await call(work, *args)
            order.append(work.__name__)
            return answer

        monkeypatch.setattr(store._database, "call", told)
        await asyncio.gather(store.sweep(), apply(store, report("batch")))
        assert "_advance" in order[:4]
        assert await _names(store) == ["batch"]


@pytest.mark.parametrize("seconds", [1e18, 1e300])
async def test_a_time_beyond_every_calendar_keeps_all(store_url: str, seconds: float) -> None:
    """No setting stops the sweep."""
    kept = ("event_retention", "task_retention", "node_retention", "backend_retention")
    async with opened(store_url, **dict.fromkeys(kept, seconds)) as (store, clock):
        await apply(store, gone(), pod_event())
        clock.pass_hours(1000)
        await store.sweep()
        assert await _names(store) == ["task"]


async def test_where_nothing_is_due_nobody_waits_for_a_lock(tmp_path: Path) -> None:
    """A sweep only looks."""
    url = f"sqlite:///{tmp_path}/x.db"
    async with opened(url, task_retention=HOUR, event_retention=HOUR) as (store, clock):
        await apply(store, gone())
        other = sqlite3.connect(f"{tmp_path}/x.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        await store.sweep()
        clock.pass_hours(2)
        with pytest.raises(StoreUnavailableError, match="locked"):
            await store.sweep()
        other.close()
        await store.sweep()
        assert await _names(store) == []


async def test_the_log_of_sqlite_stays_short(tmp_path: Path) -> None:
    """Each step folds what it wrote into the file: else a batch would have to do so for many."""
    async with opened(f"sqlite:///{tmp_path}/x.db", task_retention=HOUR) as (store, clock):
        await apply(store, gone())
        clock.pass_hours(2)
        await store.sweep()

        # Without its log, the file has what was folded into it alone.
        with sqlite3.connect(f"file:{tmp_path}/x.db?immutable=1", uri=True) as file:
            assert file.execute("SELECT count(*) FROM tasks").fetchall() == [(0,)]
        file.close()


async def test_a_sweep_reads_indexes_alone(store_url: str) -> None:
    """However many rows there are, it looks at those that it removes."""
    if store_url == "memory://":
        pytest.skip("as SQLite in a file")
    hours = ("event_retention", "task_retention", "node_retention", "backend_retention")
    async with opened(store_url, **dict.fromkeys(hours, HOUR)) as (store, _):
        await store.check()
        statements = [
            statement for rule in store._retention._rules for statement in (rule.due, *rule.step)
        ] + [statement for step in store._retention._of_backend.values() for statement in step]
        values = {"before": "2026-01-01T00:00:00.000Z", "backend": BACKEND}

        def plans() -> list[str]:
            found = []
            with store._database.transaction(write=False) as connection:
                explain = "EXPLAIN QUERY PLAN" if "sqlite" in store_url else "EXPLAIN"
                if explain == "EXPLAIN":
                    connection.execute(text("SET LOCAL enable_seqscan = off"))
                for statement in statements:
                    compiled = statement.compile(dialect=store._database.dialect)
                    given = {name: values.get(name, 10) for name in compiled.params}
                    said = connection.exec_driver_sql(
                        f"{explain} {compiled}",
                        compiled.construct_params(given)
                        if compiled.positiontup is None
                        else tuple(given[name] for name in compiled.positiontup),
                    )
                    found.append("\n".join(str(row) for row in said))
            return found

        found = await store._database.call(plans)
    assert len(found) == 13
    assert not [plan for plan in found if "SCAN " in plan or "Seq Scan" in plan]


def test_a_retention_that_a_report_could_outlive_is_refused() -> None:
    """In the queue it can wait for all of its attempts."""
    for name in ("task_retention", "node_retention"):

        def config(seconds: float, name: str = name) -> StoreConfig:
            fields: dict[str, Any] = {name: seconds}
            return replace(FOR_EVER, **fields)

        with pytest.raises(ValueError, match=rf"{name}\).*450"):
            WorkerConfig(store_limits=config(450.0))
        WorkerConfig(store_limits=config(451.0))
        WorkerConfig(store_limits=config(0))
        WorkerConfig(store_limits=config(1.0), handler="mine:handle")


async def test_what_was_removed_is_told(store_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """How much of what, and nothing when nothing was."""
    caplog.set_level(logging.INFO, "osmo_worker.store.retention")
    async with opened(store_url, task_retention=6 * HOUR) as (store, clock):
        await apply(store, gone("a"), gone("b"))
        await store.sweep()
        assert caplog.messages == []
        clock.pass_hours(7)
        await store.sweep()
        assert caplog.messages == ["removed 2 tasks after 0.25 days"]
