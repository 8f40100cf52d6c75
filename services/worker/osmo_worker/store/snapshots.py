"""What is known in full: the newest snapshot of each backend and kind, and what it left out.

Nothing is locked between the reports of two workers, a snapshot's end and an inventory: whoever
writes commits, and then looks again at what the others may have written meanwhile. So of two that
could not see each other, the one that commits last sees both. What is marked is marked in steps,
each a transaction of its own, and the note of a snapshot stands before its first one: a step that
is repeated, or comes after a crash, does no harm. Where a worker was killed before it looked again,
its reports put that right when they come again (see the joins in `osmo_worker.store.kinds`).
"""

from collections.abc import Generator, Iterable, Iterator
from itertools import chain
from operator import itemgetter
from typing import Any

from msgspec.structs import astuple
from sqlalchemy import (
    Connection,
    Table,
    and_,
    bindparam,
    delete,
    func,
    literal,
    select,
    tuple_,
    union_all,
    update,
)

from osmo_reports.bodies import NodeInventoryPart
from osmo_transport import Version
from osmo_worker.store.database import Database
from osmo_worker.store.kinds import nodes as nodes_kind
from osmo_worker.store.merge import (
    Columns,
    Inventory,
    Join,
    Row,
    among,
    compile_text,
    texts,
    upsert,
)
from osmo_worker.store.schema import inventories, inventory_parts, nodes, snapshots
from osmo_worker.store.values import json_text, without_nul
from osmo_worker.store.walk import STEP_ROWS, Walk, having_key, key_values

INVENTORY = "node_inventory"

READ_NAMES = 500_000
"""Names in the inventories that are remembered, some 100 bytes each; one inventory always is."""

Notes = dict[tuple[str, str], Version]
"""By backend and kind: the version of the newest snapshot, or of the newest inventory."""


class Snapshots:
    """Reads and writes the notes, and marks what they leave out; for use in the database's thread.

    Remembers the names in some inventories.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._read: dict[str, Inventory] = {}
        dialect = database.dialect
        columns = "backend", "kind", "epoch", "resource_version"
        of_nodes = inventories.c
        notes = union_all(
            select(*(snapshots.c[name] for name in columns)).where(
                among(snapshots.c.backend, dialect)
            ),
            select(
                of_nodes.backend,
                literal(INVENTORY, literal_execute=True),
                of_nodes.epoch,
                of_nodes.resource_version,
            ).where(among(of_nodes.backend, dialect)),
        )
        self._notes = compile_text(notes, dialect)
        self._snapshots = upsert(snapshots, _newest, dialect)
        self._inventories = upsert(inventories, _newest, dialect)
        self._parts = upsert(inventory_parts, _newest, dialect)

    def notes(self, connection: Connection, backends: Iterable[str]) -> Notes:
        """Those of these backends."""
        names = texts(backends, self._database.dialect)
        found = connection.exec_driver_sql(self._notes, (names, names))
        return {(backend, kind): Version(*version) for backend, kind, *version in found}

    def inventory(self, connection: Connection, backend: str, version: Version) -> Inventory:
        """The inventory of this backend, which has this version."""
        known = self._read.get(backend)
        if known is None or known.stamp.version != version:
            query = select(inventories.c.nodes).where(inventories.c.backend == backend)
            listed = connection.execute(query).scalar_one()
            known = Inventory(nodes_kind.stamp(backend, version), frozenset(listed))
            self._read.pop(backend, None)
            room = READ_NAMES - len(known.nodes)
            while self._read and sum(len(each.nodes) for each in self._read.values()) > room:
                del self._read[next(iter(self._read))]
            self._read[backend] = known
        return known

    def reported(
        self, backend: str, table: Table, epoch: int, count: int
    ) -> Generator[None, None, int]:
        """How many rows of a backend a report of this epoch or a newer one has given, in steps;
        counted up to `count`, or a little beyond."""
        walk, reported = Walk(table, backend, table.c.epoch >= epoch), 0
        while True:
            with self._database.transaction(write=False) as connection:
                reported += len(walk.step(connection))
            if walk.ended or reported >= count:
                return reported
            yield

    def note(self, row: Row) -> None:
        """Note a snapshot; the values of its row. An older one never replaces a newer one."""
        with self._database.transaction() as connection:
            self._snapshots.write(connection, [row])

    def note_inventory(self, backend: str, inventory: Inventory, now: str) -> None:
        """Note an inventory, likewise, and forget the parts of it and of older ones."""
        version = inventory.stamp.version
        row = (backend, *astuple(version), json_text(sorted(inventory.nodes)), now)
        columns = inventory_parts.c
        done = tuple_(columns.epoch, columns.resource_version) <= tuple_(*astuple(version))
        with self._database.transaction() as connection:
            self._inventories.write(connection, [row])
            connection.execute(delete(inventory_parts).where(columns.backend == backend, done))

    def add_part(self, backend: str, version: Version, part: NodeInventoryPart, now: str) -> None:
        """Keep a part of an inventory until the others are there."""
        names = json_text([without_nul(node) for node in part.nodes])
        row = (backend, part.part, part.parts, *astuple(version), now, names)
        with self._database.transaction() as connection:
            self._parts.write(connection, [row])

    def gathered(self, backend: str, version: Version, parts: int) -> Inventory | None:
        """The inventory of this version, if all its parts are there."""
        columns = inventory_parts.c
        same = and_(
            columns.backend == backend,
            tuple_(columns.epoch, columns.resource_version) == tuple_(*astuple(version)),
            columns.parts == parts,
        )
        with self._database.transaction(write=False) as connection:
            if connection.scalar(select(func.count()).where(same)) != parts:
                return None
            found = connection.execute(select(columns.nodes).where(same)).scalars()
            names = frozenset(chain.from_iterable(found))
            return Inventory(nodes_kind.stamp(backend, version), names)

    def mark_left_out(self, backend: str, table: Table, epoch: int, now: str) -> Iterator[None]:
        """Mark as deleted what the snapshot of this epoch left out, in steps."""
        outdated = and_(table.c.epoch < epoch, table.c.deleted_at.is_(None))
        walk = Walk(table, backend, outdated)
        marking = update(table).where(having_key(table), outdated)
        while True:
            with self._database.transaction() as connection:
                if keys := walk.step(connection):
                    marks = [key_values(table, key) for key in keys]
                    connection.execute(marking.values(deleted_at=now, updated_at=now), marks)
            if walk.ended:
                return
            yield

    def mark_nodes(self, backend: str, now: str) -> Iterator[None]:
        """Mark as deleted which nodes the newest inventory does not list, revive those that only an
        older one did not, in steps."""
        columns, last = nodes.c, ""
        marking = (
            update(nodes)
            .where(
                columns.backend == backend,
                columns.node == bindparam("its_node"),
                ~columns.removed,
                tuple_(columns.epoch, columns.resource_version)
                == tuple_(bindparam("its_epoch"), bindparam("its_version")),
            )
            .values(deleted_at=bindparam("mark"), updated_at=now)
        )
        while True:
            with self._database.transaction() as connection:
                # Held until the marks stand, so that those of an older inventory never come last.
                held = select(inventories.c.epoch, inventories.c.resource_version).where(
                    inventories.c.backend == backend
                )
                note = connection.execute(held.with_for_update()).one_or_none()
                if note is None:
                    return
                newest = self.inventory(connection, backend, Version(*note))
                rows = connection.execute(
                    select(
                        columns.node,
                        columns.removed,
                        columns.deleted_at.is_not(None),
                        columns.epoch,
                        columns.resource_version,
                    )
                    .where(columns.backend == backend, columns.node > last)
                    .order_by(columns.node)
                    .limit(STEP_ROWS)
                ).all()
                marks: list[dict[str, Any]] = []
                for node, removed, deleted, *version in rows:
                    reported = nodes_kind.stamp(backend, Version(*version))
                    gone = node not in newest.nodes and reported < newest.stamp
                    if not removed and gone != deleted:
                        marks.append(
                            {
                                "its_node": node,
                                "its_epoch": version[0],
                                "its_version": version[1],
                                "mark": now if gone else None,
                            }
                        )
                if marks:
                    marks.sort(key=itemgetter("its_node"))
                    connection.execute(marking, marks)
            if len(rows) < STEP_ROWS:
                return
            last = rows[-1].node
            yield


def _newest(old: Columns, new: Columns) -> Join:
    newer = tuple_(new.epoch, new.resource_version) > tuple_(old.epoch, old.resource_version)
    changed = [column.name for column in old if not column.primary_key]
    return Join(changes={name: new[name] for name in changed}, when=newer)
