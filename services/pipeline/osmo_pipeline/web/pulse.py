"""What is true of the whole fleet: looked at once for all who watch, and while somebody does."""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from osmo_pipeline.web.latency import Latency, Percentiles
from osmo_transport import Producer, Queue, QueueStatus, Standing, TransportError
from osmo_worker.errors import WorkerError
from osmo_worker.store import Backend, StateStore, Tally

SILENT_AFTER = 60.0
"""Seconds without a heartbeat after which a backend is silent: three are missing, as listeners send
them by default."""
BLIND_AFTER = 95.0
"""Seconds without a word of the API server, as the last heartbeat tells them, after which a backend
is blind: as long as its listener takes by default to find out that a watch is dead."""
BACKENDS_READ = 5000
"""Backends that are looked at, the first by name."""
PRODUCERS_READ = 5000
"""Producers whose speed is looked at."""
PRODUCERS_PAGE = 1000
TALLY_TIME = 0.1
"""Seconds of each look in which tasks and nodes are counted: a tenth of the database's thread."""
MOMENTS = 60
"""Looks that the curves are about."""


@dataclass(frozen=True, kw_only=True)
class Moment:
    """One point of the curves."""

    rate: float | None
    """Reports per second that the queue took; None: not known."""
    depth: int


@dataclass(kw_only=True)
class Flow:
    """The way from the listeners to the store."""

    status: QueueStatus | None = None
    latency: Percentiles | None = None
    standings: dict[str, list[Standing]] = field(default_factory=dict)
    """By backend, who reports or did."""
    rates: dict[str, float] = field(default_factory=dict)
    """By backend, reports per second."""
    moments: deque[Moment] = field(default_factory=lambda: deque(maxlen=MOMENTS))
    error: str = ""
    """Why the queue cannot be looked at; what is here is then as it was."""


class Pulse:
    """The figures of the fleet, as of the last `beat`."""

    def __init__(
        self,
        queue: Queue,
        store: StateStore,
        latency: Latency | None,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` gives seconds since the Unix epoch, `monotonic` those of any beginning."""
        self._queue = queue
        self._store = store
        self._latency = latency
        self._clock = clock
        self._monotonic = monotonic
        self._sequences: dict[Producer, tuple[int, int]] = {}
        self._looked: float | None = None
        self.tasks: Tally = store.tally_tasks()
        self.nodes: Tally = store.tally_nodes()
        self.backends: Sequence[Backend] = ()
        self.flow = Flow()
        self.error = ""
        """Why the store cannot be looked at; what is here is then as it was."""

    async def beat(self) -> None:
        """Look once more: at a bounded part of the database, and of the queue."""
        await self._look_at_queue()
        await self._look_at_store()
        if self._latency is not None:
            await self._latency.look()
            self.flow.latency = self._latency.percentiles

    def now(self) -> float:
        """Seconds since the Unix epoch."""
        return self._clock()

    def is_silent(self, backend: Backend) -> bool:
        """Whether too many heartbeats are missing."""
        last = backend.last_heartbeat
        return last is None or self._clock() - last.timestamp() > SILENT_AFTER

    def is_blind(self, backend: Backend) -> bool:
        """Whether its listener reports, and hears nothing of its cluster."""
        ages = (backend.watch_ages or {}).values()
        return not self.is_silent(backend) and max(ages, default=0.0) > BLIND_AFTER

    async def _look_at_store(self) -> None:
        try:
            self.backends = await self._store.backends(limit=BACKENDS_READ)
            end = self._monotonic() + TALLY_TIME
            while True:
                rounds = self.tasks.rounds
                await self.tasks.step()
                await self.nodes.step()
                if self.tasks.rounds > rounds or self._monotonic() > end:
                    break
        except WorkerError as exc:
            self.error = str(exc)
        else:
            self.error = ""

    async def _look_at_queue(self) -> None:
        flow = self.flow
        try:
            status = await self._queue.status()
            standings = await self._standings()
        except TransportError as exc:
            flow.error = str(exc)
            self._looked = None
            return
        flow.error, flow.status = "", status
        rates = self._rates(standings)
        known: dict[str, list[Standing]] = {}
        for standing in standings.values():
            known.setdefault(standing.producer.backend, []).append(standing)
        flow.standings, flow.rates = known, rates or {}
        depth = sum(status.waiting.values()) + sum(status.pending.values())
        flow.moments.append(
            Moment(rate=None if rates is None else sum(rates.values()), depth=depth)
        )

    async def _standings(self) -> dict[Producer, Standing]:
        found: dict[Producer, Standing] = {}
        after: Standing | None = None
        while len(found) < PRODUCERS_READ:
            page = await self._queue.producers(PRODUCERS_PAGE, after)
            found |= {each.producer: each for each in page}
            if len(page) < PRODUCERS_PAGE:
                break
            after = page[-1]
        return found

    def _rates(self, standings: Mapping[Producer, Standing]) -> dict[str, float] | None:
        """None where there was no look before."""
        before, self._sequences = (
            self._sequences,
            {producer: (each.epoch, each.sequence) for producer, each in standings.items()},
        )
        now = self._monotonic()
        since, self._looked = self._looked, now
        if since is None or now <= since:
            return None
        rates: dict[str, float] = {}
        for producer, (epoch, sequence) in self._sequences.items():
            known, stored = before.get(producer, (epoch, 0))
            new = sequence - (stored if known == epoch else 0)
            if new > 0:
                rates[producer.backend] = rates.get(producer.backend, 0.0) + new / (now - since)
        return rates
