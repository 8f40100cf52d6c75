"""Nodes, usage, events and heartbeats; and a task's own end apart from what a worker concluded."""

import sqlalchemy as sa
from alembic import op

from osmo_worker.store.migrations.v1 import DOCUMENT, MOMENT


def upgrade() -> None:
    """See `osmo_worker.store.migrations`."""
    _change_tasks()
    _change_backends()
    _add_tables()
    _add_indexes()


def _change_tasks() -> None:
    # What version 1 called terminal was always the pod's own end.
    op.alter_column("tasks", "terminal", new_column_name="ended")
    op.add_column(
        "tasks", sa.Column("concluded", sa.Boolean, nullable=False, server_default=sa.false())
    )
    op.add_column("tasks", sa.Column("status_since", MOMENT))
    # The status is at least as old as what the row last learned.
    op.execute("UPDATE tasks SET status_since = updated_at")
    terminal = sa.Column("terminal", sa.Boolean, sa.Computed("ended OR concluded", persisted=True))
    with op.batch_alter_table("tasks") as tasks:
        tasks.add_column(terminal)
        tasks.alter_column("status_since", existing_type=MOMENT, nullable=False)
        for name in ("node_epoch", "node_resource_version"):
            tasks.add_column(sa.Column(name, sa.BigInteger, server_default=sa.null()))


def _change_backends() -> None:
    for name in ("last_heartbeat", "registered_at"):
        op.add_column("backends", sa.Column(name, MOMENT))
    for name in ("cluster_uid", "namespace", "version", "node_condition_prefix"):
        op.add_column("backends", sa.Column(name, sa.Text))
    for name in ("registration_epoch", "registration_resource_version"):
        op.add_column("backends", sa.Column(name, sa.BigInteger))


def _add_tables() -> None:
    op.create_table(
        "inventories",
        sa.Column("backend", sa.Text, primary_key=True),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("resource_version", sa.BigInteger, nullable=False),
        sa.Column("nodes", DOCUMENT, nullable=False),
        sa.Column("applied_at", MOMENT, nullable=False),
    )
    op.create_table(
        "nodes",
        sa.Column("backend", sa.Text, primary_key=True),
        sa.Column("node", sa.Text, primary_key=True),
        sa.Column("hostname", sa.Text, nullable=False),
        sa.Column("available", sa.Boolean, nullable=False),
        sa.Column("conditions", DOCUMENT, nullable=False),
        sa.Column("allocatable", DOCUMENT, nullable=False),
        sa.Column("labels", DOCUMENT, nullable=False),
        sa.Column("taints", DOCUMENT, nullable=False),
        sa.Column("processed", DOCUMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.Column("deleted_at", MOMENT),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("resource_version", sa.BigInteger, nullable=False),
        sa.Column("removed", sa.Boolean, nullable=False),
        sa.Column("first_epoch", sa.BigInteger, nullable=False),
        sa.Column("first_resource_version", sa.BigInteger, nullable=False),
        sa.Column("lost_epoch", sa.BigInteger, nullable=False),
        sa.Column("lost_resource_version", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "node_usage",
        sa.Column("backend", sa.Text, primary_key=True),
        sa.Column("node", sa.Text, primary_key=True),
        sa.Column("hostname", sa.Text, nullable=False),
        sa.Column("usage", DOCUMENT, nullable=False),
        sa.Column("non_workflow_usage", DOCUMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.Column("deleted_at", MOMENT),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("resource_version", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "pod_events",
        sa.Column("backend", sa.Text, primary_key=True),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("pod", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("happened_at", MOMENT, nullable=False),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.Column("reported_at", MOMENT, nullable=False),
    )


def _add_indexes() -> None:
    starting = sa.text("status = 'INITIALIZING' AND deleted_at IS NULL")
    op.create_index(
        "tasks_starting",
        "tasks",
        ["status_since"],
        sqlite_where=starting,
        postgresql_where=starting,
    )
    if op.get_context().dialect.name == "postgresql":
        unfinished = sa.text("NOT ended AND NOT concluded AND deleted_at IS NULL")
        op.create_index("tasks_on_nodes", "tasks", ["node", "backend"], postgresql_where=unfinished)
    op.create_index("nodes_lost", "nodes", ["backend", "lost_epoch", "lost_resource_version"])
    op.create_index("nodes_hostname", "nodes", ["backend", "hostname"])
    op.create_index("pod_events_pod", "pod_events", ["pod", "happened_at"])
    op.create_index("pod_events_age", "pod_events", ["reported_at"])
