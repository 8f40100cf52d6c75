"""What a queue hands to a worker, and what the worker answers."""

from typing import NamedTuple

import msgspec

from osmo_transport.message import Message


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """A message on lease to one consumer until it is settled."""

    id: str
    """The entry's id, unique within its stream."""
    stream: str
    """The class of kinds that carried it, one of `Stream`."""
    backend: str
    """The backend that reported it: the verified identity of the connection, not of the payload."""
    message: Message
    attempt: int = 1
    """How many times the entry has been delivered, this time included."""


class Ack(msgspec.Struct, frozen=True):
    """Handled: the entry is removed."""


class Retry(msgspec.Struct, frozen=True):
    """Not handled, and it may be later: the entry is delivered again, or becomes a dead letter when
    it has been delivered `max_attempts` times."""

    reason: str
    """Kept with the dead letter if this was the last attempt."""
    after: float | None = None
    """Seconds to wait; None: the queue's own backoff, which grows with the attempts."""


class Reject(msgspec.Struct, frozen=True):
    """Cannot be handled, ever: the entry becomes a dead letter."""

    reason: str


Outcome = Ack | Retry | Reject


class DeadLetter(msgspec.Struct, frozen=True):
    """An entry that was given up, with the reason."""

    id: str
    stream: str
    backend: str
    reason: str
    attempt: int
    message: Message | None
    """None when the entry could not be read as a message; `raw` holds its bytes."""
    raw: bytes


class Producer(NamedTuple):
    """Who appends: one listener stream of one backend."""

    backend: str
    source: str


class ProducerState(NamedTuple):
    """Where a producer stands in a queue."""

    queue_epoch: str
    """Identity of the queue's memory: changes when the store lost what it had acknowledged."""
    epoch: int
    """The producer's fencing number."""
    sequence: int
    """The last sequence number of this epoch that is stored; 0 when there is none."""


class ProducerBatch(NamedTuple):
    """Consecutive messages of one producer, appended as one idempotent step."""

    producer: Producer
    state: ProducerState
    """As `open_producer` returned it; its `sequence` is not looked at."""
    first: int
    """The sequence number of the first message; the others follow without a gap."""
    messages: tuple[Message | None, ...]
    """None stands for a rejected message: it takes up its sequence number, nothing else."""

    @property
    def last(self) -> int:
        """The sequence number of the last message."""
        return self.first + len(self.messages) - 1
