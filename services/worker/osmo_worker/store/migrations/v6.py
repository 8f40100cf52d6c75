"""How blind the listener of a backend says that it is."""

import sqlalchemy as sa
from alembic import op

from osmo_worker.store.migrations.v1 import DOCUMENT


def upgrade() -> None:
    """See `osmo_worker.store.migrations`."""
    op.add_column("backends", sa.Column("watch_ages", DOCUMENT))
