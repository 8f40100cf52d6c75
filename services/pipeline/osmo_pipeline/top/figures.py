"""The figures that services tell, added up over all of them."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class Figures:
    """What services tell at one moment."""

    values: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """By name in Prometheus' text, of all labels and services together."""
    buckets: dict[str, dict[float, float]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(float))
    )
    """By name of a histogram, how many durations there were up to each number of seconds."""
    failures: dict[str, str] = field(default_factory=dict)
    """By URL, without its password, why it told nothing."""


def percentile(
    before: Mapping[float, float], now: Mapping[float, float], percent: float
) -> float | None:
    """The seconds that `percent` of the durations did not exceed that came between two moments, by
    the counts up to each bound, which begin anew when a service does; None: there were none."""
    grown = {bound: now[bound] - before.get(bound, 0.0) for bound in sorted(now)}
    if any(count < 0 for count in grown.values()):
        grown = {bound: now[bound] for bound in sorted(now)}
    total = max(grown.values(), default=0.0)
    if total <= 0:
        return None
    wanted = total * percent / 100
    lower, below = 0.0, 0.0
    for bound, count in grown.items():
        if count >= wanted:
            if bound == float("inf"):
                return lower
            return lower + (bound - lower) * (wanted - below) / max(count - below, 1e-9)
        lower, below = bound, count
    return lower
