"""The parts of inventories that are not complete."""

import sqlalchemy as sa
from alembic import op

from osmo_worker.store.migrations.v1 import DOCUMENT, MOMENT


def upgrade() -> None:
    """See `osmo_worker.store.migrations`."""
    op.create_table(
        "inventory_parts",
        sa.Column("backend", sa.Text, primary_key=True),
        sa.Column("part", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("parts", sa.BigInteger, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("resource_version", sa.BigInteger, nullable=False),
        sa.Column("applied_at", MOMENT, nullable=False),
        sa.Column("nodes", DOCUMENT, nullable=False),
    )
