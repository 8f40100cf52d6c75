"""Counts of a whole table, brought up to date some rows at a time, so that however large it is
nobody waits for them."""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from sqlalchemy import Column

from osmo_worker.store import queries
from osmo_worker.store.queries import Key, Tallied

STEP_ROWS = 10_000
"""Rows that one step looks at: some ten milliseconds, for which batches wait."""
MAX_VALUES = 40
"""Values that are told apart in each backend; statuses are what its listener says they are."""
OTHERS = "(others)"
"""What stands for all further values."""


class Tally:
    """How many live rows each backend has of each value of a column.

    Goes round and round over the table in the order of its key: the counts of a backend are
    replaced when all of its rows were looked at, and are gone when it has none. What happens behind
    the place where a round is, is in the next one.
    """

    def __init__(self, read: Callable[..., Awaitable[Tallied]], column: Column[Any]) -> None:
        self._read = read
        self._column = column
        self._after: Key = ()
        self._begun: dict[str, Counter[Any]] = {}
        self._seen: set[str] = set()
        self._counts: dict[str, Counter[Any]] = {}
        self.rounds = 0
        """How often all rows have been looked at."""

    @property
    def counts(self) -> Mapping[str, Mapping[Any, int]]:
        """By backend and value, as far as rounds have come."""
        return self._counts

    async def step(self) -> None:
        """Look at the next `STEP_ROWS` rows, in one transaction. Safe to cancel.

        Raises:
            StoreUnavailableError: the database does not answer; the next step is this one.
        """
        found, last = await self._read(queries.read_tally, self._column, self._after, STEP_ROWS)
        for backend, value, count in found:
            known = self._begun.setdefault(backend, Counter())
            known[value if value in known or len(known) < MAX_VALUES else OTHERS] += count
        unfinished = last and last[0]
        for backend in [name for name in self._begun if name != unfinished]:
            self._counts[backend] = self._begun.pop(backend)
            self._seen.add(backend)
        self._after = last or ()
        if not last:
            for backend in self._counts.keys() - self._seen:
                del self._counts[backend]
            self._seen.clear()
            self.rounds += 1

    async def complete(self) -> Mapping[str, Mapping[Any, int]]:
        """Go on until the round ends; returns the counts.

        Raises:
            StoreUnavailableError: the database does not answer; call again to go on.
        """
        rounds = self.rounds
        while self.rounds == rounds:
            await self.step()
        return self._counts
