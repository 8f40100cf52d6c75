"""Taking back what no honest report of a backend can outrank: what has an epoch of the future."""

from collections.abc import Generator
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Delete, Table, Update, case, delete, or_, update

from osmo_worker.store.database import Database
from osmo_worker.store.schema import backends, inventories, node_usage, nodes, snapshots, tasks
from osmo_worker.store.walk import Walk, having_key, key_values

_BEGINNING = 0
"""An epoch, and a resource version, below those of every report."""


class _Cure(NamedTuple):
    """What is done about rows of the future."""

    table: Table
    later: ColumnElement[bool]
    """Which they are."""
    change: Update | Delete
    """Takes them back; without a condition."""


def heal(database: Database, backend: str, epoch: int) -> Generator[None, None, int]:
    """Let every report of `backend` win that has a higher epoch than `epoch`, the newest that an
    honest listener may have been given; returns how many rows had a later one. It goes in steps, of
    which each is a transaction; after a crash midway, begin again.

    A task keeps its row, for it may be all that is left of what users were told; a node and its
    usage are reported anew. What was reported honestly stays as it is.
    """
    # First, as every report of an older epoch than a snapshot's is taken for left out.
    with database.transaction() as connection:
        healed = _heal_notes(connection, backend, epoch)
    for table, later, change in (
        _tasks(epoch),
        _removal(nodes, epoch),
        _removal(node_usage, epoch),
    ):
        walk = Walk(table, backend, later)
        statement = change.where(having_key(table), later)
        while not walk.ended:
            yield
            with database.transaction() as connection:
                if keys := walk.step(connection):
                    rows = [key_values(table, key) for key in keys]
                    healed += connection.execute(statement, rows).rowcount
    return healed


def _heal_notes(connection: Connection, backend: str, epoch: int) -> int:
    """Take back what is known of the backend as a whole; how many rows that were."""
    columns = backends.c
    statements: tuple[Update | Delete, ...] = (
        *(
            delete(table).where(table.c.backend == backend, table.c.epoch > epoch)
            for table in (snapshots, inventories)
        ),
        update(backends)
        .where(columns.name == backend, columns.registration_epoch > epoch)
        .values(
            last_heartbeat=None,
            registered_at=None,
            registration_epoch=None,
            registration_resource_version=None,
        ),
        update(backends)
        .where(columns.name == backend, columns.pods_current_epoch > epoch)
        .values(pods_current_epoch=None, pods_current_resource_version=None, pods_current_at=None),
    )
    return sum(connection.execute(statement).rowcount for statement in statements)


def _tasks(epoch: int) -> _Cure:
    columns = tasks.c
    exists_later = columns.epoch > epoch
    shows_later = columns.status_epoch > epoch
    values: dict[str, ColumnElement[Any]] = {
        "ended": columns.ended & ~shows_later,
        "concluded": columns.concluded & ~shows_later,
    }
    for later, names in (
        (exists_later, ("epoch", "resource_version")),
        (shows_later, ("status_epoch", "status_resource_version")),
    ):
        values |= {name: case((later, _BEGINNING), else_=columns[name]) for name in names}
    return _Cure(tasks, or_(exists_later, shows_later), update(tasks).values(values))


def _removal(table: Table, epoch: int) -> _Cure:
    return _Cure(table, table.c.epoch > epoch, delete(table))
