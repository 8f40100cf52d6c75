"""The built-in handler: the state that users query, in SQLite, PostgreSQL or memory."""

from osmo_transport import MissingExtraError

try:
    import sqlalchemy as _sqlalchemy  # noqa: F401 - so that its absence is told as what it is
except ModuleNotFoundError as exc:
    raise MissingExtraError(
        "the state store needs SQLAlchemy: pip install 'osmo-pipeline[store]'"
    ) from exc

from osmo_worker.store.backends import Backend
from osmo_worker.store.events import PodEvent
from osmo_worker.store.nodes import Node
from osmo_worker.store.state import StateStore, open_store
from osmo_worker.store.tasks import Task, Totals, shown_conditions
from osmo_worker.store.usage import NodeUsage

__all__ = (
    "Backend",
    "Node",
    "NodeUsage",
    "PodEvent",
    "StateStore",
    "Task",
    "Totals",
    "open_store",
    "shown_conditions",
)
