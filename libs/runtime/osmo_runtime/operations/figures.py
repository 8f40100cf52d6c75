"""What a service can be asked to tell in numbers, and durations in buckets."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from itertools import accumulate, pairwise
from operator import add
from typing import NamedTuple


class Kind(Enum):
    """What a number means over time."""

    COUNTER = "counter"
    """It only rises, and begins anew when the process does."""
    GAUGE = "gauge"
    """It is as it is at this moment."""
    HISTOGRAM = "histogram"
    """Durations by their length, counted since the process began."""


class Figure(NamedTuple):
    """One figure of a service. Its name and attributes are promises: dashboards stand on them."""

    name: str
    """As OpenTelemetry has it; Prometheus' adds the unit, and `_total` to a counter."""
    kind: Kind
    help: str
    """One sentence: what is counted."""
    attributes: tuple[str, ...] = ()
    """By what it is told apart: never by pods, tasks or workflows, of which there is no end."""
    unit: str = ""
    """`s`, `By`, or nothing for a count."""

    @property
    def exposed(self) -> str:
        """Its name in Prometheus' text."""
        unit = {"": "", "s": "_seconds", "By": "_bytes"}[self.unit]
        return f"{self.name}{unit}{'_total' if self.kind is Kind.COUNTER else ''}"


SMALLEST = 1e-6
"""Seconds: what is shorter falls into the first bucket."""
PER_DECADE = 48
"""Buckets between a duration and ten times of it: a percentile is at most 5 % too high."""
LARGEST = 7 * 86_400.0
"""Seconds: what is longer counts as this long, or one message with the time of a wrong clock would
spoil the mean and the maximum for good."""

_BUCKETS = math.ceil(math.log10(LARGEST / SMALLEST) * PER_DECADE) + 1
_ENDS = tuple(SMALLEST * 10 ** (bucket / PER_DECADE) for bucket in range(_BUCKETS - 1))
"""Seconds: the longest that is in each bucket but the last."""

TOLD_EACH = PER_DECADE // 3
"""Buckets that are one of those that are told: three in a decade, 1, 2.15 and 4.64."""
_TOLD = range(3 * PER_DECADE, 9 * PER_DECADE + 1, TOLD_EACH)

BOUNDS = tuple(float(f"{SMALLEST * 10 ** (bucket / PER_DECADE):.3g}") for bucket in _TOLD)
"""Seconds: upper bounds of the buckets that are told, from a millisecond to a quarter of an hour.
"""


class Histogram:
    """Durations in seconds, in buckets of which each is longer by the same factor: its memory does
    not grow."""

    def __init__(self) -> None:
        self._buckets = [0] * _BUCKETS
        self.count = 0
        self.total = 0.0
        self.maximum = 0.0

    def record(self, seconds: float, times: int = 1) -> None:
        """Add a duration, which was met so many times. A negative one, from a clock that is ahead
        of ours, counts as zero, and so does one that is not finite, from a message that tells no
        time."""
        bucket = 0
        if 0.0 < seconds < math.inf:
            # Once for each message: `min` and `max` would cost as much as all the rest.
            if seconds > LARGEST:  # noqa: PLR1730
                seconds = LARGEST
            if seconds > self.maximum:  # noqa: PLR1730
                self.maximum = seconds
            bucket = bisect_left(_ENDS, seconds)
            self.total += seconds * times
        self._buckets[bucket] += times
        self.count += times

    def record_all(self, durations: Iterable[float]) -> None:
        """Add each of some durations, as `record` does: of many that are much alike, at a third of
        its cost."""
        ordered = sorted(durations)
        total = sum(ordered)
        # One that is no number has no place in an order, and makes the sum none.
        if not (ordered and ordered[0] > 0.0 and ordered[-1] <= LARGEST and total < math.inf):
            for seconds in ordered:
                self.record(seconds)
            return
        position = 0
        while position < len(ordered):
            bucket = bisect_left(_ENDS, ordered[position])
            end = len(ordered)
            if bucket < len(_ENDS):
                end = bisect_right(ordered, _ENDS[bucket], position)
            self._buckets[bucket] += end - position
            position = end
        self.maximum = max(self.maximum, ordered[-1])
        self.total += total
        self.count += len(ordered)

    @property
    def mean(self) -> float:
        """The exact mean of what was counted; 0 when nothing was recorded."""
        return self.total / self.count if self.count else 0.0

    def percentile(self, percent: float) -> float:
        """The duration that `percent` of all do not exceed; 0 when nothing was recorded."""
        if not self.count:
            return 0.0
        reached = list(accumulate(self._buckets))
        bucket = bisect_left(reached, max(self.count * percent / 100, 1))
        return min(SMALLEST * 10 ** (min(bucket, _BUCKETS - 1) / PER_DECADE), self.maximum)

    @classmethod
    def sum_of(cls, histograms: Iterable["Histogram"]) -> "Histogram":
        """All of their durations in one."""
        whole = cls()
        for each in histograms:
            whole._buckets = list(map(add, whole._buckets, each._buckets))  # noqa: SLF001
            whole.count += each.count
            whole.total += each.total
            whole.maximum = max(whole.maximum, each.maximum)
        return whole

    def told(self) -> Sequence[int]:
        """How many there are up to each of `BOUNDS` and beyond the one before, and then those that
        are longer than all of them."""
        ends = [0, *(bucket + 1 for bucket in _TOLD), _BUCKETS]
        return [sum(self._buckets[first:last]) for first, last in pairwise(ends)]


SPANS_DROPPED = Figure(
    "osmo_spans_dropped", Kind.COUNTER, "Spans that no collector took; of who pushes spans."
)
FILE_FAILURES = Figure(
    "osmo_file_reload_failures",
    Kind.COUNTER,
    "How often a file that somebody else keeps fresh was changed and could not be used.",
    ("file",),
)
FILE_UNUSABLE = Figure(
    "osmo_file_unusable",
    Kind.GAUGE,
    "1 while a file cannot be used and what it was before is in force, else 0.",
    ("file",),
)
FILE_REFUSED = Figure(
    "osmo_file_refused",
    Kind.GAUGE,
    "1 while the server for which the password in a file is refuses it, else 0.",
    ("file",),
)
CERTIFICATE_EXPIRY = Figure(
    "osmo_tls_certificate_expiry",
    Kind.GAUGE,
    "Time until this side's certificate ends, the one in force; below 0 when it has.",
    ("file",),
    "s",
)

FIGURES = (SPANS_DROPPED, FILE_FAILURES, FILE_UNUSABLE, FILE_REFUSED, CERTIFICATE_EXPIRY)
"""Those that every service tells, where it has what they are about."""

Value = float | Histogram
Reading = tuple[Value, Mapping[str, str]]
"""A value, and its attributes."""
Read = Callable[[], Iterable[Reading]]
"""The values of a figure at this moment."""
