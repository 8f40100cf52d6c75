"""What is known of how a task got into its state."""

from datetime import UTC, datetime

import msgspec

from osmo_pipeline.web.history import history
from osmo_reports.bodies import Condition
from osmo_worker.store import PodEvent, StateStore, Task, open_store
from tests.worker.harness import BACKEND, apply, pod_event, report


async def _stored(store: StateStore) -> tuple[Task, list[PodEvent]]:
    sent = datetime(2026, 1, 2, 3, 4, 6, tzinfo=UTC).timestamp()
    await apply(
        store,
        report(
            pod="osmo/p", status="RUNNING", message="up", created_at="2026-01-02T03:04:04Z", at=sent
        ),
        pod_event("osmo/p", count=3),
    )
    (task,) = await store.tasks()
    return task, await store.pod_events("osmo/p", BACKEND)


async def test_everything_that_happened_in_its_order() -> None:
    """Whoever tells of it."""
    async with open_store("memory://") as store:
        task, events = await _stored(store)
    conditions = (
        Condition("PodScheduled", True, timestamp="2026-01-02T03:04:05.5Z"),
        Condition("Ready", False, "Crashed", "again", "yesterday"),
        Condition("Initialized", True, timestamp="2026-01-02T03:04:05.7"),
    )
    gone = datetime(2026, 1, 2, 3, 5, tzinfo=UTC)
    task = msgspec.structs.replace(task, conditions=conditions, deleted_at=gone)
    assert [(step.what, step.text) for step in history(task, events)] == [
        ("not Ready", "Crashed: again"),
        ("created", ""),
        ("Pulled", "pulled the image (3 times)"),
        ("PodScheduled", ""),
        ("Initialized", ""),
        ("RUNNING", "up"),
        ("gone", "the pod is not in the cluster"),
    ]
    assert history(task, events)[0].at is None
