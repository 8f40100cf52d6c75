"""Indexes of what is gone, by which it is removed when its time is over."""

import sqlalchemy as sa
from alembic import op


def upgrade() -> None:
    """See `osmo_worker.store.migrations`."""
    gone = sa.text("deleted_at IS NOT NULL")
    for table in ("tasks", "nodes", "node_usage"):
        op.create_index(
            f"{table}_gone", table, ["deleted_at"], sqlite_where=gone, postgresql_where=gone
        )
