"""From the listeners' batches to the queue, with one append for all that has arrived."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

from osmo_operator.backlog import Backlog
from osmo_runtime.operations import Check, Histogram
from osmo_transport import (
    AppendOutcome,
    Backoff,
    BackoffConfig,
    Incoming,
    ProducerBatch,
    QueueUnavailableError,
    kind_of,
)

if TYPE_CHECKING:
    from osmo_runtime.operations.tracing import Tracer

logger = logging.getLogger(__name__)

SLOW_APPEND = 2.0
"""Seconds after which an append that has not answered counts as a store that is away."""

_STORED = AppendOutcome.STORED
"""Looked up once: for members of enumerations CPython 3.11 is slow to."""


class Batches(Protocol):
    """Where batches come from: a `Server`."""

    async def receive(self) -> list[Incoming]:
        """All that have arrived; empty once no more will."""

    def arrived(self) -> list[Incoming]:
        """All that have arrived, without waiting."""


class Store(Protocol):
    """Where they go: a `Queue`."""

    async def append(self, batches: Sequence[ProducerBatch]) -> list[AppendOutcome]:
        """See `osmo_transport.Queue`."""


class Relay:
    """Receive, append, acknowledge.

    While an append is on its way, what arrives collects into the next one, so a store's round trip
    is shared by as many messages as the load brings. There is one append at a time: a later batch
    of a producer can never be stored before an earlier one. It takes turns between the backends,
    and is bounded in bytes, so that whoever reports much over a slow link holds up nobody for long.
    """

    def __init__(
        self,
        server: Batches,
        queue: Store,
        append_messages: int,
        append_bytes: int,
        backlog_bytes: int,
        backoff: BackoffConfig,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """An append carries at most `append_messages` and `append_bytes`, and what waits for its
        turn is at most `backlog_bytes`, besides what the server holds; `clock` gives seconds."""
        self._server = server
        self._queue = queue
        self._most = append_messages, append_bytes
        self._backlog_bytes = backlog_bytes
        self._backoff = backoff
        self._clock = clock
        self._backlog = Backlog()
        self._began: float | None = None
        self._failure = ""
        self.tracer: Tracer | None = None
        """Makes a span of each append. To be set before `run`; None: nobody does."""
        self.steps = 0
        """Tries to append that have ended, in whatever way."""
        self.stored: Counter[str] = Counter()
        """By stream, messages that were stored and acknowledged."""
        self.append_time = Histogram()
        """Of appends that were answered, the tries that failed before included."""

    @property
    def has_work(self) -> bool:
        """Whether something that was received is not answered yet."""
        return self.is_appending or bool(self._backlog)

    @property
    def is_appending(self) -> bool:
        """Whether it waits for the queue."""
        return self._began is not None

    def check(self) -> Check:
        """Whether appends succeed: the last one did, and the present one is not late."""
        waited = 0.0 if self._began is None else self._clock() - self._began
        late = f"an append has not been answered for {waited:.1f} s" if waited > SLOW_APPEND else ""
        reason = self._failure or late
        return Check(ok=not reason, reason=reason)

    async def run(self) -> None:
        """Relay until the server has stopped and everything that had arrived is answered."""
        backlog = self._backlog
        tracer = self.tracer
        store = self._store if tracer is None else partial(self._traced, tracer)
        while group := await self._server.receive():
            if len(group) > 1:  # one alone takes no turns
                backlog.add(group)
                group = backlog.take(*self._most)
            while group:
                await store(group)
                if backlog.size < self._backlog_bytes:
                    backlog.add(self._server.arrived())
                group = backlog.take(*self._most)

    async def _traced(self, tracer: "Tracer", batches: Sequence[Incoming]) -> None:
        with tracer.append(batches):
            await self._store(batches)

    async def _store(self, batches: Sequence[Incoming]) -> None:
        """Append until the queue has answered, and answer. What nobody waits for comes last."""
        self._began = began = self._clock()
        delays: Backoff | None = None
        while True:
            try:
                outcomes = await self._queue.append(batches)
                break
            except QueueUnavailableError as exc:
                self.steps += 1
                logger.warning("cannot store, nothing is acknowledged; tries again: %s", exc)
                self._failure = str(exc)
                delays = delays or Backoff(self._backoff)
                await asyncio.sleep(delays.next_delay())
        self._began, took = None, self._clock() - began
        for incoming, outcome in zip(batches, outcomes, strict=True):
            if outcome is _STORED:
                incoming.acknowledge()
            else:
                _refuse(incoming, outcome)
        if self._failure:
            logger.info("the queue stores again")
            self._failure = ""
        self.steps += 1
        self.append_time.record(took)
        for incoming, outcome in zip(batches, outcomes, strict=True):
            if outcome is _STORED:
                self._count(incoming.kinds)

    def _count(self, kinds: Sequence[str]) -> None:
        # Nearly always a batch is of one kind, and then it is counted at the speed of C.
        first = kinds[0]
        alike = kinds.count(first)
        counts = {first: alike} if alike == len(kinds) else Counter(kinds)
        for kind, count in counts.items():
            if kind:
                self.stored[kind_of(kind).stream] += count


def _refuse(incoming: Incoming, outcome: AppendOutcome) -> None:
    if outcome is AppendOutcome.FENCED:
        incoming.fence()
    else:
        logger.error(
            "the queue lost what it had acknowledged to %s: asking for a full snapshot",
            incoming.producer,
        )
        incoming.resync()
