"""The tables, the same in SQLite and PostgreSQL."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Computed,
    Dialect,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    false,
    literal_column,
    null,
)
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP
from sqlalchemy.types import TypeDecorator, TypeEngine

SCHEMA_VERSION = 2
"""Raised with every change of the tables; a worker refuses a database of another version."""


_FIRST = datetime.min.replace(tzinfo=UTC)
_LAST = datetime.max.replace(tzinfo=UTC)


class Moment(TypeDecorator[datetime]):
    """A moment in UTC: `timestamptz` in PostgreSQL, ISO 8601 text elsewhere, which SQLite's date
    functions read. It is written as ISO 8601 text and read as an aware datetime."""

    impl = String
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """See `TypeDecorator`."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(TIMESTAMP(timezone=True))
        return dialect.type_descriptor(Text())

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """See `TypeDecorator`. Without a zone it is UTC; what UTC's calendar does not hold is its
        first or last moment."""
        if value is None:
            return None
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        if moment.tzinfo is None:
            return moment.replace(tzinfo=UTC)
        try:
            return moment.astimezone(UTC)
        except OverflowError:
            return _FIRST if moment.year == _FIRST.year else _LAST


metadata = MetaData()

_DOCUMENT = JSON().with_variant(JSONB(), "postgresql")

INITIALIZING = "INITIALIZING"
"""The status of a pod whose containers do not run yet."""

schema_version = Table("schema_version", metadata, Column("version", Integer, nullable=False))
"""One row."""

backends = Table(
    "backends",
    metadata,
    Column("name", Text, primary_key=True),
    Column("first_seen", Moment, nullable=False),
    Column("last_seen", Moment, nullable=False),
    Column("last_heartbeat", Moment),
    Column("cluster_uid", Text),
    Column("namespace", Text),
    Column("version", Text),
    Column("node_condition_prefix", Text),
    Column("registered_at", Moment),
    Column("registration_epoch", BigInteger),
    Column("registration_resource_version", BigInteger),
)
"""Every backend that has reported anything; see `osmo_worker.store.backends`."""

snapshots = Table(
    "snapshots",
    metadata,
    Column("backend", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("resource_version", BigInteger, nullable=False),
    Column("resources", BigInteger, nullable=False),
    Column("applied_at", Moment, nullable=False),
)
"""The newest full snapshot of each backend and kind that was applied."""

inventories = Table(
    "inventories",
    metadata,
    Column("backend", Text, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("resource_version", BigInteger, nullable=False),
    Column("nodes", _DOCUMENT, nullable=False),
    Column("applied_at", Moment, nullable=False),
)
"""The newest inventory of each backend's nodes; `nodes` are their names."""

tasks = Table(
    "tasks",
    metadata,
    Column("backend", Text, primary_key=True),
    Column("workflow_uuid", Text, primary_key=True),
    Column("task_uuid", Text, primary_key=True),
    Column("retry_id", BigInteger, primary_key=True, autoincrement=False),
    Column("status", Text, nullable=False),
    Column("ended", Boolean, nullable=False),
    Column("concluded", Boolean, nullable=False, server_default=false()),
    Column("terminal", Boolean, Computed("ended OR concluded", persisted=True)),
    Column("exit_code", BigInteger),
    Column("message", Text, nullable=False),
    Column("node", Text, nullable=False),
    Column("container", Text, nullable=False),
    Column("pod_ip", Text, nullable=False),
    Column("pod", Text, nullable=False),
    Column("conditions", _DOCUMENT, nullable=False),
    Column("created_at", Moment),
    Column("status_since", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
    Column("deleted_at", Moment),
    Column("epoch", BigInteger, nullable=False),
    Column("resource_version", BigInteger, nullable=False),
    Column("status_epoch", BigInteger, nullable=False),
    Column("status_resource_version", BigInteger, nullable=False),
    Column("node_epoch", BigInteger, server_default=null()),
    Column("node_resource_version", BigInteger, server_default=null()),
)
"""One row per pod of a task; see `osmo_worker.store.tasks` for its versions."""

nodes = Table(
    "nodes",
    metadata,
    Column("backend", Text, primary_key=True),
    Column("node", Text, primary_key=True),
    Column("hostname", Text, nullable=False),
    Column("available", Boolean, nullable=False),
    Column("conditions", _DOCUMENT, nullable=False),
    Column("allocatable", _DOCUMENT, nullable=False),
    Column("labels", _DOCUMENT, nullable=False),
    Column("taints", _DOCUMENT, nullable=False),
    Column("processed", _DOCUMENT, nullable=False),
    Column("updated_at", Moment, nullable=False),
    Column("deleted_at", Moment),
    Column("epoch", BigInteger, nullable=False),
    Column("resource_version", BigInteger, nullable=False),
    Column("removed", Boolean, nullable=False),
    Column("first_epoch", BigInteger, nullable=False),
    Column("first_resource_version", BigInteger, nullable=False),
    Column("lost_epoch", BigInteger, nullable=False),
    Column("lost_resource_version", BigInteger, nullable=False),
)
"""One row per node; see `osmo_worker.store.nodes` for its versions."""

node_usage = Table(
    "node_usage",
    metadata,
    Column("backend", Text, primary_key=True),
    Column("node", Text, primary_key=True),
    Column("hostname", Text, nullable=False),
    Column("usage", _DOCUMENT, nullable=False),
    Column("non_workflow_usage", _DOCUMENT, nullable=False),
    Column("updated_at", Moment, nullable=False),
    Column("deleted_at", Moment),
    Column("epoch", BigInteger, nullable=False),
    Column("resource_version", BigInteger, nullable=False),
)
"""One row per node that has or had pods: what they ask for."""

pod_events = Table(
    "pod_events",
    metadata,
    Column("backend", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("pod", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("happened_at", Moment, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("reported_at", Moment, nullable=False),
)
"""One row per occurrence; see `osmo_worker.store.events`."""


ALIVE = tasks.c.deleted_at.is_(None)
"""The pod of the task is in the cluster."""
UNFINISHED = ~tasks.c.ended & ~tasks.c.concluded & ALIVE
"""The pod of the task is in the cluster, and has not ended."""
STARTING = (tasks.c.status == literal_column(f"'{INITIALIZING}'")) & ALIVE
"""Likewise, and its containers do not run yet."""

# A database takes a partial index only for a query with the very same words as its condition.
Index("tasks_starting", tasks.c.status_since, sqlite_where=STARTING, postgresql_where=STARTING)
# SQLite would pay for it with a fifth of its speed, and reads the whole table as fast as it can be
# read when a node is lost.
Index("tasks_on_nodes", tasks.c.node, tasks.c.backend, postgresql_where=UNFINISHED).ddl_if(
    dialect="postgresql"
)
Index("nodes_lost", nodes.c.backend, nodes.c.lost_epoch, nodes.c.lost_resource_version)
Index("nodes_hostname", nodes.c.backend, nodes.c.hostname)
Index("pod_events_pod", pod_events.c.pod, pod_events.c.happened_at)
Index("pod_events_age", pod_events.c.reported_at)
