"""What goes into a queue, what a queue hands to a consumer, and what the consumer answers."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from osmo_transport._text import shown
from osmo_transport.errors import UnreadableError
from osmo_transport.message import MAX_REVISION, Message, encode_message, read_message


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """A message on lease to one consumer until it is settled."""

    id: str
    """The entry's id, unique within its stream."""
    stream: str
    """What carried it; see `kinds`."""
    backend: str
    """The backend that reported it: the identity of the connection, not of the payload."""
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
    """Names this letter and never another one, for `Queue.replay` and `Queue.drop`."""
    entry: str
    """The id of the entry, within its stream."""
    stream: str
    backend: str
    reason: str
    attempt: int
    message: Message | None
    """None when the entry could not be read as a message; `raw` holds its bytes."""
    raw: bytes
    buried: float
    """When it was given up, in seconds since the Unix epoch."""


def message_or_none(data: bytes) -> Message | None:
    """The message of some bytes, if they are one."""
    try:
        return read_message(data)
    except UnreadableError:
        return None


class StoredEntry(msgspec.Struct, frozen=True):
    """An entry as it lies in a stream, for whoever looks and does not take."""

    id: str
    """As `Delivery.id`."""
    stream: str
    backend: str
    message: Message | None
    """None when the entry cannot be read as a message; `raw` holds its bytes."""
    raw: bytes
    age: float
    """Seconds since it was added."""
    pending: bool
    """Whether a consumer was given it; else it waits for its first delivery."""
    attempts: int
    """Deliveries so far."""
    holder: str
    """The consumer that has it, or had it last when it fell silent or asked for a retry; empty for
    one that waits for its first delivery, or was given back."""


class Producer(NamedTuple):
    """Who appends: one of the sources of one backend."""

    backend: str
    source: str

    def __str__(self) -> str:
        return shown(f"{self.backend}/{self.source}")


class ProducerState(NamedTuple):
    """Where a producer stands in a queue."""

    queue_epoch: str
    """Identity of the queue's memory: changes when the store lost what it had acknowledged."""
    epoch: int
    """The producer's fencing number."""
    sequence: int
    """The last sequence number of this epoch that is stored; 0 when there is none."""


NEW = ProducerState("", 0, 0)
"""What a producer knows that has just started, and where a client stands before its welcome."""


class ProducerBatch(msgspec.Struct, frozen=True):
    """Consecutive messages of one producer, appended as one idempotent step."""

    producer: Producer
    state: ProducerState
    """As `open_producer` returned it; its `sequence` is not looked at."""
    first: int
    """The sequence number of the first message; the others follow without a gap."""
    kinds: tuple[str, ...]
    """Of each message; empty for one that was refused: it takes up its sequence number, nothing
    else."""
    encoded: tuple[bytes, ...]
    """The bytes of each, as `encode_message` makes them; empty for one that was refused."""

    @property
    def last(self) -> int:
        """The sequence number of the last message."""
        return self.first + len(self.encoded) - 1

    @property
    def messages(self) -> list[Message]:
        """The messages that were not refused, decoded at each call."""
        return [read_message(data) for data in self.encoded if data]

    def after(self, stored: int) -> list[tuple[str, bytes]]:
        """Kind and bytes of each message that is new to a store which has everything up to the
        sequence number `stored`."""
        skip = max(0, stored + 1 - self.first)
        pairs = zip(self.kinds[skip:], self.encoded[skip:], strict=True)
        return [(kind, data) for kind, data in pairs if kind]


def batch_of(
    producer: Producer,
    state: ProducerState,
    first: int,
    messages: Sequence[Message | None],
    limit: int = MAX_REVISION,
) -> ProducerBatch:
    """A batch of messages that are not encoded yet; None stands for a refused one.

    Raises:
        UnsendableError: one of them cannot be encoded, or takes more than `limit` bytes.
    """
    encoded = [b"" if message is None else encode_message(message, limit) for message in messages]
    return ProducerBatch(
        producer,
        state,
        first,
        tuple(["" if message is None else message.kind for message in messages]),
        tuple(encoded),
    )
