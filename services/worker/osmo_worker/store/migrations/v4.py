"""Since when a task starts, as a column of its own, and room for the next version of each row."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from osmo_worker.store.migrations.v1 import MOMENT


def upgrade() -> None:
    """See `osmo_worker.store.migrations`."""
    on_postgres = op.get_context().dialect.name == "postgresql"
    op.drop_index("tasks_starting", "tasks")
    since = (
        "CASE WHEN status = 'INITIALIZING' AND NOT ended AND NOT concluded AND deleted_at IS NULL"
        " THEN status_since END"
    )
    added: list[sa.Column[Any]] = [
        sa.Column("starting_since", MOMENT, sa.Computed(since, persisted=True))
    ]
    if not on_postgres:
        # A table with a computed column cannot be copied: its column is made anew.
        op.drop_column("tasks", "terminal")
        terminal = sa.Computed("ended OR concluded", persisted=True)
        added.append(sa.Column("terminal", sa.Boolean, terminal))
    with op.batch_alter_table("tasks") as tasks:
        for column in added:
            tasks.add_column(column)
    starts = sa.text("starting_since IS NOT NULL")
    op.create_index(
        "tasks_starting",
        "tasks",
        ["backend", "starting_since"],
        sqlite_where=starts,
        postgresql_where=starts,
    )
    if on_postgres:
        for table in ("tasks", "nodes", "node_usage"):
            op.execute(f"ALTER TABLE {table} SET (fillfactor = 85)")
