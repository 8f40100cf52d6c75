"""Waiting until a count has risen far enough."""

import asyncio
from heapq import heapify, heappop, heappush
from itertools import count

_Waiter = tuple[int, int, "asyncio.Future[None]"]


class Milestones:
    """Who waits for which count; the lowest is looked at first."""

    def __init__(self) -> None:
        self._waiters: list[_Waiter] = []
        self._numbers = count()

    async def reached(self, target: int) -> None:
        """Wait until `rise` has told of `target`. Safe to cancel.

        Raises: what `fail` was given.
        """
        future = asyncio.get_running_loop().create_future()
        waiter = (target, next(self._numbers), future)
        heappush(self._waiters, waiter)
        try:
            await future
        except asyncio.CancelledError:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
                heapify(self._waiters)
            raise

    def rise(self, reached: float) -> None:
        """The count is at `reached`."""
        waiters = self._waiters
        while waiters and waiters[0][0] <= reached:
            future = heappop(waiters)[2]
            if not future.done():
                future.set_result(None)

    def fail(self, error: Exception) -> None:
        """Nobody who waits now will ever reach it."""
        for *_, future in self._waiters:
            if not future.done():
                future.set_exception(error)
        self._waiters.clear()
