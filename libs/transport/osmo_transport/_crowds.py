"""How many connections come from one address, and report for one backend."""

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
