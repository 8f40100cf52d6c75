"""One informer for several handlers, each of which is told of the objects that it wants.

Promises, on top of the informer's:
- A handler knows nothing of the others: what it is told is what an informer of its own would tell,
  whose source selects by the same condition.
- An object that begins to fulfil the condition is told as ADDED, one that no longer does as
  DELETED, with its last state that did.
- The handlers are told in their order, each before the next: a slow one slows them all.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Generic

from osmo_listener.informer.informer import Handler
from osmo_listener.informer.source import T
from osmo_listener.informer.store import Change, ChangeType


class Branch(Generic[T]):
    """A handler, and which objects it is told of.

    Args:
        handler: whom to tell.
        wants: depends on the object alone, and never raises; None: it is told of all.
    """

    def __init__(self, handler: Handler[T], wants: Callable[[T], bool] | None = None) -> None:
        self.handler = handler
        """Whom to tell."""
        self._wants = wants
        self._told: set[str] = set()
        """The uids of the objects that the handler knows, where these are not all."""
        self._all = 0
        """How many it knows, where these are all."""

    def __len__(self) -> int:
        return self._all if self._wants is None else len(self._told)

    def among(self, objects: Iterable[T]) -> Iterable[T]:
        """Those of `objects` that the handler is told of."""
        return objects if self._wants is None else filter(self._wants, objects)

    def select(self, changes: Sequence[Change[T]]) -> Sequence[Change[T]]:
        """Take note of `changes`; returns what they are to the handler."""
        wants = self._wants
        if wants is None:
            for each in changes:
                self._all += (each.new is not None) - (each.old is not None)
            return changes
        return [change for each in changes if (change := self._select(each, wants)) is not None]

    def _select(self, change: Change[T], wants: Callable[[T], bool]) -> Change[T] | None:
        _, old, new, version = change
        if new is not None and wants(new):
            uid = new.metadata.uid
            if uid in self._told:
                return change
            self._told.add(uid)
            return Change(ChangeType.ADDED, None, new, version)
        # The final state of what is gone may not fulfil the condition: what counts is who was told.
        if old is None or old.metadata.uid not in self._told:
            return None
        self._told.remove(old.metadata.uid)
        return change if new is None else Change(ChangeType.DELETED, old, None, version)


class Fanout(Generic[T]):
    """The handler of an informer that tells the handlers of `branches`."""

    def __init__(self, branches: Sequence[Branch[T]]) -> None:
        self._branches = tuple(branches)

    async def changed(self, changes: Sequence[Change[T]]) -> None:
        """See `informer.Handler`."""
        for branch in self._branches:
            if selected := branch.select(changes):
                await branch.handler.changed(selected)

    async def synced(self, resource_version: int, count: int) -> None:
        """See `informer.Handler`; each handler is told its own count."""
        for branch in self._branches:
            await branch.handler.synced(resource_version, len(branch))

    async def regressed(self, resource_version: int) -> None:
        """See `informer.Handler`."""
        for branch in self._branches:
            await branch.handler.regressed(resource_version)
