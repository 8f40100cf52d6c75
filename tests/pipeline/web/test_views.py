"""The documents of the page, and what may be asked for."""

import pytest

from osmo_pipeline.web.views import (
    BACKENDS_SHOWN,
    MAX_TEXT,
    ROWS_SHOWN,
    Fleet,
    Tasks,
    Workflow,
    view_of,
)
from osmo_transport import UsageError
from osmo_worker.store import queries
from tests.pipeline.web.harness import bury, document, running
from tests.worker.harness import (
    BACKEND,
    apply,
    delivery,
    node_report,
    pod_event,
    report,
    usage_report,
)


def test_what_may_be_asked_for() -> None:
    """Each view with what narrows it."""
    assert view_of({"view": "fleet", "page": "2", "find": "x"}) == Fleet(page=2, find="x")
    asked = {"view": "tasks", "backend": "b", "after": '["flow", "task", 3]'}
    assert view_of(asked) == Tasks(backend="b", after=("flow", "task", 3))
    assert view_of({"view": "workflow", "workflow": r"\u0000"}) == Workflow(workflow=r"\u0000")


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"view": "passwords"},
        {"view": "tasks"},
        {"view": "tasks", "backend": ""},
        {"view": "tasks", "backend": "a\0"},
        {"view": "tasks", "backend": "b" * 2000},
        {"view": "tasks", "backend": "b", "after": "["},
        {"view": "tasks", "backend": "b", "after": "[" * 100_000},
        {"view": "tasks", "backend": "b", "after": '["flow"]'},
        {"view": "tasks", "backend": "b", "after": '["flow", "task", 9223372036854775808]'},
        {"view": "nodes", "backend": "b", "after": "[1]"},
        {"view": "nodes", "backend": "b", "after": r'["\u0000"]'},
        {"view": "nodes", "backend": "b", "after": r'["\ud800"]'},
        {"view": "fleet", "page": "-1"},
        {"view": "fleet", "page": "²"},
        {"view": "fleet", "page": "1" * 5000},
    ],
    ids=lambda asked: str(asked)[:60],
)
def test_what_may_not(asked: dict[str, str]) -> None:
    """No database is asked about it."""
    with pytest.raises(UsageError):
        view_of(asked)


async def test_the_fleet() -> None:
    """Backends with their counts, the whole of them, and what flows."""
    async with running() as site:
        await apply(site.store, report(), report("b", status="COMPLETED"), node_report())
        await site.store.handle_batch([delivery(report(), backend="another")])
        await bury(site.queue, 2)
        found = await document(site, view="fleet")
        assert [each["name"] for each in found["backends"]] == ["another", BACKEND]
        assert found["tasks"] == [["RUNNING", 2], ["COMPLETED", 1]]
        assert found["nodes"] == [1, 1]
        assert (found["known"], found["silent"], found["flow"]["dead"]) == (2, 2, 2)
        assert found["error"] == ""
        narrowed = await document(site, view="fleet", find="ANOTHER")
        assert [each["name"] for each in narrowed["backends"]] == ["another"]


async def test_a_large_fleet_comes_in_pages() -> None:
    """The next one goes on where this one ends."""
    async with running() as site:
        names = [f"backend-{number:03d}" for number in range(BACKENDS_SHOWN + 2)]
        await site.store.handle_batch([delivery(report(), backend=name) for name in names])
        first = await document(site, view="fleet")
        second = await document(site, view="fleet", page="1")
        assert [each["name"] for each in first["backends"] + second["backends"]] == names


async def test_a_backend_with_its_tasks_and_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """In pages, and only what is in the cluster, also where the store holds much that is not."""
    monkeypatch.setattr(queries, "LOOKED_AT", 30)
    async with running() as site:
        gone = [report(f"a{number:02d}", deleted=True) for number in range(40)]
        live = [report(f"b{number:02d}") for number in range(ROWS_SHOWN + 1)]
        await apply(site.store, *gone, *live, node_report("n1"), node_report("n2"))
        first = await document(site, view="tasks", backend=BACKEND)
        names = [each["task"] for each in first["tasks"]]
        assert names == [f"b{number:02d}" for number in range(ROWS_SHOWN)]
        assert first["after"] == ["flow", names[-1], 0]
        after = f'["flow", "{names[-1]}", 0]'
        rest = await document(site, view="tasks", backend=BACKEND, after=after)
        assert [each["task"] for each in rest["tasks"]] == [f"b{ROWS_SHOWN}"]
        nodes = await document(site, view="nodes", backend=BACKEND)
        assert [each["node"] for each in nodes["nodes"]] == ["n1", "n2"]
        assert nodes["backend"]["nodes"] == [2, 2]
        unknown = await document(site, view="nodes", backend="none")
        assert unknown["backend"] == {"name": "none", "unknown": True}


async def test_a_workflow_with_the_history_of_its_tasks() -> None:
    """In the first backend that has it, or in the one that is named."""
    async with running() as site:
        await apply(site.store, report(pod="osmo/p"), pod_event("osmo/p"))
        await site.store.handle_batch([delivery(report(), backend="another")])
        found = await document(site, view="workflow", workflow="flow")
        assert (found["backend"], found["backends"]) == ("another", ["another", BACKEND])
        named = await document(site, view="workflow", workflow="flow", backend=BACKEND)
        (task,) = named["tasks"]
        assert [what for _, what, _ in task["history"]] == ["Pulled", "RUNNING"]
        none = await document(site, view="workflow", workflow="none")
        assert (none["backends"], none["tasks"]) == ([], [])


async def test_a_node_with_its_usage_and_tasks() -> None:
    """And one of which nobody knows but a task."""
    async with running() as site:
        tasks = (report("a", node="node-1"), report("b", node="node-2"))
        await apply(site.store, node_report(), usage_report(), *tasks)
        found = await document(site, view="node", backend=BACKEND, node="node-1")
        assert [each["task"] for each in found["tasks"]] == ["a"]
        assert found["resources"] == [["cpu", "", "4", "1"]]
        other = await document(site, view="node", backend=BACKEND, node="node-2")
        assert other["known"] is False
        assert [each["task"] for each in other["tasks"]] == ["b"]


async def test_dead_letters_say_why() -> None:
    """And texts have an end."""
    async with running() as site:
        await bury(site.queue, 1, reason="x" * 10_000)
        (letter,) = (await document(site, view="letters"))["letters"]
        assert (letter["kind"], letter["key"]) == ("update_pod", "flow/task-0/0")
        assert len(letter["reason"]) == MAX_TEXT + 1
        assert letter["payload"].startswith('{"payload": {"workflow_uuid": "flow"')


@pytest.mark.parametrize("character", ["x", "é", "\N{GRINNING FACE}"])
async def test_a_large_dead_letter_is_not_taken_apart(character: str) -> None:
    """Its beginning says enough, and that it is one; it costs what small ones cost."""
    async with running() as site:
        await bury(site.queue, 1, message=character * 100_000)
        (letter,) = (await document(site, view="letters"))["letters"]
        assert len(letter["payload"]) == MAX_TEXT + 1
        assert letter["payload"].endswith("…")


async def test_an_outage_is_said() -> None:
    """Where the documents are, and the page goes on."""
    async with running() as site:
        await site.queue.aclose()
        assert "closed" in (await document(site, view="letters"))["error"]
        assert "closed" in (await document(site, view="fleet"))["error"]
