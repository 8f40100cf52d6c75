"""Applying batches of reports: plain synchronous code for the database's thread.

A batch is applied in steps, of which each is a transaction, so that a large one holds up neither
the other batches of this worker nor the other workers of the database.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any, NamedTuple

from msgspec.structs import astuple
from sqlalchemy import Connection, select, tuple_, update

from osmo_reports.bodies import NodeInventory, NodeInventoryPart, SnapshotEnd, decode_body
from osmo_reports.errors import BodyError
from osmo_transport import Ack, Delivery, Outcome, Reject, Retry, Version
from osmo_worker.config import StoreConfig
from osmo_worker.metrics import WorkerMetrics
from osmo_worker.store import lag, schema
from osmo_worker.store.conclusions import NO_NAMES, LostNodes
from osmo_worker.store.database import Database, RowRefusedError
from osmo_worker.store.kinds import EXISTENCE_KINDS, RESOURCES, backends, events, logs, nodes, tasks
from osmo_worker.store.merge import Inventory, Known, Row, Upsert, existence, upsert
from osmo_worker.store.snapshots import INVENTORY, Notes, Snapshots
from osmo_worker.store.stamps import Stamp
from osmo_worker.store.values import without_nul, written

SEEN_INTERVAL = 1.0
"""Seconds for which a backend that was heard of is not written again as such: else each batch would
write a row of each of its backends."""
MOST_SEEN = 10_000
"""Backends of which it is remembered when that was; then it begins anew."""

Reports = list[tuple[Delivery, Any]]
"""Deliveries with their decoded bodies."""

Named = dict[str, set[str]]
"""By backend, what some of its nodes are called."""


class Applied(NamedTuple):
    """What became of a batch."""

    outcomes: list[Outcome]
    """One for each delivery, in the same order."""
    stale: int
    """Reports that changed nothing, because the store knew as new or newer ones."""


@dataclass
class _Batch:
    """A batch by what has to be done with it."""

    outcomes: list[Outcome]
    reports: dict[str, Reports] = field(default_factory=lambda: {kind: [] for kind in RESOURCES})
    """By kind, those that become rows of `RESOURCES`."""
    happened: Reports = field(default_factory=list)
    told: Reports = field(default_factory=list)
    """Those that tell something of their backend itself."""
    logged: Reports = field(default_factory=list)
    existences: list[int] = field(default_factory=list)
    """The positions of reports of existence alone, of inventories, and of ends of snapshots."""
    inventories: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    bodies: dict[int, Any] = field(default_factory=dict)
    """By position, what these say."""
    stale: int = 0
    backends: set[str] = field(default_factory=set)
    """Those that are heard of."""

    @property
    def named(self) -> Named:
        """What tasks call their nodes."""
        reports = self.reports[tasks.KIND]
        return _named({(delivery.backend, body.node) for delivery, body in reports})

    @property
    def reported_nodes(self) -> Named:
        """What the nodes are called that are reported."""
        return _named(
            (delivery.backend, name)
            for delivery, body in self.reports[nodes.KIND]
            for name in (body.node, body.hostname)
        )


class Applier:
    """Applies batches to one database, each in order: the reports, what they mean for the tasks on
    nodes that are gone, the reports of existence alone, inventories, the ends of snapshots."""

    def __init__(
        self,
        database: Database,
        config: StoreConfig,
        metrics: WorkerMetrics,
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self._config = config
        self._metrics = metrics
        self._clock = clock
        self._snapshots = Snapshots(database)
        self._lost_nodes = LostNodes(database)
        self._upserts = {
            kind: upsert(each.table, each.join, database.dialect)
            for kind, each in RESOURCES.items()
        }
        self._events = upsert(schema.pod_events, events.join, database.dialect)
        self._backends = upsert(schema.backends, backends.join, database.dialect)
        self._seen: dict[str, float] = {}

    def now(self) -> str:
        """The moment of writing."""
        return written(datetime.fromtimestamp(self._clock(), UTC))

    def apply(self, deliveries: Sequence[Delivery]) -> Generator[None, None, Applied]:
        """Apply a batch in steps, or of one that the database refuses, all but what it refuses.

        Raises:
            StoreUnavailableError: nothing or only a part was applied; begin again with the same.
        """
        try:
            return (yield from self._apply(deliveries))
        except RowRefusedError as exc:
            if len(deliveries) == 1:
                return Applied([Reject(str(exc))], 0)
        middle = len(deliveries) // 2
        first = yield from self.apply(deliveries[:middle])
        second = yield from self.apply(deliveries[middle:])
        return Applied(first.outcomes + second.outcomes, first.stale + second.stale)

    def _apply(self, deliveries: Sequence[Delivery]) -> Generator[None, None, Applied]:
        batch, now = _sort(deliveries), self.now()
        if batch.backends:
            known = self._write_reports(batch, now)
            touched = batch.reported_nodes
            if self._database.has_many_writers:
                yield from self._look_again(known, batch.backends, batch.named, touched)
            yield from self._reconcile(touched, now)
        if batch.existences:
            yield from self._apply_existences(deliveries, batch, now)
        for position in batch.inventories:
            yield from self._apply_inventory(deliveries[position], batch, position, now)
        for position in batch.ends:
            yield from self._apply_end(deliveries[position], batch, position, now)
        # Last, so that what is applied again after an outage is not logged again.
        for delivery, body in batch.logged:
            logs.write_log(delivery.backend, body)
        return Applied(batch.outcomes, batch.stale)

    def _write_reports(self, batch: _Batch, now: str) -> Known:
        """Write reports in one transaction; what was known then."""
        seen = self._rows_of_backends(batch, now)
        written: list[tuple[str, int, int]] = []
        with self._database.transaction() as connection:

            def write(way: Upsert, rows: list[Row]) -> int:
                unchanged = way.write(connection, rows)
                written.append((way.table, len(rows) - unchanged, unchanged))
                return unchanged

            known = self._known(connection, batch, now)
            for kind, reports in batch.reports.items():
                if reports:
                    to_row = RESOURCES[kind].row
                    rows = [to_row(delivery, body, known) for delivery, body in reports]
                    batch.stale += write(self._upserts[kind], rows)
            if batch.happened:
                rows = [events.event_row(*each, now) for each in batch.happened]
                batch.stale += write(self._events, rows)
            if seen:
                # Last: every worker writes these rows, so they are locked for a moment only.
                write(self._backends, seen)
        at = self._clock()
        if len(self._seen) > MOST_SEEN:
            self._seen.clear()
        self._seen.update((row[0], at) for row in seen)
        # Of what is rolled back nothing is counted.
        for table, changed, unchanged in written:
            self._metrics.rows[table, "written"] += changed
            self._metrics.rows[table, "unchanged"] += unchanged
        for reports in (*batch.reports.values(), batch.happened):
            lag.record(self._metrics.end_to_end, reports, at)
        return known

    def _rows_of_backends(self, batch: _Batch, now: str) -> list[Row]:
        told = [
            backends.told(delivery.backend, delivery.message, body, now)
            for delivery, body in batch.told
        ]
        at, have_told = self._clock(), {row[0] for row in told}
        return told + [
            backends.seen(name, now)
            for name in batch.backends - have_told
            if not 0 <= at - self._seen.get(name, -SEEN_INTERVAL) < SEEN_INTERVAL
        ]

    def _known(self, connection: Connection, batch: _Batch, now: str) -> Known:
        notes = self._snapshots.notes(connection, batch.backends)
        oldest = _oldest(batch.reports[nodes.KIND])
        inventories = {
            backend: self._snapshots.inventory(connection, backend, newest)
            for backend, lowest in oldest.items()
            if (newest := notes.get((backend, INVENTORY))) is not None
            and nodes.stamp(backend, newest) > lowest
        }
        gone = self._lost_nodes.gone(connection, batch.named)
        return Known(now=now, snapshots=notes, inventories=inventories, gone=gone)

    def _look_again(
        self, known: Known, names: Set[str], named: Named, touched: Named
    ) -> Iterator[None]:
        """Look at what other workers wrote while rows of these backends were written from what was
        `known`: mark what snapshots leave out by now, and add to the `touched` nodes those of the
        `named` that came or went."""
        with self._database.transaction(write=False) as connection:
            notes = self._snapshots.notes(connection, names)
            gone = self._lost_nodes.gone(connection, named)
        yield from self._catch_up(known.snapshots, notes, known.now)
        for backend, name in gone ^ known.gone:
            touched.setdefault(backend, set()).add(name)

    def _reconcile(self, touched: Named, now: str) -> Iterator[None]:
        for backend, called in sorted(touched.items()):
            yield
            yield from self._lost_nodes.reconcile(backend, now, called)

    def _catch_up(
        self, known: Mapping[tuple[str, str], Version], notes: Notes, now: str
    ) -> Iterator[None]:
        """Mark what snapshots leave out that were noted meanwhile."""
        for (backend, kind), version in sorted(notes.items()):
            if version == known.get((backend, kind)):
                continue
            yield
            if kind == INVENTORY:
                yield from self._take_inventory(backend, now)
            elif kind in RESOURCES:
                table = RESOURCES[kind].table
                yield from self._snapshots.mark_left_out(backend, table, version.epoch, now)

    def _apply_existences(
        self, deliveries: Sequence[Delivery], batch: _Batch, now: str
    ) -> Iterator[None]:
        """Apply reports of existence alone. Not in the transaction of the others: that would lock
        rows out of order. One that finds no row is retried, because the row's report may be on its
        way to another worker."""
        found = []
        for position in batch.existences:
            delivery, body = deliveries[position], batch.bodies[position]
            resource = EXISTENCE_KINDS[delivery.message.kind]
            assert resource.key is not None
            found.append((resource.key(delivery, body), position, delivery, body, resource))
        found.sort(key=itemgetter(0))
        names = {delivery.backend for _, _, delivery, _, _ in found}
        on_nodes: list[tuple[str, str]] = []
        concluded: list[tuple[str, str]] = []
        yield
        with self._database.transaction() as connection:
            known = Known(now=now, snapshots=self._snapshots.notes(connection, names))
            for key, position, delivery, body, resource in found:
                epoch, resource_version = astuple(delivery.message.version)
                gone = body.deleted or known.left_out(delivery, resource.kind)
                row = tuple_(*resource.table.primary_key) == key
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
                columns = resource.table.c
                place = connection.execute(select(columns.node, columns.concluded).where(row))
                on_node = place.one_or_none()
                if on_node is None:
                    if delivery.attempt < self._config.snapshot_attempts:
                        reason = "no report of its state is applied"
                        batch.outcomes[position] = Retry(reason, self._config.snapshot_delay)
                    continue
                batch.stale += not changed.rowcount
                on_nodes.append((delivery.backend, on_node.node))
                if on_node.concluded:
                    concluded.append(on_nodes[-1])
        # Of what was gone until now nobody has asked what its node means for it.
        touched = _named(concluded)
        yield from self._look_again(known, names, _named(on_nodes), touched)
        yield from self._reconcile(touched, now)

    def _apply_inventory(
        self, delivery: Delivery, batch: _Batch, position: int, now: str
    ) -> Iterator[None]:
        backend = delivery.backend
        stamp = nodes.stamp(backend, delivery.message.version)
        body: NodeInventory | NodeInventoryPart = batch.bodies[position]
        yield
        with self._database.transaction(write=False) as connection:
            noted = self._snapshots.notes(connection, [backend]).get((backend, INVENTORY))
        newest = None if noted is None else nodes.stamp(backend, noted)
        if newest is not None and newest >= stamp:
            batch.stale += 1
        if newest is not None and newest > stamp:
            return
        if isinstance(body, NodeInventory):
            names = frozenset(without_nul(node) for node in body.nodes)
            self._snapshots.note_inventory(backend, Inventory(stamp, names), now)
        elif newest != stamp:
            self._snapshots.add_part(backend, stamp.version, body, now)
            yield
            # Behind the commit: of two workers with the last two parts one sees both.
            inventory = self._snapshots.gathered(backend, stamp.version, body.parts)
            if inventory is None:
                return
            self._snapshots.note_inventory(backend, inventory, now)
        yield from self._take_inventory(backend, now)

    def _take_inventory(self, backend: str, now: str) -> Iterator[None]:
        yield from self._snapshots.mark_nodes(backend, now)
        yield
        yield from self._lost_nodes.reconcile(backend, now)

    def _apply_end(
        self, delivery: Delivery, batch: _Batch, position: int, now: str
    ) -> Iterator[None]:
        body: SnapshotEnd = batch.bodies[position]
        backend, (epoch, resource_version) = delivery.backend, astuple(delivery.message.version)
        table = RESOURCES[body.kind].table
        yield
        with self._database.transaction(write=False) as connection:
            known = self._snapshots.notes(connection, [backend]).get((backend, body.kind))
        if known is not None and known.epoch >= epoch:
            batch.stale += 1
            if known.epoch > epoch:
                return
        elif delivery.attempt < self._config.snapshot_attempts:
            yield
            reported = yield from self._snapshots.reported(backend, table, epoch, body.count)
            if reported < body.count:
                reason = f"{reported} of the snapshot's {body.count} reports are applied"
                batch.outcomes[position] = Retry(reason, self._config.snapshot_delay)
                return
        self._snapshots.note((backend, body.kind, epoch, resource_version, body.count, now))
        yield from self._snapshots.mark_left_out(backend, table, epoch, now)


def _sort(deliveries: Sequence[Delivery]) -> _Batch:
    batch = _Batch([Ack()] * len(deliveries))
    lines = {events.KIND: batch.happened, logs.KIND: batch.logged, **batch.reports}
    lines |= dict.fromkeys(backends.KINDS, batch.told)
    for position, delivery in enumerate(deliveries):
        message = delivery.message
        kind = message.kind
        try:
            body = decode_body(kind, message.payload)
        except BodyError as exc:
            batch.outcomes[position] = Reject(str(exc))
            continue
        batch.backends.add(delivery.backend)
        if (line := lines.get(kind)) is not None:
            line.append((delivery, body))
            continue
        batch.bodies[position] = body
        if kind in EXISTENCE_KINDS:
            batch.existences.append(position)
        elif isinstance(body, NodeInventory | NodeInventoryPart):
            batch.inventories.append(position)
        elif isinstance(body, SnapshotEnd) and _has_snapshots(body.kind):
            batch.ends.append(position)
        else:
            batch.outcomes[position] = Reject(f"the state store has no table for {kind} ({body})")
    return batch


def _has_snapshots(kind: str) -> bool:
    return kind in RESOURCES and RESOURCES[kind].has_snapshots


def _named(nodes_of: Iterable[tuple[str, str]]) -> Named:
    """These names by their backend, without what stands for none."""
    names: Named = {}
    for backend, node in nodes_of:
        if node not in NO_NAMES:
            names.setdefault(backend, set()).add(without_nul(node))
    return names


def _oldest(reports: Reports) -> dict[str, Stamp]:
    """The stamp of the oldest of each backend's among these reports of nodes."""
    oldest: dict[str, Stamp] = {}
    for delivery, _ in reports:
        backend = delivery.backend
        stamp = nodes.stamp(backend, delivery.message.version)
        known = oldest.get(backend)
        if known is None or stamp < known:
            oldest[backend] = stamp
    return oldest
