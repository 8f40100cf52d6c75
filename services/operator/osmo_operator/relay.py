"""From the listeners' batches to the queue, with one append for all that has arrived."""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from typing import Protocol

from osmo_transport import (
    AppendOutcome,
    BackoffConfig,
    Incoming,
    ProducerBatch,
    QueueUnavailableError,
)
from osmo_transport.backoff import Backoff

logger = logging.getLogger(__name__)


class Batches(Protocol):
    """Where batches come from: a `Server`."""

    async def receive(self) -> list[Incoming]:
        """All that have arrived; empty once no more will."""


class Store(Protocol):
    """Where they go: a `Queue`."""

    async def append(self, batches: Sequence[ProducerBatch]) -> list[AppendOutcome]:
        """See `osmo_transport.Queue`."""


class Relay:
    """Receive, append, acknowledge.

    While an append is on its way, what arrives collects into the next one, so a store's round trip
    is shared by as many messages as the load brings. There is one append at a time: a later batch
    of a producer can never be stored before an earlier one.
    """

    def __init__(self, server: Batches, queue: Store, append_messages: int, backoff: BackoffConfig):
        self._server = server
        self._queue = queue
        self._append_messages = append_messages
        self._backoff = backoff
        self.stored = 0
        """Messages that were stored and acknowledged."""
        self.ready = True
        """Whether the last append succeeded."""
        self.reachable = True
        """Whether the queue answered when it was last asked, which tells more in quiet times."""

    async def run(self) -> None:
        """Relay until the server has stopped and everything that had arrived is answered."""
        while incoming := await self._server.receive():
            for group in grouped(incoming, self._append_messages):
                outcomes = await self._append([i.batch for i in group])
                for one, outcome in zip(group, outcomes, strict=True):
                    self._answer(one, outcome)

    async def _append(self, batches: list[ProducerBatch]) -> list[AppendOutcome]:
        backoff = Backoff(self._backoff)
        while True:
            try:
                outcomes = await self._queue.append(batches)
            except QueueUnavailableError as exc:
                delay = backoff.next_delay()
                logger.warning(
                    "cannot store, nothing is acknowledged; again in %.1f s: %s", delay, exc
                )
                self.ready = False
                await asyncio.sleep(delay)
            else:
                if not self.ready:
                    logger.info("the queue stores again")
                self.ready = True
                return outcomes

    def _answer(self, incoming: Incoming, outcome: AppendOutcome) -> None:
        match outcome:
            case AppendOutcome.STORED:
                incoming.acknowledge()
                self.stored += len(incoming.batch.messages)
            case AppendOutcome.FENCED:
                incoming.fence()
            case AppendOutcome.LOST:
                logger.error(
                    "the queue lost what it had acknowledged to %s: asking for a full snapshot",
                    "/".join(incoming.batch.producer),
                )
                incoming.resync()


def grouped(incoming: Sequence[Incoming], messages: int) -> Iterator[list[Incoming]]:
    """In order, in groups of up to `messages` messages; a larger batch is a group of its own."""
    group: list[Incoming] = []
    count = 0
    for one in incoming:
        size = len(one.batch.messages)
        if group and count + size > messages:
            yield group
            group, count = [], 0
        group.append(one)
        count += size
    if group:
        yield group
