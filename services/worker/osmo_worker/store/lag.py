"""How long it took from a change in the cluster to its row."""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from math import nan
from typing import Any

from osmo_reports.bodies import PodEvent, UpdatePod
from osmo_runtime.operations import Histogram
from osmo_transport import Delivery

SAMPLES = 32
"""Reports of one kind in one batch of which it is found out; of more, each stands for some. With
that a full batch takes no longer for it than a hundredth of what it takes to be written."""

LONGEST_LAG = 60.0
"""Seconds by which a listener can be behind. What changed longer ago was reported for another
reason, as in a snapshot: then it counts from the report."""


def record(histogram: Histogram, reports: Sequence[tuple[Delivery, Any]], now: float) -> None:
    """Add how long ago the reported changes happened, `now` being when their rows were written, in
    seconds since the Unix epoch."""
    step = 1 + len(reports) // SAMPLES
    for delivery, body in reports[::step]:
        histogram.record(now - changed_at(delivery.message.timestamp, body), step)


def changed_at(reported: float, body: Any) -> float:
    """When what a report tells had changed: by the object's own time, where it has one that can be
    meant, else when it was `reported`."""
    if isinstance(body, UpdatePod) and body.conditions:
        # They are written alike, so that the last text is the last moment.
        at = _seconds(max([condition.timestamp for condition in body.conditions]))
    elif isinstance(body, PodEvent):
        at = _seconds(body.timestamp)
    else:
        return reported
    return at if 0.0 <= reported - at <= LONGEST_LAG else reported


@lru_cache(maxsize=1024)
def _seconds(text: str) -> float:
    """A timestamp of the API server, in seconds since the Unix epoch; not a number where it cannot
    be read."""
    try:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return nan
