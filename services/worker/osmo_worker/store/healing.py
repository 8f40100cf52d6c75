"""Taking back what no honest report of a backend can outrank: what has an epoch of the future."""

from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, delete, or_, update

from osmo_worker.store.schema import (
    backends,
    inventories,
    inventory_parts,
    node_usage,
    nodes,
    snapshots,
    tasks,
)

_BEGINNING = 0
"""An epoch, and a resource version, below those of every report."""


def heal(connection: Connection, backend: str, epoch: int) -> int:
    """Let every report of `backend` win that has a higher epoch than `epoch`, the newest that an
    honest listener may have been given; returns how many rows had a later one.

    A task keeps its row, for it may be all that is left of what users were told; a node and its
    usage are reported anew. What was reported honestly stays as it is.
    """
    healed = _heal_tasks(connection, backend, epoch)
    for table in (nodes, node_usage, inventories, inventory_parts, snapshots):
        wrong = and_(table.c.backend == backend, table.c.epoch > epoch)
        healed += connection.execute(delete(table).where(wrong)).rowcount
    registered_later = connection.execute(
        update(backends)
        .where(backends.c.name == backend, backends.c.registration_epoch > epoch)
        .values(
            last_heartbeat=None,
            registered_at=None,
            registration_epoch=None,
            registration_resource_version=None,
        )
    )
    current_later = connection.execute(
        update(backends)
        .where(backends.c.name == backend, backends.c.pods_current_epoch > epoch)
        .values(pods_current_epoch=None, pods_current_resource_version=None, pods_current_at=None)
    )
    return healed + registered_later.rowcount + current_later.rowcount


def _heal_tasks(connection: Connection, backend: str, epoch: int) -> int:
    columns = tasks.c
    exists_later = columns.epoch > epoch
    shows_later = columns.status_epoch > epoch
    values: dict[str, ColumnElement[Any]] = {
        "ended": and_(columns.ended, ~shows_later),
        "concluded": and_(columns.concluded, ~shows_later),
    }
    for later, names in (
        (exists_later, ("epoch", "resource_version")),
        (shows_later, ("status_epoch", "status_resource_version")),
    ):
        values |= {name: case((later, _BEGINNING), else_=columns[name]) for name in names}
    later_rows = and_(columns.backend == backend, or_(exists_later, shows_later))
    return connection.execute(update(tasks).where(later_rows).values(values)).rowcount
