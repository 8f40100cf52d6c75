"""One watch: the part of the history that a client asked for, as encoded events."""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import msgspec

from osmo_simulator.cluster import Cluster, Store
from osmo_simulator.errors import StatusError, version_too_large
from osmo_simulator.history import Change, Version
from osmo_simulator.options import ListOptions
from osmo_simulator.resources import Resource
from osmo_simulator.selectors import compile_selectors

INITIAL_EVENTS_END = "k8s.io/initial-events-end"
_CHANGES_PER_READ = 32
"""Small enough that one read stays under half a megabyte of usual pods and other watchers get their
turn, large enough that the work per read does not count."""


class Encoder(Protocol):
    """How a watch's objects are written: whole, or as rows of a table."""

    def object(self, version: Version) -> Iterable[bytes]:
        """The parts of an encoded object."""


class ObjectEncoder:
    """Whole objects, from the bytes that all watchers share."""

    def __init__(self, resource: Resource) -> None:
        self._type_meta = resource.type_meta

    def object(self, version: Version) -> Iterable[bytes]:
        """The parts of an encoded object."""
        return (self._type_meta, *version.parts, b"}")


class Watch:
    """A client's watch; it keeps a position in the history and buffers nothing.

    Args:
        cluster: what is watched.
        store: the resource that is watched.
        namespace: the only namespace, or empty for all.
        options: what the client asked for.
        encoder: how objects are written.

    Raises:
        StatusError: a selector is wrong, or the state is asked for at a version that does not
            exist yet. A version that is too old does not raise: the first read is the error event.
    """

    def __init__(
        self,
        cluster: Cluster,
        store: Store,
        namespace: str,
        options: ListOptions,
        encoder: Encoder,
    ) -> None:
        self.ended = False
        """Nothing more will come: the last read was an error event."""
        self.timeout = options.timeout
        """Seconds that the client wants the watch to last; None leaves it to the server."""
        self._cluster = cluster
        self._store = store
        self._encoder = encoder
        self._options = options
        self._selected = compile_selectors(
            store.resource, namespace=namespace, labels=options.labels, fields=options.fields
        )
        sends_state = options.initial_events
        if sends_state is None:
            sends_state = not options.version
        if options.initial_events and (options.version or 0) > cluster.version:
            raise version_too_large(options.version or 0, cluster.version)
        self._state = store.current() if sends_state else None
        self._after = cluster.version if sends_state else options.version or cluster.version
        self._chunks = self._read()

    def read(self) -> bytes:
        """The next events, one line each; empty when there is nothing new."""
        return next(self._chunks, b"")

    def bookmark(self) -> bytes:
        """An event that tells the client how far it has come; empty if it asked for none.

        To be called only when `read` has nothing new.
        """
        return self._bookmark({}) if self._options.bookmarks else b""

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` after every change, until the returned function is called."""
        return self._store.history.subscribe(callback)

    def _read(self) -> Iterator[bytes]:
        try:
            # Taken before the state is sent: what changes meanwhile comes after it.
            position = self._store.history.position(self._after)
            yield from self._read_state()
            while True:
                changes = self._store.history.read(position, _CHANGES_PER_READ)
                position += len(changes)
                parts: list[bytes] = []
                for change in changes:
                    if change.number > self._after:
                        self._write_change(parts, change)
                if parts or not changes:
                    yield b"".join(parts)
        except StatusError as exc:
            self.ended = True
            yield error_event(exc)

    def _read_state(self) -> Iterator[bytes]:
        if self._state is None:
            return
        for start in range(0, len(self._state), _CHANGES_PER_READ):
            parts: list[bytes] = []
            for version in self._state[start : start + _CHANGES_PER_READ]:
                if self._matches(version):
                    self._write(parts, b"ADDED", version)
            if parts:
                yield b"".join(parts)
        self._state = None
        if self._options.bookmarks:
            yield self._bookmark({"annotations": {INITIAL_EVENTS_END: "true"}}, self._after)

    def _write_change(self, parts: list[bytes], change: Change) -> None:
        was = change.before is not None and self._matches(change.before)
        if change.after is not None and self._matches(change.after):
            self._write(parts, b"MODIFIED" if was else b"ADDED", change.after)
        elif was:
            self._write(parts, b"DELETED", change.gone())

    def _write(self, parts: list[bytes], kind: bytes, version: Version) -> None:
        parts += (b'{"type":"', kind, b'","object":')
        parts += self._encoder.object(version)
        parts.append(b"}\n")

    def _bookmark(self, metadata: dict[str, object], version: int = 0) -> bytes:
        resource = self._store.resource
        number = str(version or max(self._after, self._cluster.version))
        content = {"metadata": {"resourceVersion": number, **metadata}, **resource.empty}
        tail = msgspec.json.encode(content)[1:]
        return b'{"type":"BOOKMARK","object":' + resource.type_meta + tail + b"}\n"

    def _matches(self, version: Version) -> bool:
        return self._selected is None or self._selected(version.object)


def error_event(error: StatusError) -> bytes:
    """The event that ends a watch with an error."""
    return msgspec.json.encode({"type": "ERROR", "object": error.status()}) + b"\n"
