"""What users ask: plain synchronous code for the database's thread."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar

import msgspec
from sqlalchemy import ColumnElement, Connection, Select, Table, func, select

from osmo_worker.store.kinds.backends import Backend
from osmo_worker.store.kinds.events import PodEvent
from osmo_worker.store.kinds.tasks import Totals
from osmo_worker.store.schema import backends, pod_events, snapshots, tasks

T = TypeVar("T", bound=msgspec.Struct)

MOST_SILENCES = 10_000
"""Backends of which it is told when they were last heard of: more than a queue knows."""


def read_resources(
    connection: Connection,
    table: Table,
    row: type[T],
    where: Mapping[str, str | None],
    live_only: bool,
) -> list[T]:
    """The rows of a table of `RESOURCES` in the order of their key: those that have the values
    `where` has by column, as far as they are not None."""
    query = _columns(table, row).order_by(*table.primary_key)
    for name, value in where.items():
        if value is not None:
            column: ColumnElement[Any] = table.c[name]
            if name == "backend" and where.get("pod") is not None:
                # Or SQLite reads all of the backend, which has the right order, to find one pod.
                column = column.concat("")
            query = query.where(column == value)
    if where["backend"] is None and where.get("workflow_uuid") is not None:
        # So the key finds them, once for each backend; an index would cost every new task more.
        query = query.where(table.c.backend.in_(select(backends.c.name)))
    if live_only:
        query = query.where(table.c.deleted_at.is_(None))
    return _rows(connection, query, row)


def read_pod_events(
    connection: Connection, pod: str, backend: str | None, limit: int
) -> list[PodEvent]:
    """See `StateStore.pod_events`."""
    columns = pod_events.c
    query = _columns(pod_events, PodEvent).where(columns.pod == pod)
    if backend is not None:
        query = query.where(columns.backend == backend)
    query = query.order_by(columns.happened_at.desc(), columns.backend, columns.id)
    return _rows(connection, query.limit(limit), PodEvent)


def read_backends(connection: Connection) -> list[Backend]:
    """See `StateStore.backends`."""
    return _rows(connection, _columns(backends, Backend).order_by(backends.c.name), Backend)


def read_heartbeats(connection: Connection) -> dict[str, datetime]:
    """By backend, when its last heartbeat was sent, the newest first."""
    columns = backends.c
    query = select(columns.name, columns.last_heartbeat).where(columns.last_heartbeat.is_not(None))
    query = query.order_by(columns.last_heartbeat.desc()).limit(MOST_SILENCES)
    return {row.name: row.last_heartbeat for row in connection.execute(query)}


def read_epochs(connection: Connection) -> dict[str, int]:
    """See `StateStore.epochs`."""
    of_snapshots = select(snapshots.c.backend, func.max(snapshots.c.epoch)).group_by(
        snapshots.c.backend
    )
    of_heartbeats = select(backends.c.name, backends.c.registration_epoch).where(
        backends.c.registration_epoch.is_not(None)
    )
    epochs: dict[str, int] = {}
    for query in (of_snapshots, of_heartbeats):
        for backend, epoch in connection.execute(query):
            epochs[backend] = max(epoch, epochs.get(backend, 0))
    return epochs


def read_counts(connection: Connection, backend: str | None) -> dict[str, int]:
    """See `StateStore.counts`."""
    query = (
        select(tasks.c.status, func.count())
        .where(tasks.c.deleted_at.is_(None))
        .group_by(tasks.c.status)
        .order_by(tasks.c.status)
    )
    if backend is not None:
        query = query.where(tasks.c.backend == backend)
    return {row[0]: row[1] for row in connection.execute(query)}


def read_totals(connection: Connection, backend: str | None) -> Totals:
    """See `StateStore.totals`."""
    columns, workflows = tasks.c, func.count(tasks.c.workflow_uuid.distinct())
    by_status = select(columns.status, func.count(), func.count(columns.deleted_at))
    by_workflow = select(workflows, workflows.filter(~columns.terminal))
    if backend is not None:
        by_status = by_status.where(columns.backend == backend)
        by_workflow = by_workflow.where(columns.backend == backend)
    rows = connection.execute(by_status.group_by(columns.status)).all()
    known, running = connection.execute(by_workflow).one()
    return Totals(
        statuses={status: count for status, count, _ in rows},
        deleted=sum(deleted for *_, deleted in rows),
        workflows=known,
        running=running,
    )


def _columns(table: Table, row: type[msgspec.Struct]) -> Select[Any]:
    return select(*(table.c[name] for name in row.__struct_fields__))


def _rows(connection: Connection, query: Select[Any], row: type[T]) -> list[T]:
    names = row.__struct_fields__
    found = connection.execute(query).all()
    return [msgspec.convert(dict(zip(names, values, strict=True)), row) for values in found]
