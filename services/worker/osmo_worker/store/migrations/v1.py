"""The first tables: tasks, and what is known of backends and their snapshots."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

MOMENT = sa.Text().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")
DOCUMENT = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """See `osmo_worker.store.migrations`."""
    version = op.create_table("schema_version", sa.Column("version", sa.Integer, nullable=False))
    op.bulk_insert(version, [{"version": 1}])
    op.create_table(
        "backends",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("first_seen", MOMENT, nullable=False),
        sa.Column("last_seen", MOMENT, nullable=False),
    )
    op.create_table(
        "snapshots",
        sa.Column("backend", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("resource_version", sa.BigInteger, nullable=False),
        sa.Column("resources", sa.BigInteger, nullable=False),
        sa.Column("applied_at", MOMENT, nullable=False),
    )
    op.create_table(
        "tasks",
        sa.Column("backend", sa.Text, primary_key=True),
        sa.Column("workflow_uuid", sa.Text, primary_key=True),
        sa.Column("task_uuid", sa.Text, primary_key=True),
        sa.Column("retry_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("terminal", sa.Boolean, nullable=False),
        sa.Column("exit_code", sa.BigInteger),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("node", sa.Text, nullable=False),
        sa.Column("container", sa.Text, nullable=False),
        sa.Column("pod_ip", sa.Text, nullable=False),
        sa.Column("pod", sa.Text, nullable=False),
        sa.Column("conditions", DOCUMENT, nullable=False),
        sa.Column("created_at", MOMENT),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.Column("deleted_at", MOMENT),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("resource_version", sa.BigInteger, nullable=False),
        sa.Column("status_epoch", sa.BigInteger, nullable=False),
        sa.Column("status_resource_version", sa.BigInteger, nullable=False),
    )
