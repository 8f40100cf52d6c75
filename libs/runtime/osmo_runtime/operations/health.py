"""Whether a service lives, and whether it is ready: pure rules, with the time given.

*It lives* while it makes progress with the work that it has, or has none. Work that waits for
somebody else, such as a queue that is away, is none: an outage elsewhere is no reason to restart.
*It is ready* while each of its checks says so.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple


class Check(NamedTuple):
    """What one check found."""

    ok: bool
    reason: str = ""
    """Why it is not, or what is known besides; for people."""
    age: float | None = None
    """Seconds since that was found out, where it was not just now."""


class Work(NamedTuple):
    """How far a service has come with what it has to do."""

    waits: bool
    """Whether there is work that waits for nobody else."""
    done: int
    """Steps done so far; only whether it changes matters."""


STARTING = Check(ok=False, reason="starting")
DRAINING = Check(ok=False, reason="stopping")


class Readiness:
    """The checks of one service."""

    def __init__(self, stopping: Callable[[], bool]) -> None:
        self._stopping = stopping
        self._checks: dict[str, Callable[[], Check]] = {}
        self._hints: dict[str, Callable[[], str]] = {}

    def hint(self, name: str, hint: Callable[[], str]) -> None:
        """Tell what `hint` says too, where it says something: the service is ready all the same."""
        self._hints[name] = hint

    def add(self, name: str, check: Callable[[], Check]) -> None:
        """Ask `check` too, under a name that is not taken yet."""
        if name in self._checks:
            raise ValueError(f"there is a check {name!r} already")
        self._checks[name] = check

    def is_ready(self) -> bool:
        """Whether every check says so, and the service does not drain."""
        return all(check.ok for check in self.found().values())

    def found(self) -> dict[str, Check]:
        """What each check says now."""
        if not self._checks:
            return {"service": STARTING}
        found = {name: check() for name, check in self._checks.items()}
        found |= {
            name: Check(ok=True, reason=text)
            for name, hint in self._hints.items()
            if (text := hint())
        }
        return {"service": DRAINING, **found} if self._stopping() else found


class _Pace:
    def __init__(self, work: Callable[[], Work], now: float) -> None:
        self.work = work
        self.done = work().done
        self.since = now


class Liveness:
    """The work of one service. `clock` gives seconds."""

    def __init__(self, stall: float, clock: Callable[[], float]) -> None:
        self._stall = stall
        self._clock = clock
        self._paces: dict[str, _Pace] = {}

    def add(self, name: str, work: Callable[[], Work]) -> None:
        """Watch `work` too, under a name that is not taken yet."""
        if name in self._paces:
            raise ValueError(f"there is work {name!r} already")
        self._paces[name] = _Pace(work, self._clock())

    def look(self) -> list[str]:
        """Why the service does not live, if it does not; to be called at least each second."""
        return list(self._stalled(self._clock()))

    def _stalled(self, now: float) -> Iterator[str]:
        for name, pace in self._paces.items():
            work = pace.work()
            if not work.waits or work.done != pace.done:
                pace.since, pace.done = now, work.done
            elif now - pace.since > self._stall:
                yield f"{name}: work waits, and none was done for {now - pace.since:.0f} s"
