"""Reports of existence alone: they move the version and the deletion of a row, and make none."""

from typing import Any, NamedTuple

from sqlalchemy import exists, select, tuple_, update

from osmo_transport import Delivery, Outcome, Retry
from osmo_worker.config import StoreConfig
from osmo_worker.store.joining import Row, existence
from osmo_worker.store.resources import EXISTENCE_KINDS
from osmo_worker.store.writing import Writer


class Existence(NamedTuple):
    """One report of existence alone."""

    position: int
    """Of its delivery in the batch."""
    delivery: Delivery
    body: Any

    @property
    def key(self) -> Row:
        """Of its row."""
        return EXISTENCE_KINDS[self.delivery.message.kind].key(self.delivery, self.body)


def apply_existences(
    writer: Writer, config: StoreConfig, found: list[Existence], outcomes: list[Outcome]
) -> int:
    """Apply reports of existence alone; how many were stale.

    Not in the transaction of the other reports: that would lock rows out of order. One that finds
    no row is retried, because the row's report may be on its way to another worker.
    """
    stale = 0
    backends = {each.delivery.backend for each in found}
    with writer.reports(backends, writer.now()) as (connection, known):
        for position, delivery, body in sorted(found, key=lambda each: each.key):
            resource = EXISTENCE_KINDS[delivery.message.kind]
            epoch, resource_version = delivery.message.version
            gone = body.deleted or known.left_out(delivery, resource.kind)
            row = tuple_(*resource.table.primary_key) == resource.key(delivery, body)
            changed = connection.execute(
                update(resource.table)
                .where(row, existence(resource.table.c) < (epoch, resource_version, gone))
                .values(
                    epoch=epoch,
                    resource_version=resource_version,
                    deleted_at=known.now if gone else None,
                    updated_at=known.now,
                )
            )
            if changed.rowcount:
                continue
            if connection.scalar(select(exists().where(row))):
                stale += 1
            elif delivery.attempt < config.snapshot_attempts:
                reason = "no report of its state is applied"
                outcomes[position] = Retry(reason, config.snapshot_delay)
    return stale
