"""How messages lie in Redis: what `RedisQueue` and its parts leave to a layout, and our own one.

Another one is named in a queue's URL, `?layout=NAME`, and found by an entry point of that name in
the group `osmo_transport.redis_layouts`: a function of a namespace and a `QueueConfig` that returns
a `Layout`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from osmo_transport.errors import UnreadableError, UsageError
from osmo_transport.message import Message, read_message
from osmo_transport.queues.abc import QueueConfig
from osmo_transport.queues.delivery import ProducerBatch
from osmo_transport.queues.redis.keys import Keys
from osmo_transport.queues.redis.scripts.letters import replay
from osmo_transport.queues.redis.scripts.producers import append
from osmo_transport.queues.redis.scripts.script import Script
from osmo_transport.queues.rules import stream_of
from osmo_transport.registry import Group, named

LAYOUTS = Group("osmo_transport.redis_layouts", {"own": f"{__name__}:OwnLayout"})

REFUSED = "0"
"""The way of a message that is not appended."""


class Appended(msgspec.Struct, frozen=True):
    """What a batch adds."""

    ways: str
    """For each of its messages a character, or one for all: `REFUSED`, or that of its stream
    (`way`)."""
    payloads: Sequence[bytes]
    """Of each message; of one that is refused, whatever it is."""


def way(place: int) -> str:
    """The character of the stream at a place, from 0."""
    return chr(ord(REFUSED) + 1 + place)


class Content(NamedTuple):
    """What an entry holds, whoever wrote it, as far as that can be told."""

    backend: str
    raw: bytes


def content_of(fields: Sequence[bytes]) -> Content:
    """The content of an entry in any layout; `fields` are names and values in turns."""
    entry = dict(zip(fields[::2], fields[1::2], strict=False))
    backend = entry.get(b"b", entry.get(b"backend", b"")).decode(errors="replace")
    return Content(backend, entry.get(b"m", entry.get(b"message", b" ".join(fields))))


class Layout(ABC):
    """Keys, entries and group of a queue."""

    append: Script
    """See `scripts.producers.append`."""
    replay: Script
    """See `scripts.letters.replay`; with the same fields."""
    group: str | None = None
    """The name that the group has, whatever is asked for; None: what is asked for."""
    shared_for: float = 0.0
    """Seconds for which consumers that are not ours may hold an entry, and do not settle in one
    step; 0: there are none."""

    def __init__(self, keys: Keys) -> None:
        self.keys = keys

    def configured(self, config: QueueConfig) -> QueueConfig:
        """The configuration with which consumers work."""
        return config

    @abstractmethod
    def appended(self, batch: ProducerBatch) -> Appended:
        """What the batch adds."""

    @abstractmethod
    def read(self, entry_id: str, fields: Sequence[bytes]) -> tuple[str, Message]:
        """Backend and message of an entry; `fields` are names and values in turns.

        Raises:
            UnreadableError: it cannot be read.
        """

    @abstractmethod
    def message(self, entry_id: str, payload: bytes) -> Message:
        """The message of an entry.

        Raises:
            UnreadableError: it cannot be read.
        """

    def message_or_none(self, entry_id: str, payload: bytes) -> Message | None:
        """The message of an entry, if it can be read."""
        try:
            return self.message(entry_id, payload)
        except UnreadableError:
            return None


class OwnLayout(Layout):
    """A stream for each stream of kinds, and messages as their senders encoded them."""

    append = append("'b', backend, 'm', message")
    replay = replay("'b', backend, 'm', raw")

    def __init__(self, namespace: str, config: QueueConfig) -> None:
        """Raises:
        UsageError: the namespace could not stand in a key.
        """
        super().__init__(Keys.of(namespace, config.weights))
        streams = {stream: way(place) for place, stream in enumerate(self.keys.streams)}
        self._ways = _Ways(streams)

    def appended(self, batch: ProducerBatch) -> Appended:
        ways, kinds = self._ways, batch.kinds
        if kinds and kinds.count(kinds[0]) == len(kinds):  # as nearly always
            return Appended(ways[kinds[0]], batch.encoded)
        return Appended("".join([ways[kind] for kind in kinds]), batch.encoded)

    def read(self, entry_id: str, fields: Sequence[bytes]) -> tuple[str, Message]:
        try:
            name, backend, payload, data = fields
            if (name, payload) != (b"b", b"m"):
                raise UnreadableError("its fields are not b and m")
            return backend.decode(), read_message(data)
        except ValueError as exc:
            raise UnreadableError(str(exc)) from exc

    def message(self, entry_id: str, payload: bytes) -> Message:
        return read_message(payload)


class _Ways(dict[str, str]):
    """The way of each kind that was seen; of the empty one, that of a refused message."""

    MAX = 1_000
    """Kinds that are remembered: a peer may name as many as it likes."""

    def __init__(self, streams: dict[str, str]) -> None:
        super().__init__({"": REFUSED})
        self._streams = streams

    def __missing__(self, kind: str) -> str:
        found = self._streams[stream_of(kind, self._streams)]
        if len(self) < self.MAX:
            self[kind] = found
        return found


def layout_named(name: str, namespace: str, config: QueueConfig) -> Layout:
    """The layout `name` of the queue `namespace`.

    Raises:
        UsageError: there is no such layout, or the namespace could not stand in a key.
    """
    make = named(LAYOUTS, name)
    if make is None:
        raise UsageError(f"the queue's URL names the layout {name!r}, which is not installed")
    layout: Layout = make(namespace, config)
    return layout
