"""Applying batches of reports: plain synchronous code for the database's thread."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import Connection, exists, func, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite

from osmo_transport import Ack, BodyError, Delivery, Outcome, Reject, Retry
from osmo_transport.bodies import SnapshotEnd, decode_body
from osmo_worker.config import StoreConfig
from osmo_worker.store.database import Database, RowRefusedError
from osmo_worker.store.resources import EXISTENCE_KINDS, RESOURCES, Row, compile_upsert, existence
from osmo_worker.store.schema import backends, snapshots
from osmo_worker.store.tasks import written

Reports = dict[str, list[tuple[Delivery, Any]]]
"""By kind: deliveries with their decoded bodies."""

Existences = list[tuple[int, Delivery, Any]]
"""Reports of existence alone: the index in the batch, the delivery, its decoded body."""

SnapshotEpochs = dict[tuple[str, str], int]
"""By backend and kind: the epoch of the newest snapshot."""


class Applied(NamedTuple):
    """What became of a batch."""

    outcomes: list[Outcome]
    """One for each delivery, in the same order."""
    stale: int
    """Reports that changed nothing, because the store knew as new or newer ones."""


class Applier:
    """Applies batches to one database, each in order: the reports, those of existence alone, then
    the snapshots' ends."""

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
        existences: Existences = []
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
            elif kind in EXISTENCE_KINDS:
                existences.append((index, delivery, body))
            elif isinstance(body, SnapshotEnd) and body.kind in reports:
                ends.append((index, body))
            else:
                outcomes[index] = Reject(f"the state store has no table for {kind} ({body})")
        stale = self._apply_reports(reports)
        if existences:
            stale += self._apply_existences(existences, outcomes)
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
        names = {item[0].backend for items in reports.values() for item in items}
        if not names:
            return 0
        stale = 0
        with self._writing(names) as (connection, epochs, now):
            for kind, items in reports.items():
                if items:
                    to_row = RESOURCES[kind].row
                    rows = [
                        to_row(delivery, body, now, _left_out(delivery, kind, epochs))
                        for delivery, body in items
                    ]
                    # Two workers that lock rows in the same order cannot wait for each other.
                    rows.sort(key=itemgetter(*range(len(RESOURCES[kind].table.primary_key))))
                    result = connection.exec_driver_sql(self._upserts[kind], rows)
                    stale += len(rows) - result.rowcount
        return stale

    def _apply_existences(self, existences: Existences, outcomes: list[Outcome]) -> int:
        """Apply reports of existence alone; how many were stale.

        Not in the transaction of the other reports: that would lock rows out of order. One that
        finds no row is retried, because the row's report may be on its way to another worker.
        """
        stale = 0
        with self._writing({delivery.backend for _, delivery, _ in existences}) as writing:
            connection, epochs, now = writing
            for index, delivery, body in sorted(existences, key=_row_key):
                resource = EXISTENCE_KINDS[delivery.message.kind]
                epoch, resource_version = delivery.message.version
                gone = body.deleted or _left_out(delivery, resource.kind, epochs)
                row = tuple_(*resource.table.primary_key) == _row_key((index, delivery, body))
                changed = connection.execute(
                    update(resource.table)
                    .where(row, existence(resource.table.c) < (epoch, resource_version, gone))
                    .values(
                        epoch=epoch,
                        resource_version=resource_version,
                        deleted_at=now if gone else None,
                        updated_at=now,
                    )
                )
                if changed.rowcount:
                    continue
                if connection.scalar(select(exists().where(row))):
                    stale += 1
                elif delivery.attempt < self._config.snapshot_attempts:
                    reason = "no report of its state is applied"
                    outcomes[index] = Retry(reason, self._config.snapshot_delay)
        return stale

    @contextmanager
    def _writing(self, backends: Iterable[str]) -> Iterator[tuple[Connection, SnapshotEpochs, str]]:
        """A transaction that writes reports of these backends; with the moment to write."""
        names, now = sorted(backends), self._now()
        with self._database.transaction() as connection:
            for name in names:
                # Together with the exclusive lock of a snapshot's end: no report that a snapshot
                # has left out is written by one worker while another applies that snapshot.
                self._database.lock(connection, name, shared=True)
            yield connection, _snapshot_epochs(connection, names), now
            self._see(connection, names, now)

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


def _row_key(item: tuple[int, Delivery, Any]) -> Row:
    _, delivery, body = item
    return EXISTENCE_KINDS[delivery.message.kind].key(delivery, body)


def _left_out(delivery: Delivery, kind: str, epochs: SnapshotEpochs) -> bool:
    """Whether a newer snapshot has left the resource out."""
    return delivery.message.version[0] < epochs.get((delivery.backend, kind), 0)


def _snapshot_epochs(connection: Connection, names: Sequence[str]) -> SnapshotEpochs:
    rows = connection.execute(
        select(snapshots.c.backend, snapshots.c.kind, snapshots.c.epoch).where(
            snapshots.c.backend.in_(names)
        )
    )
    return {(backend, kind): epoch for backend, kind, epoch in rows}
