"""A producer for tests of queues and workers."""

from osmo_transport.delivery import Producer, ProducerBatch, ProducerState
from osmo_transport.message import Message, Version, new_id, new_message
from osmo_transport.queues.abc import AppendOutcome, Queue

UNKNOWN = ProducerState("", 0, 0)
"""What a producer knows that has just started."""


def report(
    key: str, kind: str = "update_pod", *, version: int = 1, payload: bytes = b""
) -> Message:
    """A message about `key` of the epoch 1."""
    return new_message(kind, key, payload, version=Version(1, version))


class Feeder:
    """One listener stream that appends to a queue, with its sequence numbers."""

    def __init__(self, queue: Queue, backend: str = "b1", source: str = "workflow") -> None:
        self.queue = queue
        self.listener = new_id()
        """The process that it stands for; set another one to start anew."""
        self.producer = Producer(backend, source)
        self.state = UNKNOWN
        """As the queue last confirmed it."""

    async def open(self, known: ProducerState | None = None) -> ProducerState:
        """Be admitted, knowing `known`, or what was last confirmed."""
        self.state = await self.queue.open_producer(
            self.producer, self.listener, known or self.state
        )
        return self.state

    def batch(self, *messages: Message | None, first: int | None = None) -> ProducerBatch:
        """A batch that begins at the sequence number `first`, or goes on after the last one."""
        start = self.state.sequence + 1 if first is None else first
        return ProducerBatch(self.producer, self.state, start, messages)

    async def append(self, *messages: Message | None, first: int | None = None) -> AppendOutcome:
        """Append one batch, opening first if that was not done; what is stored is confirmed."""
        if self.state == UNKNOWN:
            await self.open()
        batch = self.batch(*messages, first=first)
        (outcome,) = await self.queue.append([batch])
        if outcome is AppendOutcome.STORED:
            last = max(self.state.sequence, batch.last)
            self.state = self.state._replace(sequence=last)
        return outcome
