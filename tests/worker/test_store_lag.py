"""How long it took from a change to its row, and which rows were written."""

from datetime import UTC, datetime

import msgspec
import pytest

from osmo_reports.bodies import Condition, UpdateNode, UpdatePod
from osmo_runtime.operations import Histogram
from osmo_transport import Message
from osmo_worker import StoreUnavailableError, WorkerMetrics
from osmo_worker.store import open_store
from osmo_worker.store.lag import LONGEST_LAG, SAMPLES, changed_at, record
from tests.worker.harness import (
    STORE,
    apply,
    delivery,
    heartbeat,
    node_report,
    pod_event,
    report,
)

T0 = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp()


def pod(*times: str) -> UpdatePod:
    return UpdatePod(
        "w", "t", 0, "RUNNING", conditions=tuple(Condition("Ready", True, "", "", t) for t in times)
    )


@pytest.mark.parametrize(
    ("body", "reported", "changed"),
    [
        (pod("2026-01-02T03:04:03Z", "2026-01-02T03:04:05Z", ""), T0 + 1.5, T0),
        (pod("2026-01-02T03:04:05Z"), T0 + LONGEST_LAG + 1, T0 + LONGEST_LAG + 1),
        (pod("2026-01-02T03:04:05Z"), T0 - 1, T0 - 1),
        (pod("2026-01-02T03:04:05"), T0 + 1, T0),
        (pod("soon"), T0, T0),
        (pod(), T0, T0),
        (UpdateNode("n", "h"), T0, T0),
    ],
    ids=["newest", "long ago", "clocks", "without zone", "odd", "none", "no times"],
)
def test_the_objects_own_time_counts_where_it_can_be_meant(
    body: msgspec.Struct, reported: float, changed: float
) -> None:
    """Else the moment of the report: a snapshot tells of what changed long ago."""
    assert changed_at(reported, body) == changed


def test_of_many_some_stand_for_all() -> None:
    """Finding it out for each would cost as much as a hundredth of writing it."""
    found = Histogram()
    message = msgspec.structs.replace(report(), timestamp=T0)
    for count in (0, 1, SAMPLES - 1, SAMPLES, 1000):
        before = found.count
        record(found, [(delivery(message), pod())] * count, T0 + 2)
        assert count <= found.count - before <= count * 1.04
    assert found.mean == 2.0


async def test_rows_are_counted_when_they_are_written(store_url: str) -> None:
    """By table, and whether they changed anything."""
    metrics = WorkerMetrics()
    sent: list[Message] = [report("a"), report("b"), node_report(), pod_event(), heartbeat()]
    async with open_store(store_url, STORE, metrics=metrics, clock=lambda: T0) as store:
        await apply(store, *sent)
        await apply(store, *sent[:1])
    written = {table for table, outcome in metrics.rows if metrics.rows[table, outcome]}
    assert written == {"tasks", "nodes", "pod_events", "backends"}
    assert metrics.rows["tasks", "written"] == 2
    assert metrics.rows["tasks", "unchanged"] == 1
    assert metrics.write_time.count == 2
    assert metrics.end_to_end.count == 5


async def test_what_is_not_committed_is_not_counted(tmp_path: object) -> None:
    """Nor is the time of what failed that of a write."""
    metrics = WorkerMetrics()
    async with open_store(f"sqlite:///{tmp_path}/no/osmo.db", STORE, metrics=metrics) as store:
        with pytest.raises(StoreUnavailableError):
            await apply(store, report())
    assert not metrics.rows
    assert (metrics.write_time.count, metrics.end_to_end.count) == (0, 0)
