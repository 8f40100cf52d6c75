"""The message: one report about one resource, and the policy of each kind.

A message's payload is opaque to the session, the transports, the operator and the queue: only the
listener that encodes it and the worker that applies it know its shape (`osmo_transport.bodies`).
"""

import random
import time
from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

import msgspec

_UUID4_CLEAR = ~((0xF000 << 64) | (0xC000 << 48))
_UUID4_SET = (0x4000 << 64) | (0x8000 << 48)


class Version(NamedTuple):
    """Which of two reports about one key is newer; compared as a tuple, never by a wall clock.

    `epoch` is the fencing number that the operator hands to a listener (0: none yet);
    `resource_version` is the object's, or for a delete that a re-list inferred, the list's.
    """

    epoch: int
    resource_version: int


class Message(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One report.

    Two reports of a `latest` kind with the same `key` are about the same resource: the one with the
    higher `version` wins, except that a `final` report (one of a terminal pod status) is never
    replaced by one that is not final: then both are told, and the reader joins them.
    """

    id: str
    """uuid4 as 32 hex digits: correlation and tracing."""
    kind: str
    """What the payload is, for example `update_pod`; its policy is `policy_of(kind)`."""
    key: str
    """The resource it is about: orders, compacts and shards. Never empty."""
    version: Version
    timestamp: float
    """When the listener created it, in seconds since the Unix epoch: for latency metrics alone."""
    payload: bytes
    """The encoded body."""
    final: bool = False
    traceparent: str | None = None
    """W3C trace context."""

    @property
    def size(self) -> int:
        """What it counts against every limit in bytes: key, payload and a fixed part."""
        return FIXED_SIZE + len(self.key) + len(self.payload)

    def supersedes(self, other: "Message") -> bool:
        """Whether this report, of the same kind and key, makes `other` needless."""
        return self.version >= other.version and (self.final or not other.final)


def total_size(messages: Iterable[Message | None]) -> int:
    """The sizes of messages together; None has none."""
    # Not by the property, which takes twice as long, and here it is done for each message.
    return sum([FIXED_SIZE + len(m.key) + len(m.payload) for m in messages if m is not None])


FIXED_SIZE = 96
"""Bytes that a message takes beyond its key and payload: id, kind, version, timestamp, framing."""


MAX_NAME = 1024
"""Characters of a message's key, kind and id together: what is longer is no name, and would pass
under `Message.size`."""


class Policy(Enum):
    """What matters of a kind's reports."""

    LATEST = "latest"
    """Only the newest report of each key: an older one may be skipped anywhere."""
    EVERY = "every"
    """Each report: none is replaced by another."""


class Kind(NamedTuple):
    """A kind's policy, and the class of kinds whose stream carries it through the queue."""

    policy: Policy
    stream: str


class Stream:
    """The classes of kinds, each a stream of its own in the queue."""

    PODS = "pods"
    NODES = "nodes"
    USAGE = "usage"
    EVENTS = "events"


STREAM_WEIGHTS: dict[str, int] = {
    Stream.PODS: 8,
    Stream.NODES: 4,
    Stream.EVENTS: 2,
    Stream.USAGE: 1,
}
"""Each stream's share of a consumer's reads while all of them hold entries; none is starved."""

KINDS: dict[str, Kind] = {
    "update_pod": Kind(Policy.LATEST, Stream.PODS),
    "pod_exists": Kind(Policy.LATEST, Stream.PODS),
    "snapshot_end": Kind(Policy.LATEST, Stream.PODS),
    "update_node": Kind(Policy.LATEST, Stream.NODES),
    "node_inventory": Kind(Policy.LATEST, Stream.NODES),
    "heartbeat": Kind(Policy.LATEST, Stream.NODES),
    "update_node_usage": Kind(Policy.LATEST, Stream.USAGE),
    "pod_event": Kind(Policy.EVERY, Stream.EVENTS),
    "logging": Kind(Policy.EVERY, Stream.EVENTS),
}

UNKNOWN_KIND = Kind(Policy.EVERY, Stream.EVENTS)
"""A kind that this version does not know: each report is kept, for a newer worker to read."""


def kind_of(name: str) -> Kind:
    """Policy and stream of the kind `name`; `UNKNOWN_KIND` for one that is not registered."""
    return KINDS.get(name, UNKNOWN_KIND)


def new_id() -> str:
    """A fresh uuid4 as 32 hex digits; `random` re-seeds itself in a forked child."""
    return (random.getrandbits(128) & _UUID4_CLEAR | _UUID4_SET).to_bytes(16).hex()


def new_message(
    kind: str,
    key: str,
    payload: bytes,
    *,
    version: Version = Version(0, 0),
    final: bool = False,
    traceparent: str | None = None,
) -> Message:
    """A message with a fresh id, created now."""
    return Message(new_id(), kind, key, version, time.time(), payload, final, traceparent)
