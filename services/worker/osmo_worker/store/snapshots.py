"""The end of a snapshot: what it left out is deleted."""

from sqlalchemy import func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from osmo_reports.bodies import SnapshotEnd
from osmo_transport import Ack, Delivery, Outcome, Retry
from osmo_worker.config import StoreConfig
from osmo_worker.store.resources import RESOURCES
from osmo_worker.store.schema import snapshots
from osmo_worker.store.writing import Writer


class SnapshotEnds:
    """Applies ends of snapshots; for use in the database's thread."""

    def __init__(self, writer: Writer, config: StoreConfig) -> None:
        self._writer = writer
        self._config = config
        dialect = postgresql if writer.database.dialect.name == "postgresql" else sqlite
        end = dialect.insert(snapshots)
        changes = ("epoch", "resource_version", "resources", "applied_at")
        self._note = end.on_conflict_do_update(
            index_elements=["backend", "kind"], set_={name: end.excluded[name] for name in changes}
        )

    def apply(self, delivery: Delivery, body: SnapshotEnd) -> tuple[Outcome, int]:
        """Mark as deleted what the snapshot left out; the outcome, and 1 if it was stale.

        Raises:
            RowRefusedError: the database cannot hold the note of it.
        """
        backend, (epoch, resource_version) = delivery.backend, delivery.message.version
        table = RESOURCES[body.kind].table
        columns = table.c
        with self._writer.conclusion(backend) as (connection, now):
            known = self._writer.newest(connection).get((backend, body.kind))
            if known is not None and known.epoch >= epoch:
                return Ack(), 1
            if delivery.attempt < self._config.snapshot_attempts:
                reported = connection.scalar(
                    select(func.count()).where(columns.backend == backend, columns.epoch >= epoch)
                )
                if reported is None or reported < body.count:
                    reason = f"{reported} of the snapshot's {body.count} reports are applied"
                    return Retry(reason, self._config.snapshot_delay), 0
            connection.execute(
                update(table)
                .where(
                    columns.backend == backend,
                    columns.epoch < epoch,
                    columns.deleted_at.is_(None),
                )
                .values(deleted_at=now, updated_at=now)
            )
            note = {
                "backend": backend,
                "kind": body.kind,
                "epoch": epoch,
                "resource_version": resource_version,
                "resources": body.count,
                "applied_at": now,
            }
            connection.execute(self._note, note)
        return Ack(), 0
