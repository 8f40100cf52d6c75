"""How a report becomes a row, and a row joins what is known already, in one statement.

A row has parts, and each part only ever moves up: the report that is highest in the part's order
gives all of the part's columns. So the same reports give the same row, in whatever order they come
and however often.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import ClauseElement, ColumnElement, Dialect, Table, Tuple, case, tuple_
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from osmo_transport import Delivery, Version

Row = tuple[Any, ...]
"""The values of one row, or of its key, in the order of the table's columns."""

Columns = ReadOnlyColumnCollection[str, Any]
"""The columns of a table by name: those of the row that it holds, or of the row that joins it."""


class Inventory(NamedTuple):
    """The newest list of a backend's nodes."""

    version: Version
    nodes: frozenset[str]
    """Their names; empty where nothing that is older than the list has to be looked up."""


class Known(NamedTuple):
    """What the rows of a batch depend on besides its reports."""

    now: str
    """The moment of writing, as the store writes it."""
    snapshots: Mapping[tuple[str, str], Version]
    """By backend and kind: the version of the newest snapshot."""
    inventories: Mapping[str, Inventory]
    """By backend."""

    def left_out(self, delivery: Delivery, kind: str) -> bool:
        """Whether a newer snapshot of the kind has left the resource out."""
        newest = self.snapshots.get((delivery.backend, kind))
        return newest is not None and delivery.message.version[0] < newest[0]


class Join(NamedTuple):
    """What becomes of the row that the table holds when another one joins it."""

    changes: Mapping[str, ColumnElement[Any]]
    """By column, its new value; of those that are not named, the old one stays."""
    when: ColumnElement[bool]
    """Whether any part of the joining row is higher: else nothing is written."""


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
    that have no default, in their order."""
    has_snapshots: bool = False
    """Whether a `snapshot_end` of the kind marks what it left out as deleted."""
    existence_kind: str | None = None
    """The kind that reports existence alone; its body says whether the resource is `deleted`."""
    key: Callable[[Delivery, Any], Row] = lambda delivery, body: (delivery.backend, body.node)
    """The key of the row that a report of either kind is about."""


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
