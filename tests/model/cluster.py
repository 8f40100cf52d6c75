"""A cluster whose pods and nodes live in an etcd each, with versions that do not compare."""

import random
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

import msgspec

from osmo_listener.errors import ServerFailedError, ThrottledError
from osmo_listener.informer import object_key
from osmo_listener.listeners.objects import Node, Pod
from osmo_listener.testing import FakeSource

T = TypeVar("T", Pod, Node)

OTHERS = 1000
"""Changes of other objects between a backup and whatever may be restored from it: a restore after
which a server had come further than its readers were would not be noticed by them."""


class _Backup(NamedTuple, Generic[T]):
    version: int
    objects: dict[str, T]


class Etcd(Generic[T]):
    """The objects of one kind. Each reader has a source of its own, and all of them see the same;
    the faults of one are its own."""

    def __init__(self, version: int) -> None:
        self.objects: dict[str, T] = {}
        self.version = version
        self._sources: list[FakeSource[T]] = []
        self._backups: list[_Backup[T]] = []

    def open_source(self) -> FakeSource[T]:
        """What a new reader reads."""
        source: FakeSource[T] = FakeSource()
        source.restore(list(self.objects.values()), self.version)
        self._sources.append(source)
        return source

    def close_source(self, source: FakeSource[T]) -> None:
        """Its reader has gone."""
        self._sources.remove(source)

    def put(self, item: T) -> None:
        """Create or replace an object."""
        self.version += 1
        key = object_key(item)
        known = key in self.objects
        self.objects[key] = _versioned(item, self.version)
        for source in self._sources:
            if known:
                source.modify(item)
            else:
                source.add(item)

    def delete(self, key: str) -> None:
        """Remove an object. As on a real server, its last state has a version of its own."""
        self.version += 1
        item = self.objects.pop(key)
        for source in self._sources:
            source.delete(item)

    def change_others(self, count: int) -> None:
        """Objects change that nobody here reads."""
        self.version += count
        for source in self._sources:
            source.version += count

    def back_up(self) -> None:
        """Keep a backup, of which the cluster has moved far away when it is needed."""
        self._backups.append(_Backup(self.version, dict(self.objects)))
        self.change_others(OTHERS)

    @property
    def has_backup(self) -> bool:
        """Whether there is any."""
        return bool(self._backups)

    def restore(self, place: int) -> None:
        """Bring back one of the backups; those after it are lost with the time that they are of."""
        place %= len(self._backups)
        self.version, objects = self._backups[place]
        del self._backups[place:]
        self.objects = dict(objects)
        for source in self._sources:
            source.restore(list(objects.values()), self.version)

    def bookmark(self) -> None:
        """Tell every reader how far the cluster has come."""
        for source in self._sources:
            source.bookmark()

    def compact(self) -> None:
        """Forget the history: who resumes has to list."""
        self.version += 1
        for source in self._sources:
            source.expire()

    def disturb(self, draw: random.Random) -> str:
        """Let something go wrong between a reader and the server; says what."""
        if not self._sources:
            return "nobody reads"
        source = draw.choice(self._sources)
        faults: dict[str, Callable[[], None]] = {
            "reset": source.reset_watch,
            "end": source.end_watch,
            "hang": source.hang,
            "expired lists": source.expire_lists,
            "429": lambda: source.fail(ThrottledError("slow down", code=429), 2),
            "500": lambda: source.fail(ServerFailedError("broken", code=500)),
            "no answer": lambda: source.leave_unanswered(ServerFailedError("broken", code=500)),
        }
        name = draw.choice(sorted(faults))
        faults[name]()
        return name

    def heal(self) -> None:
        """Nothing goes wrong from now on; whoever was cut off comes back."""
        for source in self._sources:
            source.reset_watch()


def _versioned(item: T, version: int) -> T:
    metadata = msgspec.structs.replace(item.metadata, resource_version=str(version))
    changed: T = msgspec.structs.replace(item, metadata=metadata)
    return changed
