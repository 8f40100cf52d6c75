"""The newest inventory of each backend's nodes.

It is kept, because reports that are older may come later. An older inventory changes nothing once a
newer one is applied.
"""

from sqlalchemy import Connection, Dialect, bindparam, select, update
from sqlalchemy.dialects import postgresql, sqlite

from osmo_transport import Version
from osmo_worker.store.joining import Inventory
from osmo_worker.store.lost_nodes import Losses, called_by_tasks, fail_tasks_on, lost_by_inventory
from osmo_worker.store.schema import inventories, nodes

INVENTORY = "node_inventory"


class Inventories:
    """Reads and applies inventories; for use in the database's thread.

    Remembers the names in one inventory of each backend.
    """

    def __init__(self, dialect: Dialect) -> None:
        self._read: dict[str, Inventory] = {}
        insert = postgresql.insert if dialect.name == "postgresql" else sqlite.insert
        statement = insert(inventories)
        changes = ("epoch", "resource_version", "nodes", "applied_at")
        self._note = statement.on_conflict_do_update(
            index_elements=["backend"], set_={name: statement.excluded[name] for name in changes}
        )

    def read(self, connection: Connection, backend: str, version: Version) -> Inventory:
        """The inventory of this backend, which has this version."""
        known = self._read.get(backend)
        if known is None or known.version != version:
            query = select(inventories.c.nodes).where(inventories.c.backend == backend)
            listed = connection.execute(query).scalar_one()
            known = self._read[backend] = Inventory(version, frozenset(listed))
        return known

    def apply(self, connection: Connection, backend: str, inventory: Inventory, now: str) -> None:
        """Delete the nodes that the inventory does not list, revive those that only an older one
        did not, and fail the tasks on nodes that are lost.

        The caller holds the exclusive lock of the backend, and has seen that no inventory is newer.
        """
        self._mark_nodes(connection, backend, inventory, now)
        called = called_by_tasks(connection, backend)
        losses = Losses(lost_by_inventory(connection, backend, inventory, called))
        if losses:
            fail_tasks_on(connection, backend, losses[backend], now)
        note = {
            "backend": backend,
            "epoch": inventory.version.epoch,
            "resource_version": inventory.version.revision,
            "nodes": sorted(inventory.nodes),
            "applied_at": now,
        }
        connection.execute(self._note, note)

    def _mark_nodes(
        self, connection: Connection, backend: str, inventory: Inventory, now: str
    ) -> None:
        columns = nodes.c
        reported = connection.execute(
            select(
                columns.node,
                columns.deleted_at.is_not(None),
                columns.epoch,
                columns.resource_version,
            ).where(columns.backend == backend, ~columns.removed)
        )
        marks = []
        for node, deleted, *version in reported:
            gone = node not in inventory.nodes and tuple(version) < inventory.version
            if gone != deleted:
                marks.append({"its_node": node, "mark": now if gone else None})
        if marks:
            connection.execute(
                update(nodes)
                .where(columns.backend == backend, columns.node == bindparam("its_node"))
                .values(deleted_at=bindparam("mark"), updated_at=now),
                marks,
            )
