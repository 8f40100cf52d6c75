"""The rows of `nodes`: one per node, identified by backend and name.

The newest report gives the whole row; of one version, the one that says that the node is removed.

A row is deleted if the newest report says so, or if the newest inventory of the backend is newer
than that report and does not list the node. That depends on nothing else, so an inventory revives
what an older one had deleted by itself, and the order of both does not matter. Both come from the
listener that watches nodes: their versions, and no others, are compared.
"""

from datetime import datetime

import msgspec
from msgspec.structs import astuple
from sqlalchemy import and_, or_, tuple_

from osmo_reports.bodies import Taint, UpdateNode
from osmo_transport import Delivery, Version
from osmo_worker.store.merge import Columns, Join, Known, Resource, Row, taken
from osmo_worker.store.schema import nodes
from osmo_worker.store.stamps import Stamp
from osmo_worker.store.values import json_text, without_nul

KIND = "update_node"

_SHOWN = (
    *("hostname", "available", "conditions", "allocatable", "labels", "taints", "processed"),
    *("epoch", "resource_version", "removed"),
)
_MARKED = ("updated_at", "deleted_at")


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


def stamp(backend: str, version: Version) -> Stamp:
    """What orders the reports of nodes and inventories of a backend among each other."""
    return Stamp((backend, KIND), version)


def is_gone(delivery: Delivery, body: UpdateNode, known: Known) -> bool:
    """Whether the node is gone, as far as this report tells: by itself, or because the newest
    inventory is newer and does not list it."""
    inventory = known.inventories.get(delivery.backend)
    return body.deleted or (
        inventory is not None
        and stamp(delivery.backend, delivery.message.version) < inventory.stamp
        and without_nul(body.node) not in inventory.nodes
    )


def _row(delivery: Delivery, body: UpdateNode, known: Known) -> Row:
    return (
        delivery.backend,
        without_nul(body.node),
        without_nul(body.hostname),
        body.available,
        json_text(body.conditions),
        json_text(body.allocatable),
        json_text(body.labels),
        json_text(body.taints),
        json_text(body.processed),
        known.now,
        known.now if is_gone(delivery, body, known) else None,
        *astuple(delivery.message.version),
        body.deleted,
    )


def _join(old: Columns, new: Columns) -> Join:
    old_version, new_version = (
        tuple_(each.epoch, each.resource_version, each.removed) for each in (old, new)
    )
    newer = new_version > old_version
    # Whoever wrote the row may have been killed before it looked again at the inventory.
    knows_better = and_(
        new_version == old_version, new.deleted_at.is_(None) != old.deleted_at.is_(None)
    )
    either = or_(newer, knows_better)
    changes = taken(_SHOWN, newer, old, new) | taken(_MARKED, either, old, new)
    return Join(changes=changes, when=either)


NODES = Resource(kind=KIND, table=nodes, row=_row, join=_join)
"""The nodes of backends."""
