"""What kinds of messages there are: which of them may replace each other, and which way they take.

A kind is registered where its payload is defined, before a message of it is sent or a queue is
opened::

    register_stream("alerts", weight=8)
    register_kind("alert", Policy.EVERY, "alerts")
    register_kind("state", Policy.LATEST)

A kind that is not registered here is carried all the same: each message of it is kept, for somebody
who knows it.
"""

from enum import Enum
from typing import NamedTuple

from osmo_transport.errors import UsageError
from osmo_transport.message import check_name

DEFAULT_STREAM = "default"
"""The stream of every kind that names no other."""


class Policy(Enum):
    """What matters of a kind's messages."""

    LATEST = "latest"
    """Only the newest of each key: an older one may be skipped anywhere."""
    EVERY = "every"
    """Each of them: none is replaced by another."""


class Kind(NamedTuple):
    """A kind's policy, and the stream that carries it through a queue."""

    policy: Policy
    stream: str


UNKNOWN = Kind(Policy.EVERY, DEFAULT_STREAM)
"""A kind that is not registered."""

latest_kinds: set[str] = set()
"""Those that are registered as such; to be looked into only."""

_kinds: dict[str, Kind] = {}
_weights: dict[str, int] = {DEFAULT_STREAM: 1}


def register_stream(name: str, weight: int) -> None:
    """Let queues have the stream `name`, with a share of the reads: `weight` of the sum of all.

    Raises:
        UsageError: it is registered with another weight, or the weight is no number from 1 on.
    """
    check_name("the name of a stream", name)
    if type(weight) is not int or weight < 1:
        raise UsageError(f"the weight of stream {name!r} is {weight!r}: it must be at least 1")
    if _weights.setdefault(name, weight) != weight:
        raise UsageError(f"stream {name!r} is registered already, with weight {_weights[name]}")


def register_kind(name: str, policy: Policy, stream: str = DEFAULT_STREAM) -> None:
    """Say what matters of the kind `name`, and which stream carries it. The same again is allowed.

    Raises:
        UsageError: the kind is registered otherwise, the stream is not registered, or the policy
            is none.
    """
    check_name("the name of a kind", name)
    if not isinstance(policy, Policy):
        known = " or ".join(f"Policy.{each.name}" for each in Policy)
        raise UsageError(f"the policy of kind {name!r} is {policy!r}: it must be {known}")
    if stream not in _weights:
        raise UsageError(f"kind {name!r} names the stream {stream!r}, which is not registered")
    kind = Kind(policy, stream)
    if _kinds.setdefault(name, kind) != kind:
        raise UsageError(f"kind {name!r} is registered already, as {_kinds[name]}")
    if policy is Policy.LATEST:
        latest_kinds.add(name)


def kind_of(name: str) -> Kind:
    """Policy and stream of the kind `name`; `UNKNOWN` if it is not registered."""
    return _kinds.get(name, UNKNOWN)


def stream_weights() -> dict[str, int]:
    """Each registered stream's share of a consumer's reads, `DEFAULT_STREAM` included."""
    return dict(_weights)
