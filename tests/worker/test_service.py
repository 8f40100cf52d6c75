"""The worker service, wired as its entry point does it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from osmo_transport import Ack, Delivery, Outcome, UnknownSchemeError, open_queue
from osmo_worker import (
    HandlerNotFoundError,
    StoreRefusedError,
    WorkerConfig,
    WorkerMetrics,
    run_worker,
)
from osmo_worker.store import open_store
from tests.helpers import eventually
from tests.worker.harness import CONFIG, QUEUE, append, pods_current, report, snapshot_end, until


async def acknowledge(delivery: Delivery) -> Outcome:
    """A handler for the configuration to name."""
    return Ack()


@asynccontextmanager
async def running(config: WorkerConfig) -> AsyncIterator[tuple[WorkerMetrics, asyncio.Event]]:
    """The service at work: its metrics, and the event of being ready."""
    stop, ready, metrics = asyncio.Event(), asyncio.Event(), WorkerMetrics()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(run_worker(config, stop, ready.set, metrics=metrics))
        try:
            yield metrics, ready
        finally:
            stop.set()


async def test_reports_go_from_the_queue_into_the_database(tmp_path: Path) -> None:
    """From two URLs to rows, and a stop that leaves nothing undone."""
    store_url = f"sqlite:///{tmp_path}/osmo.db"
    config = replace(CONFIG, queue="memory://service-1", store=store_url)
    async with await open_queue(config.queue, QUEUE) as queue:
        await append(queue, [report("a"), report("b")])
        async with running(config) as (metrics, ready):
            await ready.wait()
            await eventually(lambda: metrics.handled == 2)
            await append(queue, [report("c", status="COMPLETED")])
            await eventually(lambda: metrics.handled == 3)
    async with open_store(store_url) as store:
        assert await store.counts() == {"COMPLETED": 1, "RUNNING": 2}


async def test_the_store_is_kept_in_order(tmp_path: Path) -> None:
    """A task that does not start in time fails while the service runs, without another report."""
    store_url = f"sqlite:///{tmp_path}/osmo.db"
    limits = replace(CONFIG.store_limits, start_timeout=0.001, housekeeping_interval=0.01)
    config = replace(CONFIG, queue="memory://service-5", store=store_url, store_limits=limits)
    async with await open_queue(config.queue, QUEUE) as queue:
        waits = report(status="INITIALIZING", at=1.0)
        await append(queue, [waits, snapshot_end(1, version=(1, 1)), pods_current(2.0)])
        async with running(config), open_store(store_url) as store:

            async def failed() -> bool:
                return await store.counts() == {"FAILED_START_TIMEOUT": 1}

            await until(failed)


async def test_a_handler_from_the_configuration_needs_no_store() -> None:
    """`module:attribute` takes the store's place."""
    config = replace(
        CONFIG, queue="memory://service-2", store="nonsense", handler=f"{__name__}:acknowledge"
    )
    async with await open_queue(config.queue, QUEUE) as queue:
        await append(queue, [report()])
        async with running(config) as (metrics, _):
            await eventually(lambda: metrics.handled == 1)


async def test_a_store_that_is_away_at_start_is_waited_for(tmp_path: Path) -> None:
    """The worker is not ready, takes nothing, and goes on when the store is there."""
    folder = tmp_path / "later"
    config = replace(CONFIG, queue="memory://service-3", store=f"sqlite:///{folder}/osmo.db")
    async with await open_queue(config.queue, QUEUE) as queue:
        await append(queue, [report()])
        async with running(config) as (metrics, ready):
            await asyncio.sleep(0.02)
            assert not ready.is_set()
            assert metrics.received == 0
            folder.mkdir()
            await eventually(lambda: metrics.handled == 1)


async def test_a_stop_ends_the_waiting(tmp_path: Path) -> None:
    """A worker whose store never comes can still be stopped."""
    config = replace(CONFIG, queue="memory://", store=f"sqlite:///{tmp_path}/never/osmo.db")
    async with running(config) as (_, ready):
        await asyncio.sleep(0.01)
    assert not ready.is_set()


@pytest.mark.parametrize(
    ("fields", "error", "text"),
    [
        ({"handler": "nowhere:handle"}, HandlerNotFoundError, "nowhere:handle"),
        ({"store": "oracle://x"}, UnknownSchemeError, "oracle"),
        ({"queue": "kafka://x"}, UnknownSchemeError, "kafka"),
    ],
)
async def test_a_configuration_that_cannot_work_is_told(
    fields: dict[str, str], error: type[Exception], text: str
) -> None:
    """At start, and by name."""
    config = replace(CONFIG, **{"queue": "memory://", "store": "memory://", **fields})  # type: ignore[arg-type]
    with pytest.raises(error, match=text):
        await run_worker(config, asyncio.Event(), lambda: None)


async def test_a_database_that_is_not_ours_ends_the_service(tmp_path: Path) -> None:
    """It is not waited for: it would not mend itself."""
    import sqlite3

    with sqlite3.connect(tmp_path / "x.db") as other:
        other.execute("CREATE TABLE tasks (id INTEGER PRIMARY KEY)")
    other.close()
    config = replace(CONFIG, queue="memory://", store=f"sqlite:///{tmp_path}/x.db")
    with pytest.raises(StoreRefusedError):
        await run_worker(config, asyncio.Event(), lambda: None)
