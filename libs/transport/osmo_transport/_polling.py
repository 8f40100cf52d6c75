"""Being awake when an answer comes, instead of being woken up by it."""

import asyncio
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from math import inf
from time import perf_counter

BUSY_POLL = 0.0002
"""Seconds: what answers on the same machine or rack takes less, by way of gRPC's threads or of a
store as well."""

MAX_FAILURES = 8
"""After so many in a row one of 256 expectations is polled for: often enough to notice that answers
have become quick, and next to nothing where they never are."""


class BusyPoll:
    """Keeps an event loop from sleeping while something is expected at once.

    To be woken up takes a process longer than most answers are under way. So the loop takes its
    turns as always, but does not wait in between, for `span` seconds at most. Whoever else has work
    for its CPU goes first: threads of gRPC, which bring its answers, a store, a neighbour. Where
    nothing comes in that time ever fewer expectations are polled for: after n failures in a row the
    next 2ⁿ - 1 are not. With one CPU, whoever is to answer could not run meanwhile: nothing is
    polled for.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        span: float,
        *,
        clock: Callable[[], float] = perf_counter,
        cpus: int | None = None,
    ) -> None:
        """`clock` gives seconds, and finer than a loop's own; `cpus`: of this process."""
        self._loop = loop
        self._span = span if (_cpus() if cpus is None else cpus) > 1 else 0.0
        self._clock = clock
        self._until = 0.0
        self._expecting = False
        self._looking = False
        self._failures = 0
        self._skipped = 0

    def expect(self) -> float:
        """Something may come any moment; until when that counts as in time, by the clock."""
        if not self._span:
            return 0.0
        if self._skipped:
            self._skipped -= 1
            return 0.0
        self._until = self._clock() + self._span
        self._expecting = True
        if not self._looking:
            self._looking = True
            self._loop.call_soon(self._look)
        return self._until

    def met(self, until: float = inf) -> None:
        """It came, or is expected no more; what was expected `until` a moment that has passed
        says nothing."""
        if self._expecting and self._clock() <= until:
            self._expecting = False
            self._failures = 0

    def _look(self) -> None:
        if self._expecting and self._clock() < self._until:
            let_others_run()
            self._loop.call_soon(self._look)
            return
        self._looking = False
        if self._expecting:
            self._expecting = False
            self._failures = min(self._failures + 1, MAX_FAILURES)
            self._skipped = 2**self._failures - 1


def _cpus() -> int:
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


let_others_run: Callable[[], None] = getattr(os, "sched_yield", partial(time.sleep, 0))
"""Lets whoever waits for this CPU have it; returns at once where nobody does."""
