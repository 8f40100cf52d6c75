"""A producer for tests of queues and of those who use them."""

from osmo_transport.message import Message, Version, new_id, new_message
from osmo_transport.queues.abc import AppendOutcome, Queue
from osmo_transport.queues.delivery import (
    NEW,
    Producer,
    ProducerBatch,
    ProducerState,
    batch_of,
)
from osmo_transport.queues.leases import Claim
from osmo_transport.testing.kinds import STATE


def report(key: str, kind: str = STATE, *, version: int = 1, payload: bytes = b"") -> Message:
    """A message about `key` of the epoch 1."""
    return new_message(kind, key, payload, version=Version(1, version))


class Feeder:
    """One source of a backend that appends to a queue, with its sequence numbers."""

    def __init__(self, queue: Queue, backend: str = "b1", source: str = "source") -> None:
        self.queue = queue
        self.instance = new_id()
        """The process that it stands for; set another one to start anew."""
        self.producer = Producer(backend, source)
        self.state = NEW
        """As the queue last confirmed it."""

    async def open(self, known: ProducerState | None = None) -> ProducerState:
        """Be admitted, knowing `known`, or what was last confirmed."""
        self.state = await self.queue.open_producer(
            self.producer, self.instance, known or self.state
        )
        return self.state

    async def hold(self, connection: str, lease: float) -> ProducerState:
        """Be admitted under a lease, or wait: as `open`, from the host of `connection` and
        by its credential."""
        claim = Claim(True, lease, connection, f"host of {connection}", f"token of {connection}")
        self.state = await self.queue.open_producer(self.producer, self.instance, self.state, claim)
        return self.state

    def batch(self, *messages: Message | None, first: int | None = None) -> ProducerBatch:
        """A batch that begins at the sequence number `first`, or goes on after the last one."""
        start = self.state.sequence + 1 if first is None else first
        return batch_of(self.producer, self.state, start, messages)

    async def append(self, *messages: Message | None, first: int | None = None) -> AppendOutcome:
        """Append one batch, opening first if that was not done; what is stored is confirmed."""
        if self.state == NEW:
            await self.open()
        batch = self.batch(*messages, first=first)
        (outcome,) = await self.queue.append([batch])
        if outcome is AppendOutcome.STORED:
            last = max(self.state.sequence, batch.last)
            self.state = self.state._replace(sequence=last)
        return outcome
