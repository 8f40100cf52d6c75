"""Runs the inputs of a family, and judges what comes of them."""

import resource
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, NamedTuple

from tests.fuzz.draw import Draw

MOST_SECONDS = 2.0
"""Of CPU for one input: readers take microseconds of it, however busy the machine is."""
MOST_WAIT = 60.0
"""Seconds for one input whatever it does: readers wait for nothing."""

SHOWN = 400
"""Characters of an input that are shown of what was found."""


class Family(NamedTuple):
    """One kind of what others write."""

    make: Callable[[Draw], Any]
    """Draws an input."""
    read: Callable[[Any], object]
    """Reads it, and raises nothing but `errors`; asserts what it promises of what it took."""
    errors: tuple[type[Exception], ...]
    """Those that are documented."""


_TIMERS = {signal.SIGPROF: signal.ITIMER_PROF, signal.SIGALRM: signal.ITIMER_REAL}


class HangError(BaseException):
    """An input took too long."""


@dataclass
class Figures:
    """What came of the inputs."""

    inputs: int = 0
    read: int = 0
    """Those that were taken; the others were refused."""
    slowest: float = 0.0
    """Seconds of CPU of one input."""
    grown: int = 0
    """Bytes by which the process grew at most."""
    found: dict[str, str] = field(default_factory=dict)
    """What must not be, once for each place, with an input that brings it about."""
    times: Counter[str] = field(default_factory=Counter)
    """How often."""

    def __str__(self) -> str:
        lines = [
            f"{self.inputs} inputs, {self.read} read, slowest {self.slowest * 1e3:.1f} ms,"
            f" grown by {self.grown / 2**20:.0f} MiB, {len(self.found)} found",
            *[
                f"  {self.times[where]} x {where}\n    {given}"
                for where, given in self.found.items()
            ],
        ]
        return "\n".join(lines)


def run(
    family: Family, inputs: int, seed: int, most: float = MOST_SECONDS, wait: float = MOST_WAIT
) -> Figures:
    """Draw so many inputs from the seed, and let the family read each within `most` seconds of CPU,
    and `wait` seconds in all."""
    figures, draw = Figures(), Draw(str(seed))
    before = _resident()
    previous = {number: signal.signal(number, _too_long) for number in _TIMERS}
    try:
        for _ in range(inputs):
            _once(family, family.make(draw), figures, (most, wait))
    finally:
        _allow((0, 0))
        for number, handler in previous.items():
            signal.signal(number, handler)
    figures.grown = _resident() - before
    return figures


def _once(family: Family, given: Any, figures: Figures, limits: tuple[float, float]) -> None:
    began = time.process_time()
    _allow(limits)
    try:
        with suppress(*family.errors):
            family.read(given)
            figures.read += 1
    except (Exception, HangError) as exc:  # noqa: BLE001 - that is what is looked for
        _allow((0, 0))
        frames = traceback.extract_tb(exc.__traceback__)
        last = frames[-2 if isinstance(exc, HangError) else -1]  # not the handler of the signal
        where = f"{type(exc).__name__} at {last.filename}:{last.lineno}: {str(exc)[:200]!r}"
        place = where.partition(": ")[0]
        first = next((each for each in figures.found if each.startswith(place)), where)
        figures.times[first] += 1
        figures.found.setdefault(first, repr(given)[:SHOWN])
    _allow((0, 0))
    figures.inputs += 1
    figures.slowest = max(figures.slowest, time.process_time() - began)


def _allow(limits: tuple[float, float]) -> None:
    for timer, seconds in zip(_TIMERS.values(), limits, strict=True):
        signal.setitimer(timer, seconds)


def _too_long(_: int, __: FrameType | None) -> None:
    raise HangError


def _resident() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
