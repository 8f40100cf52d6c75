"""The rows of `nodes`: one per node, identified by backend and name.

The parts of a row (see `osmo_worker.store.joining`):

- *The newest report.* Of one version, the one that says that the node is removed.
- *The oldest report*, of which the version is kept.
- *The newest report that says so of a removal*, of which the version is kept.

A row is deleted if the newest report says so, or if the newest inventory of the backend is newer
than that report and does not list the node. That depends on nothing else, so an inventory revives
what an older one had deleted by itself, and the order of both does not matter.
"""

from datetime import datetime

import msgspec
from sqlalchemy import Tuple, or_, tuple_

from osmo_reports.bodies import Taint, UpdateNode
from osmo_transport import Delivery, Version
from osmo_worker.store.joining import Columns, Join, Known, Resource, Row, taken
from osmo_worker.store.schema import nodes
from osmo_worker.store.values import json_text, without_nul

KIND = "update_node"

_SHOWN = (
    *("hostname", "available", "conditions", "allocatable", "labels", "taints", "processed"),
    *("updated_at", "deleted_at", "epoch", "resource_version", "removed"),
)

NO_LOSS = Version(0, 0)
"""Lower than every version that a report has."""


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One row of `nodes`."""

    backend: str
    node: str
    """Its name in the cluster."""
    hostname: str
    """The label `kubernetes.io/hostname`; `-` where there is none."""
    available: bool
    """Whether it takes tasks, by the backend's condition rules."""
    conditions: tuple[str, ...]
    """The types of its conditions that are true."""
    allocatable: dict[str, str]
    labels: dict[str, str]
    taints: tuple[Taint, ...]
    processed: dict[str, str]
    """What only listeners of the deployed protocol send."""
    updated_at: datetime
    """When a worker last changed the row."""
    deleted_at: datetime | None
    """When a worker learned that the node is gone from the cluster; None while it is there."""
    epoch: int
    resource_version: int
    """With `epoch`, the version of the newest report, which the row shows."""


def loss(delivery: Delivery, body: UpdateNode, known: Known) -> Version | None:
    """The version at which the node was lost, as far as this report tells: by itself, or because
    the newest inventory is newer and does not list it. None: it was not."""
    version = delivery.message.version
    inventory = known.inventories.get(delivery.backend)
    if inventory and version < inventory.version and body.node not in inventory.nodes:
        return inventory.version
    return version if body.deleted else None


def first_at(columns: Columns) -> Tuple:
    """The version of a node's oldest report."""
    return tuple_(columns.first_epoch, columns.first_resource_version)


def lost_at(columns: Columns) -> Tuple:
    """The version of a node's newest report of its removal."""
    return tuple_(columns.lost_epoch, columns.lost_resource_version)


def _row(delivery: Delivery, body: UpdateNode, known: Known) -> Row:
    gone = loss(delivery, body, known) is not None
    return (
        delivery.backend,
        body.node,
        without_nul(body.hostname),
        body.available,
        json_text(body.conditions),
        json_text(body.allocatable),
        json_text(body.labels),
        json_text(body.taints),
        json_text(body.processed),
        known.now,
        known.now if gone else None,
        *delivery.message.version,
        body.deleted,
        *delivery.message.version,
        *(delivery.message.version if body.deleted else NO_LOSS),
    )


def _join(old: Columns, new: Columns) -> Join:
    newer = tuple_(new.epoch, new.resource_version, new.removed) > tuple_(
        old.epoch, old.resource_version, old.removed
    )
    earlier = first_at(new) < first_at(old)
    lost_later = lost_at(new) > lost_at(old)
    return Join(
        changes={
            **taken(_SHOWN, newer, old, new),
            **taken(("first_epoch", "first_resource_version"), earlier, old, new),
            **taken(("lost_epoch", "lost_resource_version"), lost_later, old, new),
        },
        when=or_(newer, earlier, lost_later),
    )


NODES = Resource(kind=KIND, table=nodes, row=_row, join=_join)
"""The nodes of backends."""
