"""Which keys have to be looked at again, and when."""

import heapq
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound="str | tuple[Any, ...]")


class Deadlines(Generic[K]):
    """At most one deadline for each key, in seconds on any one clock.

    Setting, clearing and taking cost O(log n); memory stays within a constant factor of the keys
    that have a deadline.
    """

    _SLACK = 64
    """Outdated heap entries that are tolerated beyond one for each key that has a deadline."""

    def __init__(self) -> None:
        self._at: dict[K, float] = {}
        self._heap: list[tuple[float, K]] = []

    def __len__(self) -> int:
        return len(self._at)

    def set(self, key: K, at: float | None) -> None:
        """Give `key` the deadline `at` in place of the one that it had; None: no deadline."""
        if at is None:
            if self._at:
                self._at.pop(key, None)
        elif self._at.get(key) != at:
            self._at[key] = at
            heapq.heappush(self._heap, (at, key))
        if len(self._heap) > 2 * len(self._at) + self._SLACK:
            self._heap = [(at, key) for key, at in self._at.items()]
            heapq.heapify(self._heap)

    def next(self) -> float | None:
        """The earliest deadline, or None when there is none."""
        while self._heap:
            at, key = self._heap[0]
            if self._at.get(key) == at:
                return at
            heapq.heappop(self._heap)
        return None

    def take_due(self, now: float) -> list[K]:
        """Remove and return the keys whose deadline is `now` or earlier, the earliest first."""
        due = []
        while (at := self.next()) is not None and at <= now:
            _, key = heapq.heappop(self._heap)
            del self._at[key]
            due.append(key)
        return due
