"""The rows of `backends`: one per backend that has reported anything.

Reports move `last_seen`. A heartbeat moves `last_heartbeat`, which never goes back, and the
heartbeat of the newest version, among equals the one that was sent last, gives what the row says of
the listener. Until when its pods are known is what the listener of the newest epoch said last, also
where that is earlier than before: its clock may have been put right.
"""

from collections.abc import Mapping
from datetime import datetime
from itertools import islice
from math import inf

import msgspec
from msgspec.structs import astuple
from sqlalchemy import ColumnElement, and_, or_, tuple_

from osmo_reports.bodies import PodsCurrent, Registration
from osmo_transport import Message
from osmo_worker.store.merge import Columns, Join, Row, taken
from osmo_worker.store.values import json_text, moment_at, without_nul

KINDS = "heartbeat", "pods_current"

MOST_AGES = 64
"""Of the ages that one heartbeat tells, those that are kept: there is one for each listener."""

_REGISTRATION = (
    *("cluster_uid", "namespace", "version", "node_condition_prefix"),
    *("registered_at", "registration_epoch", "registration_resource_version"),
)
_CURRENT = ("pods_current_epoch", "pods_current_resource_version", "pods_current_at")

_UNREGISTERED: Row = (None,) * (1 + len(_REGISTRATION))
_NOT_CURRENT: Row = (None,) * len(_CURRENT)


class Backend(msgspec.Struct, frozen=True, kw_only=True):
    """One row of `backends`. What heartbeats tell is None before the first."""

    name: str
    first_seen: datetime
    """When a worker first applied anything of it."""
    last_seen: datetime
    """When a worker last applied anything of it."""
    last_heartbeat: datetime | None
    """When its latest heartbeat was sent, by the listener's clock."""
    cluster_uid: str | None
    """The uid of the namespace `kube-system`; empty: not known."""
    namespace: str | None
    """The namespace of the workflows."""
    version: str | None
    """Of the listener."""
    node_condition_prefix: str | None
    """Of the labels that this system writes to nodes."""
    registered_at: datetime | None
    """When the heartbeat was sent that told the four before."""
    pods_current_at: datetime | None
    """Until when its pods are known, by the listener's clock; None: its listener does not say."""
    watch_ages: dict[str, float] | None = None
    """By listener, for example `workflow`: for how many seconds what it is told from had heard
    nothing of the API server, when the heartbeat of `registered_at` was sent. None: not told."""


def seen(name: str, now: str) -> Row:
    """The row of a backend that was heard of."""
    return (name, now, now, *_UNREGISTERED, *_NOT_CURRENT, None)


def told(name: str, message: Message, body: Registration | PodsCurrent, now: str) -> Row:
    """The row of a backend of which a report of `KINDS` tells. Where the time of a heartbeat cannot
    be read it was sent `now`."""
    if isinstance(body, PodsCurrent):
        at = moment_at(body.at)
        current = _NOT_CURRENT if at is None else (*astuple(message.version), at)
        return (name, now, now, *_UNREGISTERED, *current, None)
    sent = moment_at(message.timestamp) or now
    return (
        *(name, now, now, sent),
        without_nul(body.cluster_uid),
        without_nul(body.namespace),
        without_nul(body.version),
        without_nul(body.node_condition_prefix),
        sent,
        *astuple(message.version),
        *_NOT_CURRENT,
        json_text(_known_ages(body.watch_ages)) if body.watch_ages else None,
    )


def _known_ages(ages: Mapping[str, float]) -> dict[str, float]:
    """Those that are ages: no database's JSON has anything else than finite numbers."""
    told = islice(sorted(ages.items()), MOST_AGES)
    return {name: age for name, age in told if 0.0 <= age < inf}


def join(old: Columns, new: Columns) -> Join:
    """How a backend's row joins the one that the table holds."""
    seen_later = new.last_seen > old.last_seen
    parts = {
        ("last_heartbeat",): ("last_heartbeat",),
        (*_REGISTRATION, "watch_ages"): (
            *("registration_epoch", "registration_resource_version", "registered_at"),
        ),
        _CURRENT: _CURRENT,
    }
    changes = taken(("last_seen",), seen_later, old, new)
    higher: list[ColumnElement[bool]] = [seen_later]
    for names, order in parts.items():
        # Nothing compares with NULL: there the first one wins, and none leaves what is there.
        is_first = and_(old[order[-1]].is_(None), new[order[-1]].is_not(None))
        is_later = tuple_(*(new[name] for name in order)) > tuple_(*(old[name] for name in order))
        higher.append(or_(is_first, is_later))
        changes |= taken(names, higher[-1], old, new)
    return Join(changes=changes, when=or_(*higher))
