"""How a report becomes a row, and how rows join those that the table holds, in few statements.

A row has parts, and each part only ever moves up: the report that is highest in the part's order
gives all of the part's columns. So the same reports give the same row, in whatever order they come
and however often.
"""

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from operator import itemgetter
from types import MappingProxyType
from typing import Any, NamedTuple
from zlib import crc32

from sqlalchemy import (
    ARRAY,
    ClauseElement,
    Column,
    ColumnElement,
    Connection,
    Dialect,
    MetaData,
    Table,
    Text,
    Tuple,
    any_,
    bindparam,
    case,
    func,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateTable
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from osmo_transport import Delivery, Version
from osmo_worker.store.stamps import Stamp

Row = tuple[Any, ...]
"""The values of one row, or of its key, in the order of the table's columns."""

Columns = ReadOnlyColumnCollection[str, Any]
"""The columns of a table by name: those of the row that it holds, or of the row that joins it."""

ROWS = 100
"""In one statement to SQLite, at most. While the event loop is at work, a statement per row takes a
quarter more time, and of 500 rows a tenth more of the worker's CPU."""
VARIABLES = 32_766 if sqlite3.sqlite_version_info >= (3, 32) else 999
"""In one statement: what SQLite takes (https://sqlite.org/limits.html)."""
COPIED = 40
"""Rows from which on PostgreSQL takes them by COPY: the temporary table costs as much as some
twenty rows, and then each takes half the time, and a sixth of our CPU."""


class Inventory(NamedTuple):
    """The newest list of a backend's nodes."""

    stamp: Stamp
    nodes: frozenset[str]
    """Their names."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """What the rows of a batch depend on besides its reports."""

    now: str
    """The moment of writing, as the store writes it."""
    snapshots: Mapping[tuple[str, str], Version] = field(default_factory=dict)
    """By backend and kind: the version of the newest snapshot, or inventory."""
    inventories: Mapping[str, Inventory] = field(default_factory=dict)
    """By backend, where a report of a node is older than its newest inventory."""
    gone: Set[tuple[str, str]] = frozenset()
    """Backend and name of nodes that are gone and that pods of the batch name."""

    def left_out(self, delivery: Delivery, kind: str) -> bool:
        """Whether a newer snapshot of the kind has left the resource out."""
        newest = self.snapshots.get((delivery.backend, kind))
        return newest is not None and delivery.message.version.epoch < newest.epoch


class Join(NamedTuple):
    """What becomes of the row that the table holds when another one joins it."""

    changes: Mapping[str, ColumnElement[Any]]
    """By column, its new value; of those that are not named, the old one stays."""
    when: ColumnElement[bool]
    """Whether any part of the joining row is higher: else nothing is written."""
    follows: Mapping[str, str] = MappingProxyType({})
    """Columns that are searched for by an index, and those of `changes` that they are copies of.
    SQLite writes an index anew with each statement that names its column, so there they follow in
    a statement of their own, which finds by another index the few rows where they differ."""


@dataclass(frozen=True, kw_only=True)
class Resource:
    """A kind whose newest report of each key is kept as one row."""

    kind: str
    table: Table
    """Has the columns `epoch`, `resource_version`, `deleted_at` and `updated_at`; its key begins
    with `backend`."""
    join: Callable[[Columns, Columns], Join]
    """How a row joins the one that the table holds: takes the columns of the latter, then those of
    the former."""
    row: Callable[[Delivery, Any, Known], Row]
    """The row of a report: the delivery, its decoded body, and what is known. Values of the columns
    that are not computed, in their order."""
    has_snapshots: bool = False
    """Whether a `snapshot_end` of the kind marks what it left out as deleted."""
    existence_kind: str | None = None
    """The kind that reports existence alone; its body says whether the resource is `deleted`."""
    key: Callable[[Delivery, Any], Row] | None = None
    """The key of the row that a report of `existence_kind` is about."""


def existence(columns: Columns) -> Tuple:
    """What of a row orders the reports of its existence: of one version, the deletion is last."""
    return tuple_(columns.epoch, columns.resource_version, columns.deleted_at.is_not(None))


def taken(
    names: Iterable[str], when: ColumnElement[bool], old: Columns, new: Columns
) -> dict[str, ColumnElement[Any]]:
    """These columns from the joining row where `when` holds; for `Join.changes`."""
    return {name: case((when, new[name]), else_=old[name]) for name in names}


def compile_text(statement: ClauseElement, dialect: Dialect) -> str:
    """A statement that is the same for every batch, in the driver's own language: building and
    binding one costs more than SQLite takes to answer it."""
    rendered = {"render_postcompile": True}
    return str(statement.compile(dialect=dialect, compile_kwargs=rendered))


def among(column: ColumnElement[Any], dialect: Dialect) -> ColumnElement[bool]:
    """That a column of texts has one of those that `texts` makes the parameter of, however many."""
    if dialect.name == "postgresql":
        return column == any_(bindparam("texts", None, type_=ARRAY(Text)))
    return column.in_(
        select(func.json_each(bindparam("texts", None)).table_valued("value").c.value)
    )


def texts(names: Iterable[str], dialect: Dialect) -> str | list[str]:
    """The parameter of `among`."""
    return list(names) if dialect.name == "postgresql" else json.dumps(list(names))


class Upsert:
    """Inserts rows, and joins those whose key the table has with what it holds.

    A row gives the columns that are not computed, in their order, the key first. The statements are
    kept in the driver's own language: it takes rows as tuples at a fraction of what a statement
    object costs per row.

    SQLite's driver gives the interpreter's lock away with each statement and waits for it
    afterwards, which the event loop may hold for milliseconds. So the rows go by the hundreds
    there, and those that are left by ever fewer. To PostgreSQL many rows are copied, into a
    temporary table that the statement reads.

    Args:
        table: what the rows are of.
        join: how a row joins the one that the table holds: takes the columns of the latter, then
            those of the former.
        dialect: of the database.
    """

    def __init__(
        self, table: Table, join: Callable[[Columns, Columns], Join], dialect: Dialect
    ) -> None:
        self.table = table.name
        """What the rows are of."""
        on_sqlite = dialect.name == "sqlite"
        names = [column.name for column in table.c if column.computed is None]
        insert = sqlite.insert(table) if on_sqlite else postgresql.insert(table)
        joined = join(table.c, insert.excluded)
        one = _joining(insert, table, joined)
        self._key = itemgetter(slice(len(table.primary_key)))
        self._one = str(one.compile(dialect=dialect, column_keys=names))
        # Compiled by SQLAlchemy, those of many rows would take the start of a worker a second.
        values = f"({', '.join('?' * len(names))})"
        self._many = [
            (size, self._one.replace(values, ", ".join([values] * size), 1))
            for size in (_halved(min(ROWS, VARIABLES // len(names))) if on_sqlite else ())
        ]
        """Statements of several rows, the largest first."""
        self._copy = None if on_sqlite else _Copy(table, names, join, dialect)
        columns = table.c
        self._follow = [
            compile_text(
                update(table).where(columns[name] != columns[of]).values({name: columns[of]}),
                dialect,
            )
            for name, of in (joined.follows.items() if on_sqlite else ())
        ]

    def write(self, connection: Connection, rows: list[Row]) -> int:
        """Write rows, and sort them; how many changed nothing."""
        # Two workers that lock rows in the same order cannot wait for each other.
        rows.sort(key=self._key)
        if self._copy is not None and len(rows) >= COPIED and self._are_distinct(rows):
            return len(rows) - self._copy.write(connection, rows)
        changed = position = 0
        driver = connection.connection.driver_connection
        assert driver is not None
        for size, statement in self._many:
            while len(rows) - position >= size:
                values = tuple(chain.from_iterable(rows[position : position + size]))
                changed += driver.execute(statement, values).rowcount
                position += size
        if position < len(rows):
            changed += connection.exec_driver_sql(self._one, rows[position:]).rowcount
        for statement in self._follow:
            connection.exec_driver_sql(statement)
        return len(rows) - changed

    def _are_distinct(self, rows: list[Row]) -> bool:
        # One statement of PostgreSQL does not touch a row twice.
        return len(set(map(self._key, rows))) == len(rows)


def upsert(table: Table, join: Callable[[Columns, Columns], Join], dialect: Dialect) -> Upsert:
    """The `Upsert` of a dialect. It is compiled once for all stores of a process: that takes as
    long as applying many a batch, and programs that open a store for each of their tests open
    hundreds."""
    made: Callable[..., Dialect] = type(dialect)
    return _upsert(table, join, made, dialect.paramstyle)


@cache
def _upsert(
    table: Table,
    join: Callable[[Columns, Columns], Join],
    dialect: Callable[..., Dialect],
    paramstyle: str,
) -> Upsert:
    return Upsert(table, join, dialect(paramstyle=paramstyle))


def _joining(
    insert: sqlite.Insert | postgresql.Insert, table: Table, joined: Join
) -> ClauseElement:
    changes, when, follows = joined
    if isinstance(insert, postgresql.Insert):
        changes = {**changes, **{name: changes[of] for name, of in follows.items()}}
    key = [column.name for column in table.primary_key]
    return insert.on_conflict_do_update(index_elements=key, set_=changes, where=when)


class _Copy:
    """The way of many rows into PostgreSQL."""

    def __init__(
        self,
        table: Table,
        names: list[str],
        join: Callable[[Columns, Columns], Join],
        dialect: Dialect,
    ) -> None:
        types = ", ".join(f"{name} {table.c[name].type.compile(dialect)}" for name in names)
        # Whoever shares the connection, behind a pooler, may be of another release.
        given = Table(
            f"given_{table.name}_{crc32(types.encode()):08x}",
            MetaData(),
            *(Column(name, table.c[name].type) for name in names),
            prefixes=["TEMPORARY"],
            postgresql_on_commit="DELETE ROWS",
        )
        self._create = str(CreateTable(given, if_not_exists=True).compile(dialect=dialect))
        self._fill = f"COPY {given.name} ({', '.join(names)}) FROM STDIN"
        take = postgresql.insert(table).from_select(names, select(given))
        joining = _joining(take, table, join(table.c, take.excluded))
        self._take = str(joining.compile(dialect=dialect))

    def write(self, connection: Connection, rows: list[Row]) -> int:
        """Write rows; how many changed something."""
        connection.exec_driver_sql(self._create)
        driver = connection.connection.driver_connection
        assert driver is not None
        with closing(driver.cursor()) as cursor, cursor.copy(self._fill) as copy:
            for row in rows:
                copy.write_row(row)
        return connection.exec_driver_sql(self._take).rowcount


def _halved(size: int) -> Iterator[int]:
    while size > 1:
        yield size
        size //= 2
