"""The rows of `node_usage`: one per node that has or had pods, identified by backend and name.

The newest report gives the whole row. A row is deleted if its epoch is below that of the newest
snapshot of usage: the listener that took that snapshot knows of no pods on the node.
"""

from datetime import datetime

import msgspec
from msgspec.structs import astuple

from osmo_reports.bodies import UpdateNodeUsage
from osmo_transport import Delivery
from osmo_worker.store.merge import Columns, Join, Known, Resource, Row, existence, taken
from osmo_worker.store.schema import node_usage
from osmo_worker.store.values import json_text, without_nul

KIND = "update_node_usage"

_COLUMNS = (
    *("hostname", "usage", "non_workflow_usage"),
    *("updated_at", "deleted_at", "epoch", "resource_version"),
)


class NodeUsage(msgspec.Struct, frozen=True, kw_only=True):
    """One row of `node_usage`: totals by resource of what the pods on one node ask for."""

    backend: str
    node: str
    """Its name in the cluster."""
    hostname: str
    usage: dict[str, str]
    """Of all pods."""
    non_workflow_usage: dict[str, str]
    """Of the pods that run no workflow."""
    updated_at: datetime
    """When a worker last changed the row."""
    deleted_at: datetime | None
    """When a worker learned that no pods are known on the node any more; None: some are, or the
    listener that reported the last one is still at work."""
    epoch: int
    resource_version: int
    """With `epoch`, the version of the newest report, which the row shows."""


def _row(delivery: Delivery, body: UpdateNodeUsage, known: Known) -> Row:
    return (
        delivery.backend,
        without_nul(body.node),
        without_nul(body.hostname),
        json_text(body.usage),
        json_text(body.non_workflow_usage),
        known.now,
        known.now if known.left_out(delivery, KIND) else None,
        *astuple(delivery.message.version),
    )


def _join(old: Columns, new: Columns) -> Join:
    newer = existence(new) > existence(old)
    return Join(changes=taken(_COLUMNS, newer, old, new), when=newer)


USAGE = Resource(kind=KIND, table=node_usage, has_snapshots=True, row=_row, join=_join)
"""What the pods on nodes ask for."""
