"""What a worker has in hand and has not handled yet: compacted, and in order per key."""

from collections import deque
from collections.abc import Iterable

import msgspec

from osmo_transport import Delivery, Policy, kind_of

Key = tuple[str, str, str]
"""Backend, kind and message key: what order and compaction are about."""


class Work(msgspec.Struct, gc=False, eq=False):
    """One delivery to handle, and those that it makes needless: they share its outcome."""

    key: Key
    delivery: Delivery
    superseded: list[Delivery] | None = None


class Inbox:
    """Hands out works so that

    - of one key at most one is out at a time, and they go out in the order of arrival;
    - of a `latest` kind, what a newer delivery supersedes is not handed out by itself: it goes
      with the newer one;
    - keys go out in the order in which they became ready.
    """

    def __init__(self) -> None:
        self._lines: dict[Key, list[Work]] = {}
        """What waits of each key; empty while the last of a key is out."""
        self._ready: deque[list[Work]] = deque()
        """The lines of the keys of which nothing is out."""

    @property
    def ready(self) -> bool:
        """Whether `take` would return anything."""
        return bool(self._ready)

    def add(self, deliveries: Iterable[Delivery]) -> None:
        """Take in deliveries, in the order in which they were read."""
        for delivery in deliveries:
            message = delivery.message
            key = (delivery.backend, message.kind, message.key)
            work = Work(key, delivery)
            line = self._lines.get(key)
            if line is None:
                self._lines[key] = line = [work]
                self._ready.append(line)
            elif kind_of(message.kind).policy is Policy.LATEST:
                _compact(line, work)
            else:
                line.append(work)

    def take(self, limit: int) -> list[Work]:
        """Up to `limit` works of different keys; nothing else of these keys goes out until
        `done`."""
        taken: list[Work] = []
        while self._ready and len(taken) < limit:
            taken.append(self._ready.popleft().pop(0))
        return taken

    def done(self, works: Iterable[Work]) -> None:
        """These works have been handled: what waits for their keys may go out."""
        for work in works:
            line = self._lines[work.key]
            if line:
                self._ready.append(line)
            else:
                del self._lines[work.key]


def _compact(line: list[Work], new: Work) -> None:
    """Add `new` to the line of its key, where nothing supersedes another."""
    message = new.delivery.message
    for work in list(line):
        if message.supersedes(work.delivery.message):
            line.remove(work)
            # The longer list is kept, so that a key reported n times costs n steps.
            superseded = work.superseded or []
            superseded.append(work.delivery)
            superseded += new.superseded or ()
            new.superseded = superseded
        elif work.delivery.message.supersedes(message):
            work.superseded = work.superseded or []
            work.superseded.append(new.delivery)
            return
    line.append(new)
