"""The built-in handler: the state that users query, in SQLite, PostgreSQL or memory."""

from osmo_transport import MissingExtraError

try:
    import sqlalchemy as _sqlalchemy  # noqa: F401 - so that its absence is told as what it is
except ModuleNotFoundError as exc:
    raise MissingExtraError(
        "the state store needs SQLAlchemy: pip install 'osmo-pipeline[store]'"
    ) from exc

from osmo_worker.store.state import StateStore, open_store
from osmo_worker.store.tasks import Task, Totals

__all__ = ("StateStore", "Task", "Totals", "open_store")
