"""Names of the keys in Redis; one hash tag puts all of them into one slot of a Redis Cluster."""

from collections.abc import Iterable
from typing import NamedTuple

from osmo_transport.errors import UsageError


class Keys(NamedTuple):
    """The keys of one queue."""

    epoch: str
    producers: str
    opened: str
    """When each producer connected last."""
    dead: str
    backends: str
    rules: str
    rules_changed: str
    streams: dict[str, str]
    """By class of kinds."""

    @classmethod
    def of(cls, namespace: str, streams: Iterable[str]) -> "Keys":
        """The keys of the queue `namespace`.

        Raises:
            UsageError: the namespace could not stand in a hash tag.
        """
        tag = hash_tag(namespace)
        return cls.under(tag, {stream: f"{tag}:stream:{stream}" for stream in streams})

    @classmethod
    def under(cls, prefix: str, streams: dict[str, str]) -> "Keys":
        """The keys under a prefix, beside these streams."""
        return cls(
            epoch=f"{prefix}:epoch",
            producers=f"{prefix}:producers",
            opened=f"{prefix}:producers:opened",
            dead=f"{prefix}:dead",
            backends=f"{prefix}:backends",
            rules=f"{prefix}:rules",
            rules_changed=f"{prefix}:rules:changed",
            streams=streams,
        )


def hash_tag(namespace: str) -> str:
    """The namespace as the part of a key that says in which slot it is.

    Raises:
        UsageError: it could not stand there.
    """
    if not namespace or not namespace.isascii() or not namespace.isprintable():
        raise UsageError("the namespace of the queue must be printable ASCII, and not empty")
    if set(namespace) & set("{} "):
        raise UsageError("the namespace of the queue must not hold braces or spaces")
    return f"{{{namespace}}}"
