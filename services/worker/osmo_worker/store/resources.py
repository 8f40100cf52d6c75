"""How the reports of a kind become rows of a table, whatever the order in which they come.

A row joins what is known of one resource, and each part only ever moves up:

- *Its existence*: `(epoch, resource_version)` of the newest report and whether that report said
  that the resource is gone. A resource is also gone when a newer snapshot did not list it, which
  means: when `epoch` is below the epoch of the newest snapshot of its backend and kind. Both set
  `deleted_at`. A report of the snapshot's own epoch revives the row, however late it comes. A
  report of existence alone has a part in this only, and makes no row.
- *What it shows* (status, node, conditions, …): the report of the highest `rank`. For a task that
  is `(terminal, status_epoch, status_resource_version)`: a terminal status is never replaced by
  one that is not, whatever its version, and among equals the newer report wins.

Taking the highest of each part gives the same row for every order and any duplication of the same
reports. Nearly always one report is the highest of both, and the two versions are equal; they
part when a report that is not terminal follows a terminal one (it may still delete the row or
revive it) or when an older terminal report comes late (it may still change what the row shows).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Dialect, Table, Tuple, case, tuple_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from osmo_transport import Delivery
from osmo_worker.store.schema import tasks
from osmo_worker.store.tasks import task_key, task_row

Row = tuple[Any, ...]
"""The values of one row, in the order of the table's columns."""

EXISTENCE = ("epoch", "resource_version", "deleted_at")
"""The columns, in every resource's table, of its existence."""


@dataclass(frozen=True, kw_only=True)
class Resource:
    """A kind whose newest report of each key is kept as one row."""

    kind: str
    existence_kind: str
    """The kind that reports existence alone; its body says whether the resource is `deleted`."""
    table: Table
    """Has the columns of `EXISTENCE`, `backend` as the first of its key, and `updated_at`."""
    key: Callable[[Delivery, Any], Row]
    """The key of the row that a report of either kind is about."""
    rank: tuple[str, ...]
    """The columns that decide which report is shown, the weightiest first."""
    row: Callable[[Delivery, Any, str, bool], Row]
    """The row of a report: the delivery, its decoded body, the moment as ISO 8601 text, and whether
    a newer snapshot has left the resource out."""


RESOURCES = {
    resource.kind: resource
    for resource in (
        Resource(
            kind="update_pod",
            existence_kind="pod_exists",
            table=tasks,
            key=task_key,
            rank=("terminal", "status_epoch", "status_resource_version"),
            row=task_row,
        ),
    )
}
"""The kinds that the store keeps."""

EXISTENCE_KINDS = {resource.existence_kind: resource for resource in RESOURCES.values()}
"""The resources by the kind that reports existence alone."""


def existence(columns: ReadOnlyColumnCollection[str, Any]) -> Tuple:
    """What of a row orders the reports of its existence: of one version, the deletion is last."""
    return tuple_(columns.epoch, columns.resource_version, columns.deleted_at.is_not(None))


def compile_upsert(resource: Resource, dialect: Dialect) -> str:
    """The statement that joins a row with what the table holds, in the driver's own language: the
    driver takes rows as tuples at a fraction of what a statement object costs per row.

    It counts as having changed a row only when the report was the highest of at least one part.
    """
    table = resource.table
    keys = [column.name for column in table.primary_key]
    insert = postgresql.insert if dialect.name == "postgresql" else sqlite.insert
    statement = insert(table)
    old, new = table.c, statement.excluded
    shows_newer = tuple_(*(new[name] for name in resource.rank)) > tuple_(
        *(old[name] for name in resource.rank)
    )
    exists_newer = existence(new) > existence(old)
    changes: dict[str, ColumnElement[Any]] = {}
    for name in (column.name for column in table.c):
        if name == "updated_at":
            changes[name] = new[name]
        elif name not in keys:
            newer = exists_newer if name in EXISTENCE else shows_newer
            changes[name] = case((newer, new[name]), else_=old[name])
    upsert = statement.on_conflict_do_update(
        index_elements=keys, set_=changes, where=shows_newer | exists_newer
    )
    return str(upsert.compile(dialect=dialect))
