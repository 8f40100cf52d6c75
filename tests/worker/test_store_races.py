"""Two workers of one PostgreSQL, the one at work between two statements of the other; and what is
applied again after a worker that got no further than its first transaction."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from sqlalchemy import event

from osmo_transport import Ack, Delivery, Message
from osmo_worker.store import StateStore, database, open_store, retention
from tests.worker.harness import (
    STORE,
    apply,
    delivery,
    existence,
    inventory,
    node_report,
    report,
    snapshot_end,
    usage_report,
)

pytestmark = pytest.mark.postgres

LOST = "FAILED_BACKEND_ERROR"


@contextmanager
def meanwhile(
    one: StateStore, statement: str, other: StateStore, *messages: Message
) -> Iterator[None]:
    """Right before `one` executes the first statement that begins so, `other` applies messages."""
    loop, engine, done = asyncio.get_running_loop(), one._database._engine, False

    def before(_connection: Any, _cursor: Any, executed: str, *_: Any) -> None:
        nonlocal done
        if not done and executed.startswith(statement):
            done = True
            asyncio.run_coroutine_threadsafe(apply(other, *messages), loop).result(10.0)

    event.listen(engine, "before_cursor_execute", before)
    try:
        yield
    finally:
        event.remove(engine, "before_cursor_execute", before)
    assert done


async def begin(store: StateStore, deliveries: Sequence[Delivery]) -> None:
    """Apply the first step of a batch, as a worker does that is killed right after it."""
    steps = store._applier.apply(deliveries)
    await store._database.call(database._advance, steps)
    steps.close()


async def test_a_report_of_existence_revives_nothing_that_a_snapshot_leaves_out(
    postgres: str,
) -> None:
    """Also where the snapshot ends between its look at the notes and its write."""
    async with open_store(postgres, STORE) as one, open_store(postgres, STORE) as two:
        await apply(one, report(version=(1, 5)))
        with meanwhile(one, "UPDATE tasks", two, snapshot_end(0, version=(2, 9))):
            assert await apply(one, existence(version=(1, 6))) == [Ack()]
        assert await two.tasks(live_only=True) == []


async def test_the_usage_of_a_removed_node_goes_with_it(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where another worker removes nodes at the same time, so that others have their turn."""
    monkeypatch.setattr(retention, "STEP_ROWS", 1)
    now = 1_000_000.0
    config = replace(STORE, node_retention=60.0)
    async with open_store(postgres, config, clock=lambda: now) as store:
        for name in "ab":
            await apply(store, usage_report(name), node_report(name, deleted=True))
        now += 120
        engine, done = store._database._engine, False
        with psycopg.connect(postgres, autocommit=True) as other:

            def before(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
                nonlocal done
                if not done and statement.startswith("DELETE FROM nodes"):
                    done = True
                    other.execute("DELETE FROM nodes WHERE node = (SELECT min(node) FROM nodes)")

            event.listen(engine, "before_cursor_execute", before)
            for _ in range(3):
                await store.sweep()
        assert done
        assert await store.nodes() == []
        assert await store.node_usage() == []


async def test_an_inventory_brings_back_no_node_that_is_removed_meanwhile(postgres: str) -> None:
    """Also where the removal has the version that the inventory has looked at."""
    removed = node_report("n", version=(1, 5), deleted=True)
    async with open_store(postgres, STORE) as one, open_store(postgres, STORE) as two:
        await apply(one, node_report("n", version=(1, 5)), inventory("m", version=(1, 7)))
        with meanwhile(one, "UPDATE nodes", two, removed):
            await apply(one, inventory("n", version=(1, 8)))
        assert await two.nodes(live_only=True) == []


async def test_a_task_that_moved_away_meanwhile_does_not_fail(postgres: str) -> None:
    """Its pod was created anew on another node after it was found on the one that is gone."""
    gone = node_report("n", version=(1, 7), deleted=True)
    async with open_store(postgres, STORE) as one, open_store(postgres, STORE) as two:
        await apply(one, report(version=(1, 5), node="n"))
        with meanwhile(one, "UPDATE tasks", two, report(version=(1, 6), node="m")):
            await apply(one, gone)
        (task,) = await two.tasks()
        assert (task.node, task.status) == ("m", "RUNNING")


@pytest.mark.parametrize(
    ("node", "status"),
    [
        (node_report("n", version=(1, 7), deleted=True), LOST),
        (node_report("n", version=(1, 7)), "RUNNING"),
    ],
    ids=["went", "came"],
)
async def test_what_nodes_mean_for_a_pod_is_found_out_when_it_is_reported_again(
    postgres: str, node: Message, status: str
) -> None:
    """The node went or came while the report was written, by a worker that was killed then."""
    pods = [delivery(report(version=(1, 5), node="n"))]
    async with open_store(postgres, STORE) as one, open_store(postgres, STORE) as two:
        await apply(two, node_report("n", version=(1, 6), deleted=status == "RUNNING"))
        with meanwhile(one, "INSERT INTO tasks", two, node):
            await begin(one, pods)
        assert await two.handle_batch(pods) == [Ack()]
        (task,) = await two.tasks()
        assert task.status == status


@pytest.mark.parametrize("listed", [("n", "m"), ("m",)], ids=["listed", "left-out"])
async def test_what_an_inventory_means_for_a_node_is_found_out_when_it_is_reported_again(
    postgres: str, listed: tuple[str, ...]
) -> None:
    """It came while the report was written, by a worker that was killed then."""
    nodes = [delivery(node_report("n", version=(1, 5)))]
    async with open_store(postgres, STORE) as one, open_store(postgres, STORE) as two:
        await apply(two, inventory("m", version=(1, 4 if "n" not in listed else 6)))
        with meanwhile(one, "INSERT INTO nodes", two, inventory(*listed, version=(1, 7))):
            await begin(one, nodes)
        assert await two.handle_batch(nodes) == [Ack()]
        (node,) = await two.nodes()
        assert (node.deleted_at is None) == ("n" in listed)
