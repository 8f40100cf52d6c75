"""Reads of a fleet that take no longer the larger it is."""

import pytest

from osmo_worker.store import Key, StateStore
from osmo_worker.store import queries as queries_module
from osmo_worker.store import tally as tally_module
from tests.worker.harness import apply, delivery, node_report, report, usage_report
from tests.worker.test_store_plans import plans


async def fill(store: StateStore) -> None:
    """Two backends with three tasks in two workflows on two nodes, of which one task is gone."""
    messages = [
        report("a", flow="f", node="n1"),
        report("b", flow="f", node="n2", status="COMPLETED"),
        report("c", flow="g", node="n1", deleted=True),
        node_report("n1"),
        node_report("n2", available=False),
        usage_report("n1"),
    ]
    for backend in ("x", "y"):
        await store.handle_batch([delivery(message, backend=backend) for message in messages])


async def test_pages_are_all_rows_in_order(store: StateStore) -> None:
    """Each begins behind the one before."""
    await fill(store)
    after: Key | None = ()
    found: list[str] = []
    while after is not None:
        rows, after = await store.tasks_page("x", after=after, limit=2)
        found += [f"{task.backend}/{task.workflow_uuid}/{task.task_uuid}" for task in rows]
    assert found == ["x/f/a", "x/f/b", "x/g/c"]


async def test_a_page_may_be_narrowed(store: StateStore) -> None:
    """To a workflow, a node, or what is in the cluster."""
    await fill(store)

    async def names(**narrowed: object) -> list[str]:
        rows, after = await store.tasks_page("x", **narrowed)  # type: ignore[arg-type]
        assert after is None
        return [task.task_uuid for task in rows]

    assert await names(workflow="f") == ["a", "b"]
    assert await names(workflow="f", after=("a", 0)) == ["b"]
    assert await names(node="n1") == ["a", "c"]
    assert await names(node="n1", live_only=True) == ["a"]
    assert [node.node for node in (await store.nodes_page("x", after=("n1",))).rows] == ["n2"]


async def test_a_page_ends_where_it_has_looked_at_many(
    store: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And says where to go on, also if none was wanted."""
    await fill(store)
    monkeypatch.setattr(queries_module, "LOOKED_AT", 1)
    first = await store.tasks_page("x", node="n2")
    assert first.rows == []
    assert first.after is not None
    (task,) = (await store.tasks_page("x", node="n2", after=first.after)).rows
    assert task.task_uuid == "b"


async def test_a_node_with_its_usage(store: StateStore) -> None:
    """As far as each was reported."""
    await fill(store)
    node, usage = await store.node("y", "n1")
    assert node is not None
    assert usage is not None
    assert (node.backend, node.node, usage.usage) == ("y", "n1", {"cpu": "4"})
    assert (await store.node("y", "n2"))[1] is None
    assert await store.node("y", "n3") == (None, None)


async def test_the_backends_of_a_workflow(store: StateStore) -> None:
    """By name, the first of them."""
    await fill(store)
    assert await store.backends_of("f") == ["x", "y"]
    assert await store.backends_of("f", limit=1) == ["x"]
    assert await store.backends_of("none") == []
    assert [backend.name for backend in await store.backends(limit=1)] == ["x"]
    assert [backend.name for backend in await store.backends("y")] == ["y"]
    assert await store.backends("z") == []


@pytest.mark.parametrize("rows", [1, 2, 3, 100])
async def test_a_tally_counts_what_is_live(
    store: StateStore, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    """However few rows are looked at in a step."""
    await fill(store)
    monkeypatch.setattr(tally_module, "STEP_ROWS", rows)
    counts = {"RUNNING": 1, "COMPLETED": 1}
    assert await store.tally_tasks().complete() == {"x": counts, "y": counts}
    nodes = {True: 1, False: 1}
    assert await store.tally_nodes().complete() == {"x": nodes, "y": nodes}


async def test_a_tally_keeps_what_it_knows_until_it_knows_better(
    store: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And forgets a backend whose tasks are gone."""
    await fill(store)
    monkeypatch.setattr(tally_module, "STEP_ROWS", 1)
    tally = store.tally_tasks()
    await tally.complete()
    gone = [report(task, flow="f", version=(1, 2), deleted=True) for task in "ab"]
    await store.handle_batch([delivery(message, backend="y") for message in gone])
    await store.handle_batch([delivery(report("d", flow="h"), backend="x")])
    await tally.step()
    assert tally.counts["x"] == {"RUNNING": 1, "COMPLETED": 1}
    assert await tally.complete() == {"x": {"RUNNING": 2, "COMPLETED": 1}}


async def test_a_tally_tells_few_values_apart(
    store: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever statuses a listener makes up."""
    monkeypatch.setattr(tally_module, "MAX_VALUES", 2)
    await apply(store, *(report(f"t{i}", status=f"S{i}") for i in range(5)))
    (counts,) = (await store.tally_tasks().complete()).values()
    assert sum(counts.values()) == 5
    assert len(counts) == 3
    assert counts[tally_module.OTHERS] == 3


async def test_a_page_begins_where_it_is_told_to(
    store: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key finds that row; PostgreSQL reads a table that is as small as this one."""
    if store._database.has_many_writers:
        return
    await fill(store)
    monkeypatch.setattr(tally_module, "STEP_ROWS", 3)
    tally = store.tally_tasks()
    await tally.step()
    async with plans(store, "tasks") as found:
        await store.tasks_page("x", node="n1", after=("f", "a", 0))
        await store.tasks_page("x", workflow="f", after=("a", 0))
        await store.backends_of("f")
        await tally.step()
    assert len(found) == 7
    assert [plan for plan in found if not plan.startswith("SEARCH tasks USING")] == []
