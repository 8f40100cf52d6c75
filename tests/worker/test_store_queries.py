"""The queries of the README."""

import re
from pathlib import Path

import pytest

from osmo_worker.store import open_store
from osmo_worker.store.schema import metadata
from tests.worker.harness import STORE, apply, inventory, node_report, report, usage_report

README = Path(__file__).parents[2] / "services/worker/README.md"
QUERIES = [
    query.strip()
    for block in re.findall(r"```sql\n(.*?)```", README.read_text(), re.DOTALL)
    for query in block.split(";")
    if query.strip()
]


def test_every_table_has_a_query() -> None:
    """But those that are for the worker alone."""
    names = set(metadata.tables) - {"schema_version", "inventory_parts"}
    assert not [name for name in names if not any(f" {name}" in query for query in QUERIES)]


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.partition("\n")[0])
async def test_a_query_runs(query: str, tmp_path: Path) -> None:
    """On the tables as they are."""
    async with open_store(f"sqlite:///{tmp_path}/x.db", STORE) as store:
        await apply(store, report(), node_report(), usage_report(), inventory(version=(1, 1)))

        def run() -> None:
            with store._database.transaction(write=False) as connection:
                connection.exec_driver_sql(query).all()

        await store._database.call(run)
