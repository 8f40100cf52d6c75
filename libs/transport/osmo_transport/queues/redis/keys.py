"""Names of the keys in Redis; one hash tag puts all of them into one slot of a Redis Cluster."""

from collections.abc import Iterable
from typing import NamedTuple

from osmo_transport.errors import UsageError


class Keys(NamedTuple):
    """The keys of one queue."""

    prefix: str
    """Of every key but the streams of a foreign layout; others may keep theirs under it."""
    streams: dict[str, str]
    """By stream."""

    @classmethod
    def of(cls, namespace: str, streams: Iterable[str]) -> "Keys":
        """The keys of the queue `namespace`.

        Raises:
            UsageError: the namespace could not stand in a hash tag.
        """
        tag = hash_tag(namespace)
        return cls(tag, {stream: f"{tag}:stream:{stream}" for stream in streams})

    @property
    def epoch(self) -> str:
        """The identity of this memory."""
        return f"{self.prefix}:epoch"

    @property
    def producers(self) -> str:
        """By producer: epoch, last sequence number, process."""
        return f"{self.prefix}:producers"

    @property
    def opened(self) -> str:
        """When each producer connected last."""
        return f"{self.prefix}:producers:opened"

    @property
    def leases(self) -> str:
        """By producer: until when its place is held, since when, by which connection, and where its
        process is."""
        return f"{self.prefix}:producers:leases"

    @property
    def strangers(self) -> str:
        """When each producer connected that has appended nothing yet."""
        return f"{self.prefix}:producers:strangers"

    @property
    def borders(self) -> str:
        """By backend: the highest epoch, and the lowest that still counts."""
        return f"{self.prefix}:borders"

    @property
    def counts(self) -> str:
        """Of each stream: entries that were appended and removed."""
        return f"{self.prefix}:counts"

    @property
    def dead(self) -> str:
        """The stream of dead letters."""
        return f"{self.prefix}:dead"

    def due(self, stream: str) -> str:
        """When those entries may be had that wait longer than a lease."""
        return f"{self.prefix}:due:{stream}"


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
