"""The built-in handler: the state that users query, in SQLite, PostgreSQL or memory."""

from osmo_transport import MissingExtraError

try:
    import sqlalchemy as _sqlalchemy  # noqa: F401 - so that its absence is told as what it is
except ModuleNotFoundError as exc:
    raise MissingExtraError(
        "the state store needs SQLAlchemy: pip install 'osmo-pipeline[store]'"
    ) from exc

from osmo_worker.store.kinds.backends import Backend
from osmo_worker.store.kinds.events import PodEvent
from osmo_worker.store.kinds.nodes import Node
from osmo_worker.store.kinds.tasks import Task, Totals, shown_conditions
from osmo_worker.store.kinds.usage import NodeUsage
from osmo_worker.store.queries import Key, Page
from osmo_worker.store.retention import Purged
from osmo_worker.store.state import StateStore, open_store
from osmo_worker.store.tally import Tally

__all__ = (
    "Backend",
    "Key",
    "Node",
    "NodeUsage",
    "Page",
    "PodEvent",
    "Purged",
    "StateStore",
    "Tally",
    "Task",
    "Totals",
    "open_store",
    "shown_conditions",
)
