"""What an informer knows: the last known state of each object, and how that came to be."""

from collections.abc import Sequence, ValuesView
from enum import Enum
from typing import Generic, NamedTuple

from osmo_listener.informer.source import Event, EventType, Page, T, object_key


class ChangeType(Enum):
    """What became of an object."""

    ADDED = "added"
    MODIFIED = "modified"
    DELETED = "deleted"
    VANISHED = "vanished"
    """Deleted at some moment while nobody was watching, or in a state that cannot be read: `old`
    may not be its final state."""
    RESYNC = "resync"
    """Nothing new: the object is shown once more."""


class Change(NamedTuple, Generic[T]):
    """One change of one object."""

    type: ChangeType
    old: T | None
    """What was known before, for DELETED the object's final state; None: nothing."""
    new: T | None
    """What is known now; None: the object is gone."""
    resource_version: int
    """The object's; for DELETED that of the deletion; for VANISHED that of the list which no longer
    held it, the last one before an object that now has its name, or that of a deletion all the
    same."""


class Store(Generic[T]):
    """One object per key, the newest that was seen.

    The store changes only in its informer's steps and never in the middle of a change, so whoever
    reads it between two awaits sees every object at one version, except while a list is under way:
    then a part is newer.
    """

    def __init__(self) -> None:
        self._objects: dict[str, T] = {}
        self._unlisted: set[str] = set()
        """What is known from before the list that is under way, which has not shown it yet."""

    def get(self, key: str) -> T | None:
        """The object with this key; see `object_key`."""
        return self._objects.get(key)

    def values(self) -> ValuesView[T]:
        """All objects: a live view, to be copied by readers that await in between."""
        return self._objects.values()

    def __len__(self) -> int:
        return len(self._objects)

    def apply(self, events: Sequence[Event[T]]) -> list[Change[T]]:
        """Take over the events of a watch. What is known already changes nothing."""
        changes: list[Change[T]] = []
        for event in events:
            if event.object is None:
                if event.type is EventType.DELETED:
                    self._remove_unread(event.unread, event.version, changes)
                continue
            if event.type is EventType.DELETED:
                self._remove(event.object, event.version, changes)
            else:
                self._put(object_key(event.object), event.object, event.version, changes)
        return changes

    def start_list(self) -> None:
        """A list begins; one that was not finished is forgotten, what it showed is not."""
        self._unlisted = set(self._objects)

    def apply_page(self, page: Page[T]) -> list[Change[T]]:
        """Take over a page of the list."""
        changes: list[Change[T]] = []
        self._unlisted.update(key for key in page.gone if key in self._objects)
        self._unlisted.difference_update(page.unread)
        for item in page.objects:
            key = object_key(item)
            self._unlisted.discard(key)
            self._put(key, item, int(item.metadata.resource_version), changes)
        return changes

    def finish_list(self, version: int) -> list[Change[T]]:
        """The list is complete and shows `version`: what it did not hold has vanished."""
        gone = self._unlisted & self._objects.keys()
        self._unlisted = set()
        return [
            Change(ChangeType.VANISHED, self._objects.pop(key), None, version)
            for key in sorted(gone)
        ]

    def _put(self, key: str, new: T, version: int, changes: list[Change[T]]) -> None:
        old = self._objects.get(key)
        if old is not None:
            if old.metadata.uid == new.metadata.uid:
                # A restored cluster gives the versions that it has lost to other contents.
                if old.metadata.resource_version == new.metadata.resource_version and old == new:
                    return
                self._objects[key] = new
                changes.append(Change(ChangeType.MODIFIED, old, new, version))
                return
            changes.append(Change(ChangeType.VANISHED, old, None, version - 1))
        self._objects[key] = new
        changes.append(Change(ChangeType.ADDED, None, new, version))

    def _remove(self, last: T, version: int, changes: list[Change[T]]) -> None:
        key = object_key(last)
        known = self._objects.get(key)
        if known is not None and known.metadata.uid == last.metadata.uid:
            del self._objects[key]
            changes.append(Change(ChangeType.DELETED, last, None, version))

    def _remove_unread(self, key: str, version: int, changes: list[Change[T]]) -> None:
        known = self._objects.get(key)
        # What has a higher version is a successor of the same name.
        if known is not None and int(known.metadata.resource_version) <= version:
            del self._objects[key]
            changes.append(Change(ChangeType.VANISHED, known, None, version))
