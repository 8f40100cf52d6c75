"""How batches become statements."""

import pytest

from osmo_transport import Ack
from osmo_worker import WorkerMetrics
from osmo_worker.store import StateStore, open_store
from tests.worker.harness import STORE, apply, delivery, report


@pytest.mark.parametrize("count", [1, 3, 30, 499, 1001])
async def test_batches_of_every_size(store_url: str, count: int) -> None:
    """Each report is written once, and what changed nothing is counted, wherever a batch is
    divided into statements."""
    metrics = WorkerMetrics()
    tasks = {f"task-{number}": f"node-{number}" for number in range(count)}
    first = [delivery(report(task, version=(1, 2), node=node)) for task, node in tasks.items()]
    half = [delivery(report(task, version=(1, 3))) for task in list(tasks)[::2]]
    async with open_store(store_url, STORE, metrics=metrics) as store:
        assert await store.handle_batch(first) == [Ack()] * count
        assert metrics.stale == 0
        assert {task.task_uuid: task.node for task in await store.tasks()} == tasks
        await store.handle_batch(half)
        assert metrics.stale == 0
        await store.handle_batch(first)
        assert metrics.stale == count


@pytest.mark.parametrize("count", [1, 3, 30, 499])
async def test_batches_with_two_rows_of_one_key(store: StateStore, count: int) -> None:
    """The newer one stays, whichever comes first."""
    tasks = [f"task-{number}" for number in range(count)]
    for newer, older in ((3, 2), (4, 5)):
        reports = [report(task, version=(1, at)) for at in (newer, older) for task in tasks]
        assert await apply(store, *reports) == [Ack()] * len(reports)
        rows = await store.tasks()
        assert {task.resource_version for task in rows} == {max(newer, older)}
        assert len(rows) == count
