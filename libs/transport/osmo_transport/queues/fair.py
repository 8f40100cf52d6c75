"""Which stream is read next: weighted fair queueing over streams of unknown length.

Each stream carries a tag, the virtual time at which its last read began; a read of a stream of
weight w takes 1/w of virtual time, and the stream whose next read would end first goes first. So
streams that hold entries share the reads by their weights, and between two reads of one of them the
others have room for fewer than `sum(weights)`. A stream that was found empty is moved up to the
present: being idle earns no claim to a burst later.
"""

import itertools
import math
from collections.abc import Collection, Mapping


class FairOrder:
    """The order in which one consumer tries the streams. `weights` are whole and positive."""

    def __init__(self, weights: Mapping[str, int]) -> None:
        self._weights = weights
        # Virtual time counts in whole units, so that ties are exact.
        unit = math.lcm(*weights.values())
        self._cost = {stream: unit // weight for stream, weight in weights.items()}
        self._start = dict.fromkeys(weights, 0)
        self._turn = dict.fromkeys(weights, 0)
        """When each stream was read last: of equals, the one that has waited longest goes first."""
        self._turns = itertools.count(1)

    def order(self) -> list[str]:
        """The streams in the order in which the next read should try them."""
        return sorted(
            self._start,
            key=lambda stream: (
                self._start[stream] + self._cost[stream],
                self._turn[stream],
                -self._weights[stream],
            ),
        )

    def done(self, served: Collection[str], empty: Collection[str]) -> None:
        """Account for one read: the streams that gave entries, in order, and those without any."""
        if not served:
            return
        now = self._start[next(iter(served))]
        for stream in served:
            self._start[stream] = max(self._start[stream], now) + self._cost[stream]
            self._turn[stream] = next(self._turns)
        present = min(self._start[stream] for stream in served)
        for stream in empty:
            self._start[stream] = max(self._start[stream], present)
