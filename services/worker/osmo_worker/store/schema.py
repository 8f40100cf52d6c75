"""The tables, the same in SQLite and PostgreSQL."""

from collections.abc import Mapping
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
)
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP
from sqlalchemy.types import TypeDecorator, TypeEngine

SCHEMA_VERSION = 6
"""Raised with every change of the tables, for which `osmo_worker.store.migrations` has a module."""


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

_STARTING_SINCE = (
    f"CASE WHEN status = '{INITIALIZING}' AND NOT ended AND NOT concluded AND deleted_at IS NULL"
    " THEN status_since END"
)

# PostgreSQL writes a row anew with each update, and all of its entries in indexes too unless there
# is room in the same page and no column changes that an index, or its condition, names.
_WITH_ROOM: Mapping[str, Any] = {"postgresql_with": {"fillfactor": 85}}

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
    Column("pods_current_epoch", BigInteger),
    Column("pods_current_resource_version", BigInteger),
    Column("pods_current_at", Moment),
    Column("watch_ages", _DOCUMENT),
)
"""Every backend that has reported anything; see `osmo_worker.store.kinds.backends`."""

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

inventory_parts = Table(
    "inventory_parts",
    metadata,
    Column("backend", Text, primary_key=True),
    Column("part", BigInteger, primary_key=True, autoincrement=False),
    Column("parts", BigInteger, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("resource_version", BigInteger, nullable=False),
    Column("applied_at", Moment, nullable=False),
    Column("nodes", _DOCUMENT, nullable=False),
)
"""Parts of inventories of which others are still on their way. Then they are the row of
`inventories`, and gone here."""

tasks = Table(
    "tasks",
    metadata,
    Column("backend", Text, primary_key=True),
    Column("workflow_uuid", Text, primary_key=True),
    Column("task_uuid", Text, primary_key=True),
    Column("retry_id", BigInteger, primary_key=True, autoincrement=False),
    Column("status", Text, nullable=False),
    Column("exit_code", BigInteger),
    Column("message", Text, nullable=False),
    Column("ended", Boolean, nullable=False),
    Column("concluded", Boolean, nullable=False, server_default=false()),
    Column("terminal", Boolean, Computed("ended OR concluded", persisted=True)),
    Column("reported_status", Text),
    Column("reported_exit_code", BigInteger),
    Column("reported_message", Text),
    Column("node", Text, nullable=False),
    Column("container", Text, nullable=False),
    Column("pod_ip", Text, nullable=False),
    Column("pod", Text, nullable=False),
    Column("reported_pod", Text, nullable=False, server_default=""),
    Column("conditions", _DOCUMENT, nullable=False),
    Column("created_at", Moment),
    Column("status_since", Moment, nullable=False),
    Column("starting_since", Moment, Computed(_STARTING_SINCE, persisted=True)),
    Column("updated_at", Moment, nullable=False),
    Column("deleted_at", Moment),
    Column("epoch", BigInteger, nullable=False),
    Column("resource_version", BigInteger, nullable=False),
    Column("status_epoch", BigInteger, nullable=False),
    Column("status_resource_version", BigInteger, nullable=False),
    **_WITH_ROOM,
)
"""One row per pod of a task; see `osmo_worker.store.kinds.tasks` for its versions."""

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
    **_WITH_ROOM,
)
"""One row per node; see `osmo_worker.store.kinds.nodes` for its versions."""

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
    **_WITH_ROOM,
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
"""One row per occurrence; see `osmo_worker.store.kinds.events`."""


ALIVE = tasks.c.deleted_at.is_(None)
"""The pod of the task is in the cluster."""
UNFINISHED = ~tasks.c.ended & ~tasks.c.concluded & ALIVE
"""The pod of the task is in the cluster, and has not ended."""
STARTING = tasks.c.starting_since.is_not(None)
"""Likewise, and its containers do not run yet."""
CONCLUDED = tasks.c.concluded & ALIVE
"""The pod of the task is in the cluster, and a worker concluded that it has failed."""
RENAMED = tasks.c.pod != tasks.c.reported_pod
"""The task has another pod than the one that it is found by."""
GONE = nodes.c.deleted_at.is_not(None)
"""The node is gone from the cluster."""

# A database takes a partial index only for a query with the very same words as its condition.
for _name, _where, *_columns in (
    ("tasks_starting", STARTING, tasks.c.backend, tasks.c.starting_since),
    ("tasks_concluded", CONCLUDED, tasks.c.backend, tasks.c.node),
    ("nodes_gone_of", GONE, nodes.c.backend),
):
    Index(_name, *_columns, sqlite_where=_where, postgresql_where=_where)
# SQLite writes an index anew with each update that names its column: it would pay for this one with
# a third of its speed, and reads a backend's tasks by their key when one of its nodes is lost.
Index("tasks_on_nodes", tasks.c.backend, tasks.c.node, postgresql_where=UNFINISHED).ddl_if(
    dialect="postgresql"
)
# Where PostgreSQL would not take it: it expects that nearly all rows are such.
Index("tasks_renamed", tasks.c.backend, sqlite_where=RENAMED).ddl_if(dialect="sqlite")
Index("tasks_pod", tasks.c.pod)
Index("nodes_hostname", nodes.c.backend, nodes.c.hostname)
Index("pod_events_pod", pod_events.c.pod, pod_events.c.happened_at)
Index("pod_events_age", pod_events.c.reported_at)
for _table in (tasks, nodes, node_usage):
    _gone = _table.c.deleted_at.is_not(None)
    Index(f"{_table.name}_gone", _table.c.deleted_at, sqlite_where=_gone, postgresql_where=_gone)
