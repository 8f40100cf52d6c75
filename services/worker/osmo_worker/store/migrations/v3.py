"""What was reported beside what a worker concluded; nothing that compares nodes with pods; and
indexes for every question."""

import sqlalchemy as sa
from alembic import op

from osmo_worker.store.migrations.v1 import MOMENT


def upgrade() -> None:
    """See `osmo_worker.store.migrations`."""
    _change_tables()
    _change_indexes()


def _change_tables() -> None:
    op.drop_index("nodes_lost", "nodes")
    if op.get_context().dialect.name == "postgresql":
        op.drop_index("tasks_on_nodes", "tasks")
    op.drop_index("tasks_starting", "tasks")
    for name in ("pods_current_epoch", "pods_current_resource_version"):
        op.add_column("backends", sa.Column(name, sa.BigInteger))
    op.add_column("backends", sa.Column("pods_current_at", MOMENT))
    op.add_column("tasks", sa.Column("reported_status", sa.Text))
    op.add_column("tasks", sa.Column("reported_exit_code", sa.BigInteger))
    op.add_column("tasks", sa.Column("reported_message", sa.Text))
    op.add_column("tasks", sa.Column("reported_pod", sa.Text, nullable=False, server_default=""))
    op.execute("UPDATE tasks SET reported_pod = pod")
    for name in ("node_epoch", "node_resource_version"):
        op.drop_column("tasks", name)
    for order in ("first", "lost"):
        for name in (f"{order}_epoch", f"{order}_resource_version"):
            op.drop_column("nodes", name)


def _change_indexes() -> None:
    # In the words in which each of them is asked, or SQLite does not take the index.
    on_postgres = op.get_context().dialect.name == "postgresql"
    no, yes = ("NOT {}", "{}") if on_postgres else ("{} = 0", "{} = 1")
    unfinished = f"{no.format('ended')} AND {no.format('concluded')} AND deleted_at IS NULL"
    gone = "deleted_at IS NOT NULL"
    for name, table, columns, where in (
        ("tasks_gone", "tasks", ["deleted_at"], gone),
        ("nodes_gone", "nodes", ["deleted_at"], gone),
        ("node_usage_gone", "node_usage", ["deleted_at"], gone),
        ("nodes_gone_of", "nodes", ["backend"], gone),
        (
            "tasks_starting",
            "tasks",
            ["backend", "status_since"],
            f"status = 'INITIALIZING' AND {unfinished}",
        ),
        (
            "tasks_concluded",
            "tasks",
            ["backend", "node"],
            f"{yes.format('concluded')} AND deleted_at IS NULL",
        ),
    ):
        condition = sa.text(where)
        op.create_index(name, table, columns, sqlite_where=condition, postgresql_where=condition)
    op.create_index("tasks_pod", "tasks", ["pod"])
    if on_postgres:
        condition = sa.text(unfinished)
        op.create_index("tasks_on_nodes", "tasks", ["backend", "node"], postgresql_where=condition)
    else:
        condition = sa.text("pod != reported_pod")
        op.create_index("tasks_renamed", "tasks", ["backend"], sqlite_where=condition)
