"""What users ask: plain synchronous code for the database's thread."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec
from sqlalchemy import Column, ColumnElement, Connection, Select, Table, func, select, tuple_

from osmo_worker.store.kinds.backends import Backend
from osmo_worker.store.kinds.events import PodEvent
from osmo_worker.store.kinds.nodes import Node
from osmo_worker.store.kinds.tasks import Totals
from osmo_worker.store.kinds.usage import NodeUsage
from osmo_worker.store.schema import backends, node_usage, nodes, pod_events, snapshots, tasks

T = TypeVar("T", bound=msgspec.Struct)

LOOKED_AT = 10_000
"""Rows that one page looks at, for as long as which others wait: some ten milliseconds."""

Key = tuple[Any, ...]
"""Values of a row's primary key, or of its last columns."""


class Page(NamedTuple, Generic[T]):
    """Some of the rows that are asked for, in the order of their key."""

    rows: list[T]
    """Possibly none, although more follow: a page ends also where it has looked at many."""
    after: Key | None
    """What the next page begins behind; None: there is none."""


class Tallied(NamedTuple):
    """The live ones among some rows of a table, counted."""

    counts: list[tuple[str, Any, int]]
    """Backend, value of the column that they are told apart by, and how many have it."""
    after: Key | None
    """The key of the last row that was looked at; None: it was the last one of the table."""


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


def read_page(
    connection: Connection,
    row: type[T],
    table: Table,
    of: Sequence[str],
    wanted: Sequence[ColumnElement[bool]],
    *,
    after: Sequence[Any],
    limit: int,
) -> Page[T]:
    """Of the rows whose key begins with the values `of`, those that are `wanted`; behind the one
    whose key ends with `after`, unless that is empty. Looks at no more than `LOOKED_AT` of them."""
    key = list(table.primary_key)
    rest = key[len(of) :]
    begun: list[ColumnElement[bool]] = [
        column == value for column, value in zip(key, of, strict=False)
    ]
    last = _bound(connection, rest, begun, after, LOOKED_AT)
    within = [*_behind(rest, begun, after), *([tuple_(*rest) <= last] if last else [])]
    query = _columns(table, row).where(*within, *wanted).order_by(*rest).limit(limit)
    rows = _rows(connection, query, row)
    if len(rows) == limit:
        last = tuple(getattr(rows[-1], column.name) for column in rest)
    return Page(rows, last)


def read_tally(
    connection: Connection, column: Column[Any], after: Sequence[Any], limit: int
) -> Tallied:
    """Count the live ones among the `limit` rows that are next to the one with the key `after` by
    their backends and this column."""
    table = column.table
    key = list(table.primary_key)
    last = _bound(connection, key, [], after, limit)
    within = [*_behind(key, [], after), *([tuple_(*key) <= last] if last else [])]
    backend = table.c.backend
    query = select(backend, column, func.count()).where(*within, table.c.deleted_at.is_(None))
    counts = connection.execute(query.group_by(backend, column)).all()
    return Tallied([(row[0], row[1], row[2]) for row in counts], last)


def _bound(
    connection: Connection,
    key: Sequence[Column[Any]],
    begun: Sequence[ColumnElement[bool]],
    after: Sequence[Any],
    limit: int,
) -> Key | None:
    """The key of the row that is `limit` rows behind `after`; None: there are fewer."""
    query = (
        select(*key).where(*_behind(key, begun, after)).order_by(*key).offset(limit - 1).limit(1)
    )
    found = connection.execute(query).first()
    return None if found is None else tuple(found)


def _behind(
    key: Sequence[Column[Any]], begun: Sequence[ColumnElement[bool]], after: Sequence[Any]
) -> list[ColumnElement[bool]]:
    return [*begun, *([tuple_(*key) > tuple(after)] if after else [])]


def read_node(
    connection: Connection, backend: str, name: str
) -> tuple[Node | None, NodeUsage | None]:
    """See `StateStore.node`."""
    of_node, of_usage = (
        _columns(table, row).where(table.c.backend == backend, table.c.node == name)
        for table, row in ((nodes, Node), (node_usage, NodeUsage))
    )
    found, usage = _rows(connection, of_node, Node), _rows(connection, of_usage, NodeUsage)
    return next(iter(found), None), next(iter(usage), None)


def find_workflow(connection: Connection, workflow: str, limit: int) -> list[str]:
    """See `StateStore.backends_of`."""
    # So the key finds them, once for each backend.
    known = tasks.c.backend.in_(select(backends.c.name))
    query = select(tasks.c.backend).where(known, tasks.c.workflow_uuid == workflow).distinct()
    return list(connection.scalars(query.order_by(tasks.c.backend).limit(limit)))


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


def read_backends(connection: Connection, backend: str | None, limit: int | None) -> list[Backend]:
    """See `StateStore.backends`."""
    query = _columns(backends, Backend).order_by(backends.c.name).limit(limit)
    if backend is not None:
        query = query.where(backends.c.name == backend)
    return _rows(connection, query, Backend)


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
