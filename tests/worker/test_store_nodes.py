"""The table `nodes`: reports of nodes, and inventories."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from osmo_reports.bodies import Taint, UpdateNode, encode_body
from osmo_transport import Ack, Reject, Version, new_message
from osmo_worker import WorkerMetrics
from osmo_worker.store import Node, StateStore, open_store
from tests.worker.harness import (
    BACKEND,
    STORE,
    apply,
    apply_in_every_order,
    delivery,
    inventory,
    inventory_part,
    node_report,
    snapshot_end,
)


async def _only(store: StateStore) -> Node:
    (node,) = await store.nodes()
    return node


async def _live(store: StateStore, backend: str = BACKEND) -> list[str]:
    return [node.node for node in await store.nodes(backend, live_only=True)]


async def test_a_report_becomes_a_row(store_url: str) -> None:
    """Every field is there, in types that a program can use."""
    now = datetime(2026, 3, 4, 5, 6, 7, 891000, tzinfo=UTC)
    taint = Taint("gpu", "h100", "NoSchedule", "2026-01-02T03:04:05Z")
    body = UpdateNode(
        "node-1",
        "host-1",
        available=True,
        conditions=("Ready", "GpuHealthy"),
        allocatable={"cpu": "96", "memory": "2113461Ki"},
        labels={"zone": "a"},
        taints=(taint, Taint("cordoned")),
        processed={"cpu": "96"},
    )
    message = new_message("update_node", "node-1", encode_body(body), version=Version(3, 99))
    async with open_store(store_url, STORE, clock=now.timestamp) as store:
        assert await apply(store, message) == [Ack()]
        assert await _only(store) == Node(
            backend=BACKEND,
            node="node-1",
            hostname="host-1",
            available=True,
            conditions=("Ready", "GpuHealthy"),
            allocatable={"cpu": "96", "memory": "2113461Ki"},
            labels={"zone": "a"},
            taints=(taint, Taint("cordoned")),
            processed={"cpu": "96"},
            updated_at=now,
            deleted_at=None,
            epoch=3,
            resource_version=99,
        )


@pytest.mark.parametrize("late", [False, True])
async def test_only_a_newer_version_is_written(store: StateStore, late: bool) -> None:
    """By epoch, then by resource version, in whatever order they come."""
    messages = [
        node_report(version=(1, 900), available=True),
        node_report(version=(2, 5), available=False),
    ]
    await apply(store, *(reversed(messages) if late else messages))
    node = await _only(store)
    assert (node.available, node.epoch, node.resource_version) == (False, 2, 5)


async def test_a_report_that_comes_again_is_stale(store_url: str) -> None:
    """It is acknowledged, changes nothing, and is in the ledger."""
    metrics = WorkerMetrics()
    async with open_store(store_url, STORE, metrics=metrics) as store:
        await apply(store, node_report(version=(1, 2)))
        before = await _only(store)
        assert await apply(store, node_report(version=(1, 2))) == [Ack()]
        assert await _only(store) == before
    assert metrics.stale == 1


async def test_a_removed_node_keeps_its_row(store: StateStore) -> None:
    """The row says since when, and a late report does not bring it back; a newer one does."""
    await apply(store, node_report(version=(1, 5)))
    await apply(store, node_report(version=(1, 7), deleted=True))
    await apply(store, node_report(version=(1, 6)))
    assert (await _only(store)).deleted_at is not None
    assert await store.nodes(live_only=True) == []
    await apply(store, node_report(version=(1, 8)))
    assert (await _only(store)).deleted_at is None


async def test_an_inventory_removes_what_is_older_and_not_listed(store: StateStore) -> None:
    """Not what it lists, not what is newer, and nothing of another backend."""
    other = node_report("gone", version=(1, 1))
    await store.handle_batch([delivery(other, backend="another")])
    await apply(
        store,
        node_report("gone", version=(1, 5)),
        node_report("kept", version=(1, 6)),
        node_report("new", version=(1, 9)),
    )
    assert await apply(store, inventory("kept", version=(1, 8))) == [Ack()]
    assert await _live(store) == ["kept", "new"]
    assert await _live(store, "another") == ["gone"]


async def test_a_late_report_that_the_inventory_does_not_list_is_left_out(
    store: StateStore,
) -> None:
    """Its row is a tombstone; one that the inventory lists is applied."""
    await apply(store, inventory("kept", version=(2, 8)))
    await apply(store, node_report("gone", version=(2, 5)), node_report("kept", version=(2, 6)))
    assert [node.node for node in await store.nodes()] == ["gone", "kept"]
    assert await _live(store) == ["kept"]


async def test_an_older_inventory_changes_nothing(store_url: str) -> None:
    """It is acknowledged, and stale."""
    metrics = WorkerMetrics()
    async with open_store(store_url, STORE, metrics=metrics) as store:
        await apply(store, node_report("a", version=(1, 5)), inventory("a", version=(2, 8)))
        for version in ((2, 8), (2, 7), (1, 9)):
            assert await apply(store, inventory(version=version)) == [Ack()]
        assert await _live(store) == ["a"]
    assert metrics.stale == 3


async def test_a_listed_node_that_an_older_inventory_removed_is_back(store: StateStore) -> None:
    """As if the older one had never come, or had come late."""
    await apply(store, node_report("a", version=(1, 5)), inventory(version=(1, 6)))
    assert await _live(store) == []
    await apply(store, inventory("a", version=(1, 8)))
    assert await _live(store) == ["a"]


async def test_a_listed_node_that_reported_its_removal_stays_away(store: StateStore) -> None:
    """An inventory has no state to show: the report of the node that came back has."""
    await apply(store, node_report("a", version=(1, 5), deleted=True))
    await apply(store, inventory("a", version=(1, 8)))
    assert await _live(store) == []
    await apply(store, node_report("a", version=(1, 7)))
    assert await _live(store) == ["a"]


async def test_of_one_version_the_removal_is_last(store: StateStore) -> None:
    """Also when an inventory had removed the node by itself."""
    messages = [
        node_report("a", version=(1, 5)),
        node_report("a", version=(1, 5), deleted=True),
        inventory(version=(1, 6)),
        inventory("a", version=(1, 7)),
    ]
    for backend in await apply_in_every_order(store, messages):
        assert await _live(store, backend) == []


async def test_nodes_without_a_hostname_are_kept_apart(store: StateStore) -> None:
    """The key is the name."""
    await apply(store, node_report("a", hostname="-"), node_report("b", hostname="-"))
    assert [(node.node, node.hostname) for node in await store.nodes()] == [("a", "-"), ("b", "-")]


async def test_odd_texts_are_stored(store: StateStore) -> None:
    """U+0000 is replaced wherever it stands, and what only looks like it is left alone."""
    body = UpdateNode("a", "h\0st", labels={"k\0y": "v\0", "b": "\\u0000"}, conditions=("C\0",))
    message = new_message("update_node", "a", encode_body(body), version=Version(1, 1))
    assert await apply(store, message) == [Ack()]
    node = await _only(store)
    assert node.hostname == "h\ufffdst"
    assert node.labels == {"k\ufffdy": "v\ufffd", "b": "\\u0000"}
    assert node.conditions == ("C\ufffd",)


async def test_what_cannot_be_handled_is_rejected_for_itself_alone(store: StateStore) -> None:
    """A version that no database holds, of a report or of an inventory; the rest is applied."""
    huge = (1, 2**63)
    outcomes = await apply(
        store,
        node_report("good"),
        node_report("huge", version=huge),
        inventory("good", version=huge),
        new_message("node_inventory", "nodes", b"\xc1"),
        snapshot_end(0, version=(1, 1), kind="update_node"),
        inventory("good\0", version=(1, 1)),
    )
    reasons = [outcome.reason if isinstance(outcome, Reject) else "" for outcome in outcomes]
    assert "refuses a row" in reasons[1]
    assert "refuses a row" in reasons[2]
    assert "cannot be decoded" in reasons[3]
    assert "no table for snapshot_end" in reasons[4]
    assert (reasons[0], reasons[5]) == ("", "")
    assert await _live(store) == ["good"]


async def test_an_inventory_of_many_nodes(store: StateStore) -> None:
    """More than a statement takes parameters."""
    names = [f"node-{number:05d}" for number in range(1200)]
    await apply(store, *(node_report(name, version=(1, 5)) for name in names))
    await apply(store, inventory(*names[:3], version=(1, 6)))
    assert await _live(store) == names[:3]


async def test_an_inventory_in_parts_says_what_all_of_them_say(store: StateStore) -> None:
    """In every order, beside an older one and reports that come late; none says anything alone."""
    for backend in await apply_in_every_order(
        store,
        [
            node_report("gone", version=(1, 5)),
            node_report("kept", version=(1, 6)),
            inventory("gone", version=(1, 7)),
            inventory_part("kept", part=0, version=(1, 8)),
            inventory_part("other", part=1, version=(1, 8)),
        ],
    ):
        assert await _live(store, backend) == ["kept"]


async def test_parts_that_are_missing_say_nothing(store: StateStore) -> None:
    """Nor do those of different inventories together; and one that comes again changes nothing."""
    await apply(store, node_report("a", version=(1, 5)))
    await apply(store, inventory_part("b", part=0, version=(1, 7)))
    await apply(store, inventory_part("b", part=1, version=(1, 8)))
    await apply(store, inventory_part("b", part=1, version=(1, 8)))
    await apply(store, inventory_part("b", part=0, version=(1, 7)))
    await apply(store, inventory_part("b", part=2, parts=3, version=(1, 8)))
    assert await _live(store) == ["a"]
    await apply(store, inventory_part("b", part=0, version=(1, 8)))
    assert await _live(store) == []


async def test_parts_do_not_outlive_their_inventory(tmp_path: Path) -> None:
    """Nor those of an older one that never was complete; what comes late is stale."""
    path, metrics = tmp_path / "store.db", WorkerMetrics()
    late = [inventory_part("a", part=n, version=(1, 7)) for n in range(2)]
    parts = [inventory_part("b", part=n, version=(1, 8)) for n in range(2)]
    async with open_store(f"sqlite:///{path}", STORE, metrics=metrics) as store:
        await apply(store, node_report("b", version=(1, 5)), late[0], *parts)
        assert metrics.stale == 0
        await apply(store, *late, *parts, node_report("a", version=(1, 6)))
        assert metrics.stale == 4
        assert await _live(store) == ["b"]
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT count(*) FROM inventory_parts").fetchone() == (0,)
        assert database.execute("SELECT nodes FROM inventories").fetchall() == [('["b"]',)]


@pytest.mark.parametrize(("part", "parts"), [(-1, 1), (0, 0), (1024, 1024), (0, 1025)])
async def test_numbers_of_parts_are_bounded(store: StateStore, part: int, parts: int) -> None:
    """So that nobody fills the table."""
    (outcome,) = await apply(store, inventory_part("a", part=part, parts=parts, version=(1, 1)))
    assert isinstance(outcome, Reject)
