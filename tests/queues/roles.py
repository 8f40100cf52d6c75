"""A queue of which each part is done by the user who does it in production."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

from osmo_transport.queues.abc import AppendOutcome, Consumer, Queue, QueueStatus
from osmo_transport.queues.delivery import (
    DeadLetter,
    Producer,
    ProducerBatch,
    ProducerState,
    StoredEntry,
)
from osmo_transport.queues.leases import AT_ONCE, Claim, Renewal, Standing


class QueueByRole(Queue):
    """One queue, opened by several users."""

    def __init__(self, users: Mapping[str, Queue]) -> None:
        """`users`: by role, as in the production guide."""
        self._all = users.values()
        self._operator = users["operator"]
        self._worker = users["worker"]
        self._admin = users["admin"]
        self._reader = users["reader"]
        self.caveats = self._operator.caveats

    @classmethod
    async def opened(
        cls, urls: Mapping[str, str], open_queue: Callable[[str], Awaitable[Queue]]
    ) -> "QueueByRole":
        """The queue at these URLs, which name the users."""
        return cls({role: await open_queue(url) for role, url in urls.items()})

    async def open_producer(
        self, producer: Producer, instance: str, known: ProducerState, claim: Claim = AT_ONCE
    ) -> ProducerState:
        return await self._operator.open_producer(producer, instance, known, claim)

    async def renew(
        self, renewals: Sequence[Renewal], wanted: Collection[Producer]
    ) -> set[Producer]:
        return await self._operator.renew(renewals, wanted)

    async def append(self, batches: Sequence[ProducerBatch]) -> list[AppendOutcome]:
        return await self._operator.append(batches)

    def consumer(self, group: str, name: str) -> Consumer:
        return self._worker.consumer(group, name)

    async def raise_epochs(self, epochs: Mapping[str, int]) -> None:
        await self._worker.raise_epochs(epochs)

    async def reset(self, backend: str) -> int:
        return await self._admin.reset(backend)

    async def status(self) -> QueueStatus:
        """The worker knows what it dropped; a reader takes nothing from what others find out."""
        await self._reader.status()
        return await self._worker.status()

    async def peek(self, stream: str, limit: int, after: str = "") -> list[StoredEntry]:
        return await self._reader.peek(stream, limit, after)

    async def dead_letters(self, limit: int, after: str = "") -> list[DeadLetter]:
        await self._admin.dead_letters(limit, after)
        return await self._reader.dead_letters(limit, after)

    async def replay(self, letters: Collection[str]) -> int:
        return await self._admin.replay(letters)

    async def drop(self, letters: Collection[str]) -> int:
        return await self._admin.drop(letters)

    async def producers(self, limit: int, after: Standing | None = None) -> list[Standing]:
        return await self._reader.producers(limit, after)

    async def aclose(self) -> None:
        for queue in self._all:
            await queue.aclose()
