"""The tables, the same in SQLite and PostgreSQL."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP
from sqlalchemy.types import TypeDecorator, TypeEngine

SCHEMA_VERSION = 1
"""Raised with every change of the tables; a worker refuses a database of another version."""


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
        """See `TypeDecorator`."""
        if value is None:
            return None
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        return moment.astimezone(UTC)


metadata = MetaData()

schema_version = Table("schema_version", metadata, Column("version", Integer, nullable=False))
"""One row."""

backends = Table(
    "backends",
    metadata,
    Column("name", Text, primary_key=True),
    Column("first_seen", Moment, nullable=False),
    Column("last_seen", Moment, nullable=False),
)
"""Every backend that has reported anything; `last_seen` is when its last batch was applied."""

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

tasks = Table(
    "tasks",
    metadata,
    Column("backend", Text, primary_key=True),
    Column("workflow_uuid", Text, primary_key=True),
    Column("task_uuid", Text, primary_key=True),
    Column("retry_id", BigInteger, primary_key=True, autoincrement=False),
    Column("status", Text, nullable=False),
    Column("terminal", Boolean, nullable=False),
    Column("exit_code", BigInteger),
    Column("message", Text, nullable=False),
    Column("node", Text, nullable=False),
    Column("container", Text, nullable=False),
    Column("pod_ip", Text, nullable=False),
    Column("pod", Text, nullable=False),
    Column("conditions", JSON().with_variant(JSONB(), "postgresql"), nullable=False),
    Column("created_at", Moment),
    Column("updated_at", Moment, nullable=False),
    Column("deleted_at", Moment),
    Column("epoch", BigInteger, nullable=False),
    Column("resource_version", BigInteger, nullable=False),
    Column("status_epoch", BigInteger, nullable=False),
    Column("status_resource_version", BigInteger, nullable=False),
)
"""One row per pod of a task; see `osmo_worker.store.resources` for the two versions."""
