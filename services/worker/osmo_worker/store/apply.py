"""Applying batches of reports: plain synchronous code for the database's thread."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import Connection, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from osmo_transport import Ack, BodyError, Delivery, Outcome, Reject, Retry
from osmo_transport.bodies import SnapshotEnd, decode_body
from osmo_worker.config import StoreConfig
from osmo_worker.store.database import Database, RowRefusedError
from osmo_worker.store.resources import RESOURCES, compile_upsert
from osmo_worker.store.schema import backends, snapshots
from osmo_worker.store.tasks import written

Reports = dict[str, list[tuple[Delivery, Any]]]
"""By kind: deliveries with their decoded bodies."""


class Applied(NamedTuple):
    """What became of a batch."""

    outcomes: list[Outcome]
    """One for each delivery, in the same order."""
    stale: int
    """Reports that changed nothing, because the store knew as new or newer ones."""


class Applier:
    """Applies batches to one database, each in order: the reports, then the snapshots' ends."""

    def __init__(self, database: Database, config: StoreConfig, clock: Callable[[], float]) -> None:
        self._database = database
        self._config = config
        self._clock = clock
        self._upserts = {
            kind: compile_upsert(resource, database.dialect) for kind, resource in RESOURCES.items()
        }
        dialect = postgresql if database.dialect.name == "postgresql" else sqlite
        seen = dialect.insert(backends)
        self._see_backends = seen.on_conflict_do_update(
            index_elements=["name"], set_={"last_seen": seen.excluded.last_seen}
        )
        end = dialect.insert(snapshots)
        changes = ("epoch", "resource_version", "resources", "applied_at")
        self._note_snapshot = end.on_conflict_do_update(
            index_elements=["backend", "kind"], set_={name: end.excluded[name] for name in changes}
        )

    def apply(self, deliveries: Sequence[Delivery]) -> Applied:
        """Apply a batch, or of one that the database refuses, all but what it refuses.

        Raises:
            StoreUnavailableError: nothing or only a part was applied; call again with the same.
        """
        try:
            return self._apply(deliveries)
        except RowRefusedError as exc:
            if len(deliveries) == 1:
                return Applied([Reject(str(exc))], 0)
        middle = len(deliveries) // 2
        first, second = self.apply(deliveries[:middle]), self.apply(deliveries[middle:])
        return Applied(first.outcomes + second.outcomes, first.stale + second.stale)

    def _apply(self, deliveries: Sequence[Delivery]) -> Applied:
        outcomes: list[Outcome] = [Ack()] * len(deliveries)
        reports: Reports = {kind: [] for kind in RESOURCES}
        ends: list[tuple[int, SnapshotEnd]] = []
        for index, delivery in enumerate(deliveries):
            kind = delivery.message.kind
            try:
                body = decode_body(kind, delivery.message.payload)
            except BodyError as exc:
                outcomes[index] = Reject(str(exc))
                continue
            if kind in reports:
                reports[kind].append((delivery, body))
            elif isinstance(body, SnapshotEnd) and body.kind in reports:
                ends.append((index, body))
            else:
                outcomes[index] = Reject(f"the state store has no table for {kind} ({body})")
        stale = self._apply_reports(reports)
        for index, body in ends:
            try:
                outcome, skipped = self._apply_snapshot_end(deliveries[index], body)
            except RowRefusedError as exc:
                outcome, skipped = Reject(str(exc)), 0
            outcomes[index] = outcome
            stale += skipped
        return Applied(outcomes, stale)

    def _apply_reports(self, reports: Reports) -> int:
        """Apply reports in one transaction; how many were stale."""
        names = sorted({item[0].backend for items in reports.values() for item in items})
        if not names:
            return 0
        now, stale = self._now(), 0
        with self._database.transaction() as connection:
            for name in names:
                # Together with the exclusive lock of a snapshot's end: no report that a snapshot
                # has left out is written by one worker while another applies that snapshot.
                self._database.lock(connection, name, shared=True)
            epochs = _snapshot_epochs(connection, names)
            for kind, items in reports.items():
                if items:
                    to_row = RESOURCES[kind].row
                    rows = [
                        to_row(
                            delivery,
                            body,
                            now,
                            delivery.message.version[0] < epochs.get((delivery.backend, kind), 0),
                        )
                        for delivery, body in items
                    ]
                    # Two workers that lock rows in the same order cannot wait for each other.
                    rows.sort(key=itemgetter(*range(len(RESOURCES[kind].table.primary_key))))
                    result = connection.exec_driver_sql(self._upserts[kind], rows)
                    stale += len(rows) - result.rowcount
            self._see(connection, names, now)
        return stale

    def _apply_snapshot_end(self, delivery: Delivery, body: SnapshotEnd) -> tuple[Outcome, int]:
        """Mark as deleted what the snapshot left out; the outcome, and 1 if it was stale."""
        backend, (epoch, resource_version) = delivery.backend, delivery.message.version
        columns = RESOURCES[body.kind].table.c
        now = self._now()
        with self._database.transaction() as connection:
            self._database.lock(connection, backend)
            known = _snapshot_epochs(connection, [backend]).get((backend, body.kind))
            if known is not None and known >= epoch:
                return Ack(), 1
            if delivery.attempt < self._config.snapshot_attempts:
                reported = connection.scalar(
                    select(func.count()).where(columns.backend == backend, columns.epoch >= epoch)
                )
                if reported is None or reported < body.count:
                    reason = f"{reported} of the snapshot's {body.count} reports are applied"
                    return Retry(reason, self._config.snapshot_delay), 0
            connection.execute(
                update(RESOURCES[body.kind].table)
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
            connection.execute(self._note_snapshot, note)
            self._see(connection, [backend], now)
        return Ack(), 0

    def _see(self, connection: Connection, names: Sequence[str], now: str) -> None:
        # Last, because every worker writes these rows: their locks are held for a moment only.
        seen = [{"name": name, "first_seen": now, "last_seen": now} for name in names]
        connection.execute(self._see_backends, seen)

    def _now(self) -> str:
        return written(datetime.fromtimestamp(self._clock(), UTC))


def _snapshot_epochs(connection: Connection, names: Sequence[str]) -> dict[tuple[str, str], int]:
    rows = connection.execute(
        select(snapshots.c.backend, snapshots.c.kind, snapshots.c.epoch).where(
            snapshots.c.backend.in_(names)
        )
    )
    return {(backend, kind): epoch for backend, kind, epoch in rows}
