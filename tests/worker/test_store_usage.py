"""The table `node_usage`: what pods on nodes ask for, and snapshots of it."""

from datetime import UTC, datetime

import pytest

from osmo_transport import Ack, Retry
from osmo_worker.store import NodeUsage, StateStore, open_store
from tests.worker.harness import (
    BACKEND,
    STORE,
    apply,
    apply_in_every_order,
    delivery,
    report,
    snapshot_end,
    usage_report,
)

KIND = "update_node_usage"


async def _cpu(store: StateStore, *, live_only: bool = False) -> dict[str, str]:
    return {row.node: row.usage["cpu"] for row in await store.node_usage(live_only=live_only)}


async def test_a_report_becomes_a_row(store_url: str) -> None:
    """Every field is there, in types that a program can use."""
    now = datetime(2026, 3, 4, 5, 6, 7, 891000, tzinfo=UTC)
    async with open_store(store_url, STORE, clock=now.timestamp) as store:
        assert await apply(store, usage_report(version=(3, 99))) == [Ack()]
        assert await store.node_usage() == [
            NodeUsage(
                backend=BACKEND,
                node="node-1",
                hostname="node-1.host",
                usage={"cpu": "4"},
                non_workflow_usage={"cpu": "1"},
                updated_at=now,
                deleted_at=None,
                epoch=3,
                resource_version=99,
            )
        ]


async def test_any_order_gives_the_same_row(store: StateStore) -> None:
    """The newest report, also beyond the end of the snapshot that it belongs to."""
    messages = [
        usage_report(version=(1, 900), cpu="1"),
        usage_report(version=(2, 5), cpu="2"),
        usage_report(version=(2, 6), cpu="3"),
        snapshot_end(0, version=(2, 9), kind=KIND),
    ]
    for backend in await apply_in_every_order(store, messages):
        (row,) = await store.node_usage(backend)
        assert (row.usage, row.epoch, row.resource_version) == ({"cpu": "3"}, 2, 6)
        assert row.deleted_at is None


@pytest.mark.parametrize("late", [False, True])
async def test_a_snapshots_end_deletes_what_it_left_out(store: StateStore, late: bool) -> None:
    """Nodes of which the new listener knows no pods; tasks are left to their own snapshot."""
    await apply(store, report(version=(1, 1)))
    end = snapshot_end(1, version=(2, 9), kind=KIND)
    messages = [usage_report("old", version=(1, 5)), usage_report("new", version=(2, 6)), end]
    for message in messages[1:] + messages[:1] if late else messages:
        assert await apply(store, message) == [Ack()]
    assert await _cpu(store, live_only=True) == {"new": "4"}
    assert await _cpu(store) == {"new": "4", "old": "4"}
    assert await store.counts() == {"RUNNING": 1}


async def test_a_snapshots_end_waits_for_its_reports(store: StateStore) -> None:
    """As that of tasks does."""
    await apply(store, usage_report("old", version=(1, 5)))
    end = snapshot_end(1, version=(2, 9), kind=KIND)
    (outcome,) = await apply(store, end)
    assert isinstance(outcome, Retry)
    assert await _cpu(store, live_only=True) == {"old": "4"}
    last = delivery(end, attempt=STORE.snapshot_attempts)
    assert await store.handle_batch([last]) == [Ack()]
    assert await _cpu(store, live_only=True) == {}


async def test_rows_are_read_of_one_backend_or_of_all(store: StateStore) -> None:
    """In the order of their keys."""
    await apply(store, usage_report("b"), usage_report("a"))
    await store.handle_batch([delivery(usage_report("c"), backend="another")])
    assert [row.node for row in await store.node_usage()] == ["c", "a", "b"]
    assert [row.node for row in await store.node_usage(BACKEND)] == ["a", "b"]
