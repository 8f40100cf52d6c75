"""Names of the keys in Redis; one hash tag puts all of them into one slot of a Redis Cluster."""

from collections.abc import Iterable
from typing import NamedTuple

from osmo_transport.errors import UsageError


class Keys(NamedTuple):
    """The keys of one queue."""

    epoch: str
    producers: str
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
        if not namespace or not namespace.isascii() or not namespace.isprintable():
            raise UsageError("the namespace of the queue must be printable ASCII, and not empty")
        if set(namespace) & set("{} "):
            raise UsageError("the namespace of the queue must not hold braces or spaces")
        tag = f"{{{namespace}}}"
        return cls(
            epoch=f"{tag}:epoch",
            producers=f"{tag}:producers",
            dead=f"{tag}:dead",
            backends=f"{tag}:backends",
            rules=f"{tag}:rules",
            rules_changed=f"{tag}:rules:changed",
            streams={stream: f"{tag}:stream:{stream}" for stream in streams},
        )
