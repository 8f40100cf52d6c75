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
"""For one input, on a busy machine: readers take microseconds."""

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


class HangError(BaseException):
    """An input took too long."""


@dataclass
class Figures:
    """What came of the inputs."""

    inputs: int = 0
    read: int = 0
    """Those that were taken; the others were refused."""
    slowest: float = 0.0
    """Seconds of one input."""
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


def run(family: Family, inputs: int, seed: int, most: float = MOST_SECONDS) -> Figures:
    """Draw so many inputs from the seed, and let the family read each within `most` seconds."""
    figures, draw = Figures(), Draw(str(seed))
    before = _resident()
    previous = signal.signal(signal.SIGALRM, _too_long)
    try:
        for _ in range(inputs):
            _once(family, family.make(draw), figures, most)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    figures.grown = _resident() - before
    return figures


def _once(family: Family, given: Any, figures: Figures, most: float) -> None:
    began = time.perf_counter()
    signal.setitimer(signal.ITIMER_REAL, most)
    try:
        with suppress(*family.errors):
            family.read(given)
            figures.read += 1
    except (Exception, HangError) as exc:  # noqa: BLE001 - that is what is looked for
        signal.setitimer(signal.ITIMER_REAL, 0)
        last = traceback.extract_tb(exc.__traceback__)[-1]
        where = f"{type(exc).__name__} at {last.filename}:{last.lineno}: {str(exc)[:200]!r}"
        place = where.partition(": ")[0]
        first = next((each for each in figures.found if each.startswith(place)), where)
        figures.times[first] += 1
        figures.found.setdefault(first, repr(given)[:SHOWN])
    signal.setitimer(signal.ITIMER_REAL, 0)
    figures.inputs += 1
    figures.slowest = max(figures.slowest, time.perf_counter() - began)


def _too_long(_: int, __: FrameType | None) -> None:
    raise HangError


def _resident() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
