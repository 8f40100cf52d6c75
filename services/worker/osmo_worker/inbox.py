"""What a worker has in hand and has not handled yet: compacted, and in order per key."""

from collections import deque
from collections.abc import Iterable

from osmo_transport import Delivery, Policy, kind_of

Key = tuple[str, str, str]
"""Backend, kind and message key: what order and compaction are about."""


class Work:
    """One delivery to handle, and those that it makes needless: they share its outcome."""

    __slots__ = ("delivery", "key", "superseded")

    def __init__(self, key: Key, delivery: Delivery) -> None:
        self.key = key
        self.delivery = delivery
        self.superseded: list[Delivery] = []


class Inbox:
    """Hands out works so that

    - of one key at most one is out at a time, and they go out in the order of arrival;
    - of a `latest` kind, what a newer delivery supersedes is not handed out by itself: it goes
      with the newer one;
    - keys go out in the order in which they became ready.
    """

    def __init__(self) -> None:
        self._waiting: dict[Key, list[Work]] = {}
        self._ready: deque[Key] = deque()
        self._out: set[Key] = set()

    @property
    def ready(self) -> bool:
        """Whether `take` would return anything."""
        return bool(self._ready)

    def add(self, deliveries: Iterable[Delivery]) -> None:
        """Take in deliveries, in the order in which they were read."""
        for delivery in deliveries:
            message = delivery.message
            key = (delivery.backend, message.kind, message.key)
            works = self._waiting.get(key)
            if works is None:
                self._waiting[key] = [Work(key, delivery)]
                if key not in self._out:
                    self._ready.append(key)
            elif kind_of(message.kind).policy is Policy.LATEST:
                _compact(works, Work(key, delivery))
            else:
                works.append(Work(key, delivery))

    def take(self, limit: int) -> list[Work]:
        """Up to `limit` works of different keys; nothing else of these keys goes out until
        `done`."""
        taken: list[Work] = []
        while self._ready and len(taken) < limit:
            key = self._ready.popleft()
            works = self._waiting[key]
            taken.append(works.pop(0))
            if not works:
                del self._waiting[key]
            self._out.add(key)
        return taken

    def done(self, works: Iterable[Work]) -> None:
        """These works have been handled: what waits for their keys may go out."""
        for work in works:
            self._out.remove(work.key)
            if work.key in self._waiting:
                self._ready.append(work.key)


def _compact(works: list[Work], new: Work) -> None:
    """Add `new` to the works of its key, none of which supersedes another."""
    message = new.delivery.message
    for work in list(works):
        if message.supersedes(work.delivery.message):
            works.remove(work)
            # The longer list is kept, so that a key reported n times costs n steps.
            work.superseded.append(work.delivery)
            work.superseded += new.superseded
            new.superseded = work.superseded
        elif work.delivery.message.supersedes(message):
            work.superseded.append(new.delivery)
            return
    works.append(new)
