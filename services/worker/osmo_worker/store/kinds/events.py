"""The rows of `pod_events`: one per occurrence, so that a report that comes again adds none.

An occurrence is known by its backend, pod, type, reason, message and time. A row joins its reports
in one thing only, the highest count.
"""

import hashlib
from datetime import datetime

import msgspec

from osmo_reports import bodies
from osmo_transport import Delivery
from osmo_worker.store.merge import Columns, Join, Row
from osmo_worker.store.values import moment, moment_at, shortened, without_nul

KIND = "pod_event"

MAX_TEXT = 4096
"""Characters kept of each text of an event: four times what a cluster lets its own say."""

ID_BYTES = 16
"""Of the digest that tells occurrences apart: two of a billion are equal once in 10^20 times."""


class PodEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One row of `pod_events`: something that the cluster noted about a pod."""

    backend: str
    id: str
    """Hex digits that tell the occurrences of a backend apart."""
    pod: str
    """`namespace/name`; of listeners that tell no namespace, the name alone."""
    type: str
    """`Normal` or `Warning`, or empty where the listener does not tell it."""
    reason: str
    message: str
    happened_at: datetime
    """When it happened last, by the cluster's clock; of one without a time, when it was reported by
    the listener's."""
    count: int
    """How often it was noted since the report before."""
    reported_at: datetime
    """When a worker first stored it."""


def event_row(delivery: Delivery, body: bodies.PodEvent, now: str) -> Row:
    """The values of an event's row, in the order of the table's columns."""
    happened_at = moment(body.timestamp) or moment_at(delivery.message.timestamp) or now
    texts = [without_nul(text) for text in (body.pod, body.type, body.reason, body.message)]
    identity = "\0".join((*texts, happened_at)).encode()
    return (
        delivery.backend,
        hashlib.blake2b(identity, digest_size=ID_BYTES).hexdigest(),
        *(shortened(text, MAX_TEXT) for text in texts),
        happened_at,
        body.count,
        now,
    )


def join(old: Columns, new: Columns) -> Join:
    """How an event's row joins the one that the table holds: it changes nothing where the
    occurrence is known with that count or a higher one."""
    return Join(changes={"count": new["count"]}, when=new["count"] > old["count"])
