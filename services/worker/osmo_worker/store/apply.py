"""Applying batches of reports: plain synchronous code for the database's thread."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from sqlalchemy import Connection

from osmo_reports.bodies import NodeInventory, PodsCurrent, SnapshotEnd, decode_body
from osmo_reports.errors import BodyError
from osmo_transport import (
    Ack,
    Delivery,
    Outcome,
    Reject,
    Version,
)
from osmo_worker.config import StoreConfig
from osmo_worker.store import backends, events, listener_logs, nodes, tasks
from osmo_worker.store.database import Database, RowRefusedError
from osmo_worker.store.existences import Existence, apply_existences
from osmo_worker.store.inventories import INVENTORY
from osmo_worker.store.joining import Inventory, Known, Row
from osmo_worker.store.lost_nodes import (
    Losses,
    LostNodes,
    fail_tasks_on,
    lost_by_reports,
)
from osmo_worker.store.resources import EXISTENCE_KINDS, RESOURCES, has_snapshots
from osmo_worker.store.schema import pod_events
from osmo_worker.store.snapshots import SnapshotEnds
from osmo_worker.store.upserts import Upsert
from osmo_worker.store.values import without_nul
from osmo_worker.store.writing import Writer

Reports = list[tuple[Delivery, Any]]
"""Deliveries with their decoded bodies."""


class Applied(NamedTuple):
    """What became of a batch."""

    outcomes: list[Outcome]
    """One for each delivery, in the same order."""
    stale: int
    """Reports that changed nothing, because the store knew as new or newer ones."""


@dataclass
class _Sorted:
    """A batch by what has to be done with it."""

    outcomes: list[Outcome]
    reports: dict[str, Reports] = field(default_factory=lambda: {kind: [] for kind in RESOURCES})
    """By kind, those that become rows of `RESOURCES`."""
    others: dict[str, Reports] = field(
        default_factory=lambda: {
            kind: [] for kind in (events.KIND, backends.KIND, listener_logs.KIND)
        }
    )
    """By kind, those that are written with the reports and need nothing else."""
    existences: list[Existence] = field(default_factory=list)
    inventories: list[tuple[int, NodeInventory]] = field(default_factory=list)
    ends: list[tuple[int, SnapshotEnd]] = field(default_factory=list)


class Applier:
    """Applies batches to one database, each in order: the reports, what they mean for the tasks on
    nodes that are lost, the reports of existence alone, inventories, the ends of snapshots."""

    def __init__(self, database: Database, config: StoreConfig, clock: Callable[[], float]) -> None:
        self.config = config
        self.writer = Writer(database, clock)
        self._ends = SnapshotEnds(self.writer, config)
        self._upserts = {
            kind: Upsert(each.table, each.join, database.dialect)
            for kind, each in RESOURCES.items()
        }
        self._lost_nodes = LostNodes(database.dialect)
        self._events = Upsert(pod_events, events.join, database.dialect)

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
        batch = _sort(deliveries)
        stale, losses = self._apply_reports(batch)
        for backend, lost in losses.items():
            with self.writer.conclusion(backend) as (connection, now):
                fail_tasks_on(connection, backend, lost, now)
        if batch.existences:
            stale += apply_existences(self.writer, self.config, batch.existences, batch.outcomes)
        for index, inventory in batch.inventories:
            try:
                stale += self._apply_inventory(deliveries[index], inventory)
            except RowRefusedError as exc:
                batch.outcomes[index] = Reject(str(exc))
        for index, end in batch.ends:
            try:
                batch.outcomes[index], skipped = self._ends.apply(deliveries[index], end)
            except RowRefusedError as exc:
                batch.outcomes[index], skipped = Reject(str(exc)), 0
            stale += skipped
        # Last, so that what is applied again after an outage is not logged again.
        for delivery, body in batch.others[listener_logs.KIND]:
            listener_logs.write_log(delivery.backend, body)
        return Applied(batch.outcomes, stale)

    def _apply_reports(self, batch: _Sorted) -> tuple[int, Losses]:
        """Apply reports in one transaction; how many were stale, and the nodes that they lose."""
        found = [*batch.reports.values(), *batch.others.values()]
        names = {delivery.backend for reports in found for delivery, _ in reports}
        if not names:
            return 0, Losses(())
        on_nodes, of_nodes = batch.reports[tasks.KIND], batch.reports[nodes.KIND]
        oldest_task = _oldest(on_nodes)
        oldest = _oldest(of_nodes, oldest_task)
        now = self.writer.now()
        told = _told(batch.others[backends.KIND], now)
        stale = 0
        with self.writer.reports(names, now, oldest=oldest, told=told) as (connection, known):
            for kind, reports in batch.reports.items():
                if reports:
                    stale += self._upsert(connection, kind, reports, known)
            if happened := batch.others[events.KIND]:
                rows = [events.event_row(*each, known.now) for each in happened]
                stale += self._events.write(connection, rows)
            self._lost_nodes.fail_reported(connection, on_nodes, oldest_task, known)
        return stale, Losses(lost_by_reports(of_nodes, known))

    def _upsert(self, connection: Connection, kind: str, reports: Reports, known: Known) -> int:
        to_row = RESOURCES[kind].row
        rows = [to_row(delivery, body, known) for delivery, body in reports]
        return self._upserts[kind].write(connection, rows)

    def _apply_inventory(self, delivery: Delivery, body: NodeInventory) -> int:
        """Apply an inventory; 1 if it was stale."""
        inventory = Inventory(
            delivery.message.version, frozenset(without_nul(node) for node in body.nodes)
        )
        with self.writer.conclusion(delivery.backend) as (connection, now):
            newest = self.writer.newest(connection).get((delivery.backend, INVENTORY))
            if newest is not None and newest >= inventory.version:
                return 1
            self.writer.inventories.apply(connection, delivery.backend, inventory, now)
        return 0


def _told(heartbeats: Reports, now: str) -> dict[str, list[Row]]:
    told: dict[str, list[Row]] = {}
    for delivery, body in heartbeats:
        told.setdefault(delivery.backend, []).append(backends.told_by(delivery.message, body, now))
    return told


def _sort(deliveries: Sequence[Delivery]) -> _Sorted:
    batch = _Sorted([Ack()] * len(deliveries))
    for index, delivery in enumerate(deliveries):
        kind = delivery.message.kind
        try:
            body = decode_body(kind, delivery.message.payload)
        except BodyError as exc:
            batch.outcomes[index] = Reject(str(exc))
            continue
        if kind in batch.reports:
            batch.reports[kind].append((delivery, body))
        elif kind in batch.others:
            batch.others[kind].append((delivery, body))
        elif kind in EXISTENCE_KINDS:
            batch.existences.append(Existence(index, delivery, body))
        elif isinstance(body, NodeInventory):
            batch.inventories.append((index, body))
        elif isinstance(body, SnapshotEnd) and has_snapshots(body.kind):
            batch.ends.append((index, body))
        elif not isinstance(body, PodsCurrent):  # which makes no row
            batch.outcomes[index] = Reject(f"the state store has no table for {kind} ({body})")
    return batch


def _oldest(
    reports: Reports, others: Mapping[str, Version] = MappingProxyType({})
) -> dict[str, Version]:
    """The lowest version of each backend among these reports, and those that gave `others`."""
    oldest = dict(others)
    for delivery, _ in reports:
        backend, version = delivery.backend, delivery.message.version
        known = oldest.get(backend)
        if known is None or version < known:
            oldest[backend] = version
    return oldest
