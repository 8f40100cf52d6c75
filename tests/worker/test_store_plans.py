"""What a batch and a narrowed question read: no table, nor all of a backend, to find few rows."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event, text

from osmo_worker.store import StateStore, open_store
from tests.worker.harness import BACKEND, STORE, apply, delivery, report

BACKENDS, TASKS = 20, 100


async def fill(store: StateStore) -> None:
    """Enough rows for PostgreSQL to have a choice, and to know what it has."""
    for number in range(BACKENDS):
        rows = [report(f"task-{i}", flow=f"flow-{i}", pod=f"osmo/{i}") for i in range(TASKS)]
        await store.handle_batch([delivery(row, backend=f"backend-{number}") for row in rows])
    if store._database.has_many_writers:
        await store._database.call(_in_transaction, store, lambda it: it.execute(text("ANALYZE")))


def _in_transaction(store: StateStore, work: Any) -> Any:
    with store._database.transaction() as connection:
        return work(connection)


@asynccontextmanager
async def plans(store: StateStore, table: str) -> AsyncIterator[list[str]]:
    """How the database does what is done here and looks for rows of the table."""
    done: dict[str, Any] = {}
    found: list[str] = []

    def before(_connection: Any, _cursor: Any, executed: str, values: Any, *_: Any) -> None:
        if executed.startswith(("SELECT", "UPDATE")) and f" {table}" in executed:
            done[executed] = values[0] if isinstance(values, list) else values

    def explain(connection: Connection) -> None:
        how = "EXPLAIN" if store._database.has_many_writers else "EXPLAIN QUERY PLAN"
        for statement, values in done.items():
            rows = connection.exec_driver_sql(f"{how} {statement}", values)
            found.append("\n".join(str(row[-1]) for row in rows))

    event.listen(store._database._engine, "before_cursor_execute", before)
    yield found
    event.remove(store._database._engine, "before_cursor_execute", before)
    await store._database.call(_in_transaction, store, explain)


async def test_a_batch_reads_no_table_of_tasks(store: StateStore) -> None:
    """Whether its tasks have other pods than before or not."""
    await fill(store)
    async with plans(store, "tasks") as found:
        await apply(store, report("task-7", flow="flow-7", version=(1, 2), pod="osmo/new"))
    assert not [plan for plan in found if "Seq Scan on tasks" in plan or plan == "SCAN tasks"]
    (task,) = await store.tasks(BACKEND, pod="osmo/new")
    assert task.resource_version == 2


@pytest.mark.parametrize(
    "narrowed",
    [
        {"backend": BACKEND, "pod": "osmo/7"},
        {"pod": "osmo/7"},
        {"workflow": "flow-7"},
        {"backend": BACKEND, "workflow": "flow-7"},
    ],
    ids=str,
)
async def test_a_narrowed_question_reads_what_it_answers(
    tmp_path: Path, narrowed: dict[str, str]
) -> None:
    """An index finds the pod or the workflow, not the backend alone. So it is where the database
    knows nothing of its rows: PostgreSQL decides by their number."""
    async with open_store(f"sqlite:///{tmp_path}/x.db", STORE) as store:
        await fill(store)
        async with plans(store, "tasks") as found:
            tasks = await store.tasks(**narrowed)  # type: ignore[arg-type]
    assert len(tasks) == (1 if "backend" in narrowed else BACKENDS)
    (plan,) = found
    assert ("(pod=?" if "pod" in narrowed else "workflow_uuid=?)") in plan


@pytest.mark.postgres
async def test_a_report_of_a_running_task_changes_no_index(postgres: str) -> None:
    """PostgreSQL writes every entry of a row anew where a column changes that an index or its
    condition names. Those of the key never do."""
    named = text(
        "SELECT DISTINCT attname FROM pg_depend JOIN pg_class ON pg_class.oid = objid"
        " JOIN pg_attribute ON attrelid = refobjid AND attnum = refobjsubid"
        " WHERE refobjid = 'tasks'::regclass AND relkind = 'i'"
    )
    async with open_store(postgres, STORE) as store:
        await store.check()
        found = await store._database.call(
            _in_transaction, store, lambda it: set(it.scalars(named).all())
        )
    assert found == {
        *("backend", "pod", "node"),
        *("ended", "concluded", "starting_since", "deleted_at"),
    }
