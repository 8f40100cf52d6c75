"""What `top` shows: the figures of this moment, and what became of those of the moment before."""

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import NamedTuple

from osmo_listener import figures as listener
from osmo_operator import figures as operator
from osmo_pipeline.fleet import Member
from osmo_pipeline.top.figures import Figures, percentile
from osmo_transport import Producer, QueueStatus, Standing
from osmo_transport.lean import dataclass
from osmo_worker import figures as worker

LATENCIES = {
    "change to row": worker.END_TO_END.exposed,
    "report to row": worker.PROCESSING_TIME.exposed,
    "append": operator.APPEND.exposed,
    "round trip": listener.ROUND_TRIP.exposed,
}
"""Durations that services tell, by what they are called here."""

GAUGES = {
    "in flight": listener.IN_FLIGHT.exposed,
    "outbox": listener.OUTBOX.exposed,
    "in hand": worker.IN_HAND.exposed,
    "holding": worker.HOLDING.exposed,
}
"""Numbers that services tell, likewise."""


class Queued(NamedTuple):
    """What the queue tells at one moment."""

    at: float
    """Seconds of a clock that only rises."""
    wall: float
    """Seconds since the Unix epoch."""
    status: QueueStatus
    standings: Sequence[Standing]

    @property
    def held(self) -> int:
        """Entries and dead letters."""
        status = self.status
        return sum(status.waiting.values()) + sum(status.pending.values()) + status.dead


class Flow(NamedTuple):
    """What went through the queue between two moments, each second."""

    reported: Mapping[str, float]
    """Reports that were stored, by backend."""
    handled: float
    """Reports that workers settled, other than as dead letters."""


def flow(before: Queued, now: Queued) -> Flow | None:
    """See `Flow`; None: no time has passed."""
    seconds = now.at - before.at
    if seconds <= 0:
        return None
    known: dict[tuple[Producer, int], int] = {
        (each.producer, each.epoch): each.sequence for each in before.standings
    }
    reports: dict[str, int] = {}
    for each in now.standings:
        # One that is new counts its reports from zero, unless it was only not told of before.
        since = known.get((each.producer, each.epoch))
        if since is None:
            since = 0 if each.opened >= before.wall else each.sequence
        backend = each.producer.backend
        reports[backend] = reports.get(backend, 0) + max(0, each.sequence - since)
    handled = sum(reports.values()) - (now.held - before.held)
    rates = {backend: count / seconds for backend, count in reports.items()}
    return Flow(rates, max(0.0, handled / seconds))


class Latency(NamedTuple):
    """Seconds that half of the durations, and 99 of 100, did not exceed since the moment before."""

    p50: float | None
    p99: float | None


def latencies(before: Figures | None, now: Figures) -> dict[str, Latency]:
    """The `LATENCIES` that any service tells; without a moment before since the services began."""
    found = {}
    for name, metric in LATENCIES.items():
        if (buckets := now.buckets.get(metric)) is not None:
            earlier: Mapping[float, float] = {}
            if before is not None:
                earlier = before.buckets.get(metric, earlier)
            found[name] = Latency(*(percentile(earlier, buckets, each) for each in (50, 99)))
    return found


def gauges(now: Figures) -> dict[str, float]:
    """The `GAUGES` that any service tells."""
    return {name: now.values[metric] for name, metric in GAUGES.items() if metric in now.values}


@dataclass(frozen=True, kw_only=True)
class Board:
    """All that is shown. What is not known yet, or cannot be asked, is None or missing."""

    place: str
    """The URL of the queue, without its password."""
    wall: float
    """Seconds since the Unix epoch."""
    status: QueueStatus | None = None
    flow: Flow | None = None
    members: Sequence[Member] = ()
    """The worst first."""
    latencies: Mapping[str, Latency] = field(default_factory=dict)
    gauges: Mapping[str, float] = field(default_factory=dict)
    problems: Sequence[str] = ()
    """What could not be asked, and why."""
