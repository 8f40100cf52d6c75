"""How many connections there are of one address and of one backend, and what is held for it."""

from collections import Counter


class Crowd:
    """How many there are of each name, and how many may be."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._inside: Counter[str] = Counter()

    def enter(self, name: str) -> str:
        """Count one more; why that is one too many, which is counted all the same, or nothing."""
        self._inside[name] += 1
        return f"{self._most} connections, the limit" if self._inside[name] > self._most else ""

    def leave(self, name: str) -> None:
        """One of those that entered has gone."""
        self._inside[name] -= 1
        if not self._inside[name]:
            del self._inside[name]


class Holding:
    """What is held in memory for all connections of one backend."""

    __slots__ = ("__weakref__", "bytes")

    def __init__(self) -> None:
        self.bytes = 0
