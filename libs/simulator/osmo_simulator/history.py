"""Versions of objects and the bounded history of their changes, shared by all watchers."""

from bisect import bisect_right
from collections.abc import Callable, Iterable

import msgspec

from osmo_simulator.errors import expired
from osmo_simulator.resources import Object

_encode = msgspec.json.Encoder().encode

_TRIM_STEP = 256
"""Old changes are dropped this many at a time, since each drop moves the whole list."""


class Version:
    """One version of an object, never changed once made.

    It is encoded field by field when it is made, and a field that is the very object of the version
    before shares its bytes: a new status costs nothing for a large spec.

    Args:
        obj: the object, its metadata first.
        number: the resource version.
        before: the version that this one follows.
    """

    __slots__ = ("_fields", "number", "object", "replaced")

    def __init__(self, obj: Object, number: int, before: "Version | None" = None) -> None:
        self.object = obj
        self.number = number
        old, old_fields = (before.object, before._fields) if before else ({}, {})
        self._fields: dict[str, bytes] = {}
        shared = 0
        for name, value in obj.items():
            if old.get(name) is value and name in old_fields:
                self._fields[name] = old_fields[name]
                shared += len(old_fields[name])
            else:
                comma = b"," if self._fields else b""
                self._fields[name] = b"%s%s:%s" % (comma, _encode(name), _encode(value))
        self.replaced = before.size - shared if before else 0
        """Bytes of the version before that this one does not share."""

    @property
    def size(self) -> int:
        """Bytes of the encoded object, without its braces."""
        return sum(map(len, self._fields.values()))

    @property
    def parts(self) -> Iterable[bytes]:
        """The encoded object without its braces: an answer puts an opening brace before it, with or
        without `kind` and `apiVersion`, and a closing one after it."""
        return self._fields.values()


class Change:
    """One step of an object's life: created (no `before`), changed, or deleted (no `after`)."""

    __slots__ = ("_gone", "after", "before", "key", "number")

    def __init__(self, number: int, key: str, before: Version | None, after: Version | None):
        self.number = number
        self.key = key
        self.before = before
        self.after = after
        self._gone: Version | None = None

    def gone(self) -> Version:
        """What a watcher receives when the object leaves its view: the content before, numbered
        as this change. Made when the first watcher needs it, then shared."""
        if self._gone is None:
            assert self.before is not None, "what was just created cannot leave a view"
            obj = self.before.object
            metadata = {**obj["metadata"], "resourceVersion": str(self.number)}
            self._gone = Version({**obj, "metadata": metadata}, self.number, self.before)
        return self._gone


class History:
    """The latest changes of one resource, oldest first.

    Watchers hold a position in it and no buffer of their own, so that a slow one costs nothing:
    when the history has moved past its position, it has to list again.

    Args:
        start: the number before the first change.
        max_changes: older changes than this many are forgotten.
        max_bytes: as above, by the encoded bytes that only the history still keeps.
    """

    def __init__(self, start: int, max_changes: int, max_bytes: int) -> None:
        self.compacted = start
        """Changes up to this number are forgotten."""
        self._max_changes = max_changes
        self._max_bytes = max_bytes
        self._changes: list[Change] = []
        self._dropped = 0
        self._bytes = 0
        self._callbacks: set[Callable[[], None]] = set()

    def append(self, change: Change) -> None:
        """Add the newest change and wake every subscriber."""
        self._changes.append(change)
        self._bytes += _cost(change)
        if len(self._changes) >= self._max_changes + _TRIM_STEP or self._bytes > self._max_bytes:
            self._trim()
        for callback in self._callbacks:
            callback()

    def position(self, number: int) -> int:
        """Where the changes after `number` begin.

        Raises:
            StatusError: some of them are forgotten.
        """
        if number < self.compacted:
            raise expired(f"too old resource version: {number} ({self.compacted})")
        return self._dropped + bisect_right(self._changes, number, key=lambda c: c.number)

    def read(self, position: int, limit: int) -> list[Change]:
        """Up to `limit` changes from `position` on; the next position is that many further.

        Raises:
            StatusError: the history has moved past the position.
        """
        start = position - self._dropped
        if start < 0:
            raise expired(f"the watch fell behind the history, which begins at {self.compacted}")
        return self._changes[start : start + limit]

    def after(self, number: int) -> list[Change]:
        """Every change after `number`, oldest first.

        Raises:
            StatusError: some of them are forgotten.
        """
        return self._changes[self.position(number) - self._dropped :]

    def compact(self, number: int) -> None:
        """Forget every change; `number` is the cluster's current version."""
        self._drop(len(self._changes))
        self.compacted = number

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` after every change, until the returned function is called."""
        self._callbacks.add(callback)
        return lambda: self._callbacks.discard(callback)

    def _trim(self) -> None:
        count = max(0, len(self._changes) - self._max_changes)
        left = self._bytes - sum(_cost(change) for change in self._changes[:count])
        while count < len(self._changes) and left > self._max_bytes:
            left -= _cost(self._changes[count])
            count += 1
        self._drop(min(max(count, _TRIM_STEP), len(self._changes)))

    def _drop(self, count: int) -> None:
        if count:
            self.compacted = self._changes[count - 1].number
            self._bytes -= sum(_cost(change) for change in self._changes[:count])
            self._dropped += count
            del self._changes[:count]


def _cost(change: Change) -> int:
    if change.after is not None:
        return change.after.replaced
    return change.before.size if change.before else 0
