"""A source in memory with faults on demand, for testing whatever stands on an informer."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from typing import Generic, TypeVar

import msgspec

from osmo_listener.errors import ExpiredError, KubernetesError, SilentError, TruncatedError
from osmo_listener.informer.source import (
    Event,
    EventType,
    KubernetesObject,
    Page,
    object_key,
)

S = TypeVar("S", bound=KubernetesObject)


class FakeSource(Generic[S]):
    """A `Source` that holds objects and follows orders.

    Objects are msgspec structs; their resource versions are set here, as a server does. Verbs take
    effect at once; a watch sees them when its task runs next.

    Args:
        page_size: objects on each page of a list.
        silence: seconds after which a watch that hangs is given up.
    """

    def __init__(self, *, page_size: int = 2, silence: float = 0.01) -> None:
        self.lists = 0
        """How many lists were asked for."""
        self.watched_from: list[int] = []
        """The version that each watch was asked to begin after."""
        self.left_out = 0
        self.positions = 0
        """How often it was asked where the cluster stands."""
        self.forgotten = 0
        """How often the credentials were to be forgotten."""
        self.version = 100
        """Of the latest change."""
        self._page_size = page_size
        self._silence = silence
        self._objects: dict[str, S] = {}
        self._history: list[Event[S]] = []
        self._oldest = self.version
        self._changed = asyncio.Event()
        self._orders: deque[KubernetesError | Event[S] | None] = deque()
        self._failures: deque[KubernetesError] = deque()
        self._unanswered: deque[KubernetesError] = deque()
        self._expired_pages = 0
        self._pages = asyncio.Event()
        self._pages.set()
        self._hanging = False

    # What the cluster does.

    def add(self, item: S) -> S:
        """Create an object; returns it as the cluster has it."""
        return self._record(EventType.ADDED, item)

    def modify(self, item: S) -> S:
        """Replace the object of the same name; returns it as the cluster has it."""
        return self._record(EventType.MODIFIED, item)

    def delete(self, item: S) -> S:
        """Delete the object of this name; returns its final state."""
        last = self._objects.pop(object_key(item))
        return self._record(EventType.DELETED, last)

    def bookmark(self) -> None:
        """Tell the running watch how far the cluster has come."""
        self._order(Event(EventType.BOOKMARK, self.version))

    def restore(self, objects: Sequence[S], version: int) -> None:
        """The cluster comes back from a backup: other objects, and a lower version."""
        self.version = self._oldest = version
        self._history = []
        self._objects = {}
        for item in objects:
            self._objects[object_key(item)] = item
        self.reset_watch()

    # What goes wrong.

    def reset_watch(self) -> None:
        """Break the connection of the running watch."""
        self._order(TruncatedError("the connection ended"))

    def end_watch(self) -> None:
        """The server ends the running watch, as it does now and then."""
        self._order(None)

    def expire(self) -> None:
        """Forget the history: the running watch ends with 410, and so does one that resumes."""
        self._history = []
        self._oldest = self.version + 1
        self.version += 1
        self._changed.set()

    def expire_lists(self, count: int = 1) -> None:
        """The next lists end with 410 when their second page is asked for."""
        self._expired_pages = count

    def hold_lists(self) -> None:
        """Lists stop after their first page until `release_lists`."""
        self._pages.clear()

    def release_lists(self) -> None:
        """Lists go on."""
        self._pages.set()

    def hang(self) -> None:
        """The running watch falls silent until it is given up; the next one works."""
        self._hanging = True
        self._changed.set()

    def fail(self, error: KubernetesError, count: int = 1) -> None:
        """The next requests, lists and watches alike, end with `error` at once."""
        self._failures.extend([error] * count)

    def leave_unanswered(self, error: KubernetesError, count: int = 1) -> None:
        """The next questions where the cluster stands end with `error`."""
        self._unanswered.extend([error] * count)

    # What the informer calls.

    async def list(self) -> AsyncGenerator[Page[S], None]:
        """See `Source.list`."""
        self.lists += 1
        self._fail()
        version, objects = self.version, list(self._objects.values())
        for start in range(0, max(1, len(objects)), self._page_size):
            if start and self._expired_pages:
                self._expired_pages -= 1
                raise _expired()
            last = start + self._page_size >= len(objects)
            yield Page(objects[start : start + self._page_size], version if last else None)
            await self._pages.wait()

    async def watch(self, version: int) -> AsyncGenerator[Sequence[Event[S]], None]:
        """See `Source.watch`."""
        self.watched_from.append(version)
        self._fail()
        self._orders.clear()
        while True:
            if version < self._oldest:
                raise _expired()
            batch = [event for event in self._history if event.version > version]
            if self._hanging:
                await asyncio.sleep(self._silence)
                self._hanging = False
                raise SilentError("nothing arrived")
            if batch:
                version = batch[-1].version
                yield batch
            elif self._orders:
                order = self._orders.popleft()
                if order is None:
                    return
                if isinstance(order, KubernetesError):
                    raise order
                yield [order]
            else:
                self._changed.clear()
                await self._changed.wait()

    async def position(self) -> int:
        """See `Source.position`."""
        self.positions += 1
        if self._unanswered:
            raise self._unanswered.popleft()
        return self.version

    def forget_credentials(self) -> None:
        """See `Source.forget_credentials`."""
        self.forgotten += 1

    def _fail(self) -> None:
        if self._failures:
            raise self._failures.popleft()

    def _record(self, kind: EventType, item: S) -> S:
        self.version += 1
        item = _with_version(item, self.version)
        if kind is not EventType.DELETED:
            self._objects[object_key(item)] = item
        self._history.append(Event(kind, self.version, item))
        self._changed.set()
        return item

    def _order(self, order: KubernetesError | Event[S] | None) -> None:
        self._orders.append(order)
        self._changed.set()


def _with_version(item: S, version: int) -> S:
    metadata = item.metadata
    assert isinstance(item, msgspec.Struct)
    assert isinstance(metadata, msgspec.Struct)
    metadata = msgspec.structs.replace(metadata, resource_version=str(version))
    return msgspec.structs.replace(item, metadata=metadata)


def _expired() -> ExpiredError:
    return ExpiredError("too old resource version", code=410)
