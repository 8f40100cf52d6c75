"""What a worker counts and measures, readable at any moment."""

import math

SMALLEST = 1e-6
"""Seconds: what is shorter falls into the first bucket."""
GROWTH = 1.05
"""Each bucket's upper bound by the one below: a percentile is at most 5 % too high."""
LARGEST = 7 * 86_400.0
"""Seconds: what is longer counts as this long, or one message with the time of a wrong clock would
spoil the mean and the maximum for good."""

_LOG_GROWTH = math.log(GROWTH)
_BUCKETS = math.ceil(math.log(LARGEST / SMALLEST) / _LOG_GROWTH) + 1


class Histogram:
    """Durations in seconds, in buckets that grow by `GROWTH`: its memory does not grow."""

    def __init__(self) -> None:
        self._buckets = [0] * _BUCKETS
        self.count = 0
        self.total = 0.0
        self.maximum = 0.0

    def record(self, seconds: float) -> None:
        """Add one duration. A negative one, from a clock that is ahead of ours, counts as zero, and
        so does one that is not finite, from a message that tells no time."""
        bucket = 0
        if 0 < seconds < math.inf:
            seconds = min(seconds, LARGEST)
            if seconds > SMALLEST:
                bucket = min(math.ceil(math.log(seconds / SMALLEST) / _LOG_GROWTH), _BUCKETS - 1)
            self.total += seconds
            self.maximum = max(self.maximum, seconds)
        self._buckets[bucket] += 1
        self.count += 1

    @property
    def mean(self) -> float:
        """The exact mean of what was counted; 0 when nothing was recorded."""
        return self.total / self.count if self.count else 0.0

    def percentile(self, percent: float) -> float:
        """The duration that `percent` of all do not exceed; 0 when nothing was recorded."""
        wanted = self.count * percent / 100
        seen = 0
        for bucket, count in enumerate(self._buckets):
            seen += count
            if count and seen >= wanted:
                return min(SMALLEST * GROWTH**bucket, self.maximum)
        return 0.0


class WorkerMetrics:
    """The ledger of one worker: `received` is the sum of `handled`, `compacted`, `retried`,
    `rejected` and what is in hand."""

    def __init__(self) -> None:
        self.received = 0
        """Deliveries taken from the queue."""
        self.handled = 0
        """Deliveries that a handler acknowledged."""
        self.compacted = 0
        """Deliveries acknowledged without being handled, because a newer one of the key was."""
        self.stale = 0
        """Of the handled, those that the store skipped because it holds a newer version."""
        self.retried = 0
        """Deliveries given back for a later try."""
        self.rejected = 0
        """Deliveries that became dead letters because they cannot be handled, ever."""
        self.holding: str | None = None
        """Why the worker waits instead of handling (the queue or the store is away), or None."""
        self.processing_time = Histogram()
        """From a message's creation at the listener until it was acknowledged to the queue."""
