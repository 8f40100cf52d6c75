"""The contract of a queue: what every implementation promises, tested by `testing.QueueContract`.

- *Durable.* `append` returns after the store holds the messages, never before.
- *Idempotent.* A batch is checked against its producer's last stored sequence number in the same
  atomic step as the append: a batch that comes again, whole or in part, adds nothing twice.
- *Fenced.* A batch of an older epoch than the producer's newest adds nothing.
- *Held by one.* A process that waits is not let in while another one's lease of the place lasts,
  and is as soon as it has ended; the store's clock counts, and no other.
- *Ordered.* Within one stream, messages of one producer are delivered first in the order of their
  sequence numbers; a retried or reclaimed one comes later again.
- *At least once.* An entry is on lease to one consumer at a time and stays in the store until it is
  settled. A lease that is not renewed ends after `QueueConfig.lease`, and another consumer of the
  group gets the entry. Removing an entry and settling it are one atomic step.
- *Bounded tries.* The attempt is counted before the entry is handed out. A `Retry` of the last
  attempt makes it a dead letter with its reason; one whose last consumer fell silent becomes a dead
  letter when it would be handed out once more. Burying and removing are one atomic step.
- *Repairable.* `replay` puts a dead letter back as a new entry and takes it off the dead letters in
  one step, so that one which is cut short loses nothing and doubles nothing.
- *Shared fairly.* While several streams hold entries they are read in proportion to their weights;
  a stream with entries is read at least once in every `sum(weights)` reads.
- *Honest about loss.* `ProducerState.queue_epoch` changes when the store lost its memory, or
  entries that it had acknowledged, and a batch that carries the old one is answered with
  `AppendOutcome.LOST`.

What every queue decides alike is in `rules`, `fair`, `leases` and `session.admission`, to be used
by whoever writes another one.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import field
from enum import Enum
from types import MappingProxyType, TracebackType
from typing import NamedTuple, Self

from osmo_transport._polling import BUSY_POLL
from osmo_transport.bounds import Count, Seconds, ShortWait
from osmo_transport.errors import FencedError, QueueLostError
from osmo_transport.frames import Limits
from osmo_transport.kinds import stream_weights
from osmo_transport.lean import dataclass
from osmo_transport.message import Message, check_name, new_id
from osmo_transport.queues.delivery import (
    NEW,
    DeadLetter,
    Delivery,
    Outcome,
    Producer,
    ProducerBatch,
    ProducerState,
    StoredEntry,
    batch_of,
)
from osmo_transport.queues.leases import AT_ONCE, Claim, Renewal, Standing

PAGE_BYTES = 8 * 1024 * 1024
"""Bytes of messages after which a page of `Queue.peek` or `Queue.dead_letters` ends, whatever its
limit: who looks at a large queue holds no more than this of it. The message that reaches it is
still in the page, so that a page is empty only at the end."""


@dataclass(frozen=True, kw_only=True)
class QueueConfig:
    """Limits and times of a queue, the same for every implementation."""

    max_entries: Count = 1_000_000
    """Entries that all streams together may hold; then `append` is refused, and clients coalesce.
    At 600 bytes a message this is about 1 GB in Redis."""
    max_dead_letters: Count = 100_000
    """Dead letters that are kept; beyond it the oldest is dropped and counted."""
    max_attempts: Count = 5
    """Deliveries of one entry before it becomes a dead letter."""
    lease: Seconds = 30.0
    """Seconds until a silent consumer's entries go to another: longer than a process's pause."""
    claim_interval: Seconds = 5.0
    """Seconds between two looks for entries whose lease has ended."""
    retry_base: Seconds = 0.5
    """Seconds before the second delivery; doubles with each further one."""
    retry_maximum: Seconds = 60.0
    """Bound of the delay between two deliveries, in seconds."""
    max_delayed: Count = 100_000
    """Entries of one consumer that may wait for their next try; then it takes nothing but those of
    them that are due, and its own from before a restart: nothing new, and nothing that others left.
    What it has in hand by then may still be added. So many take 30 MB in its process, and in each
    third of a lease less than a second to be renewed."""
    busy_poll: ShortWait = BUSY_POLL
    """Seconds for which the event loop does not sleep after an append that is sent to another
    process, because the answer may come any moment. Where answers take longer it is hardly ever
    done; 0: never."""
    weights: Mapping[str, Count] = field(default_factory=stream_weights)
    """Each stream's share of the reads; those that are registered when this is made."""


class AppendOutcome(Enum):
    """What became of one batch."""

    STORED = "stored"
    """All of it is in the store, now or since an earlier append."""
    FENCED = "fenced"
    """A newer epoch of this producer exists; nothing was added."""
    LOST = "lost"
    """The store lost what it had acknowledged to this producer; nothing was added."""


class QueueStatus(NamedTuple):
    """A moment's figures; `waiting` and `pending` are counts of entries."""

    queue_epoch: str
    waiting: Mapping[str, int]
    """By stream, those without entries too: entries that no consumer has been given yet."""
    pending: Mapping[str, int]
    """As `waiting`: all others, which are on lease, wait for a retry, or were given back."""
    dead: int
    """Dead letters held."""
    dead_dropped: int
    """Dead letters dropped because `max_dead_letters` was reached, since this object was opened."""
    lost: int = 0
    """Entries that somebody else removed from the store, found out since this object was opened."""
    oldest: Mapping[str, float] = MappingProxyType({})
    """By stream, those without entries too: seconds since its oldest entry was added, on lease or
    not; 0.0 where there is none."""
    consumers: int = 0
    """Consumers, by name, that took, renewed or settled something within a lease, or wait to; one
    that was closed is none."""


class Consumer(ABC):
    """One member of a consumer group. Use as `async with`; leaving gives back what is not settled,
    at once, and this attempt is not counted. An entry that waits for its retry keeps its time.

    A queue has one group, because settling removes an entry for every group: whoever receives as
    another one gets a `QueueRefusedError`."""

    @abstractmethod
    async def receive(self, limit: int) -> list[Delivery]:
        """Wait for entries and take up to `limit` of them on lease, this consumer's own from before
        a restart first. Safe to cancel: what was taken is delivered again.

        Leases are renewed in the background until the delivery is settled or the consumer closed.

        Raises:
            QueueUnavailableError: the store does not answer; call again later.
            ClosedError: the consumer is closed.
        """

    @abstractmethod
    async def settle(self, outcomes: Sequence[tuple[Delivery, Outcome]]) -> None:
        """Carry out the outcomes, each atomically. A delivery whose lease went to somebody else in
        the meantime is left to the new holder.

        Raises:
            QueueUnavailableError: the store does not answer; call again with the same outcomes.
            ClosedError: the consumer is closed.
        """

    @property
    @abstractmethod
    def buried(self) -> int:
        """The dead letters that it made so far: because it was told so, because an entry could not
        be read, or because the attempts of one were used up that it came upon. Each is a line in
        the log; see `rules.Burials`. If the answer to the step that buried it is lost, such a
        letter is in the store, and neither counted nor said."""

    @abstractmethod
    async def aclose(self) -> None:
        """Give back what is not settled and stop renewing. Idempotent."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()


class Queue(ABC):
    """A durable queue; see the promises above. Use as `async with`.

    Every call may raise `QueueRefusedError` when it finds, on a new connection, that the store has
    become unfit, and `ClosedError` after `aclose`."""

    caveats: Sequence[str] = ()
    """How the store may lose what it acknowledged, as it is set up, and what to set: for the log of
    whoever relies on it."""

    @abstractmethod
    async def open_producer(
        self, producer: Producer, instance: str, known: ProducerState, claim: Claim = AT_ONCE
    ) -> ProducerState:
        """Admit the process `instance` as `producer`, which last knew `known` (all empty or zero:
        it has just started).

        If the store's memory agrees with `known` the producer goes on where the store stands.
        Otherwise (it has just started, the queue epoch changed, or the store is behind what it had
        acknowledged) it gets a new epoch with sequence 0, higher than any before:
        `max(stored + 1, known.epoch + 1, milliseconds since the Unix epoch)`, so that it rises also
        after the store was wiped. A process that knows of less than it was given is told again:
        the answer may have been lost on its way, or an old question be carried out late. The rule
        is `session.admission.admit`.

        `claim` says whether it waits for another one's lease, and for how long it holds its own; by
        default it takes the place at once, and holds no lease.

        Raises:
            OccupiedError: it waits, and another process holds the place.
            FencedError: a newer epoch of this producer is in use, and it does not wait.
            QueueUnavailableError: the store does not answer, or remembers too many producers.
        """

    @abstractmethod
    async def renew(
        self, renewals: Sequence[Renewal], wanted: Collection[Producer]
    ) -> set[Producer]:
        """Renew or end leases, then say which of the `wanted` places nobody holds; in one round
        trip for hundreds of them. The rule is `leases.Leases`.

        Raises:
            QueueUnavailableError: the store does not answer; a lease that is not renewed ends.
        """

    @abstractmethod
    async def append(self, batches: Sequence[ProducerBatch]) -> list[AppendOutcome]:
        """Store batches of any producers in one round trip; each batch is atomic by itself.

        Raises:
            QueueUnavailableError: the store does not answer or is full; call again with the same
                batches, nothing is stored twice.
        """

    @abstractmethod
    def consumer(self, group: str, name: str) -> Consumer:
        """Join `group` as `name`; one that is restarted under the same name gets its own entries
        back."""

    @abstractmethod
    async def raise_epochs(self, epochs: Mapping[str, int]) -> None:
        """Let every epoch that is handed out to producers of these backends be higher than these:
        what somebody else remembers of them, who applied their messages. Where no such border was
        known yet, as after a loss of memory, a producer that got a lower one meanwhile is told
        `LOST`, and so gets a higher one. A border never falls.

        Raises:
            QueueUnavailableError: the store does not answer.
        """

    @abstractmethod
    async def reset(self, backend: str) -> int:
        """Forget where the producers of a backend stand, and which epochs it had; returns how many
        producers there were. Each that is connected is told `LOST` at its next append, and gets an
        epoch that is counted from the clock, whatever was handed out or raised before. What the
        queue holds of the backend stays.

        Raises:
            QueueUnavailableError: the store does not answer.
        """

    @abstractmethod
    async def status(self) -> QueueStatus:
        """The figures of this moment. Entries that somebody else removed are found out here, if
        not before: then the queue epoch is another one.

        Raises:
            QueueUnavailableError: the store does not answer.
            QueueRefusedError: the store could lose what it acknowledged; the text says why.
        """

    @abstractmethod
    async def peek(self, stream: str, limit: int, after: str = "") -> list[StoredEntry]:
        """A page of the entries of a stream, the oldest first, from behind the one with the id
        `after` on, which may be gone by now. Nothing is taken or renewed.

        The page has up to `limit` of them, and fewer where they are large: it ends with
        `PAGE_BYTES`. An empty one says that there is no more.

        Raises:
            UsageError: there is no such stream, or `limit` is not positive.
            QueueUnavailableError: the store does not answer.
        """

    @abstractmethod
    async def dead_letters(self, limit: int, after: str = "") -> list[DeadLetter]:
        """A page of the dead letters, the oldest first, from behind the one with the id `after` on,
        which may be gone by now; as large as a page of `peek`.

        Raises:
            UsageError: `limit` is not positive.
            QueueUnavailableError: the store does not answer.
        """

    @abstractmethod
    async def replay(self, letters: Collection[str]) -> int:
        """Put these dead letters, named by their ids, back into their streams as new entries of
        which no attempt counts yet; returns how many there were: an id that names none is passed
        over. Each is put back and taken off the dead letters in one step, so that to ask again
        after an error does none twice. What it was about may have been reported anew since:
        consumers tell by the message's version.

        Raises:
            QueueUnavailableError: the store does not answer, or is full; some may be back.
        """

    @abstractmethod
    async def drop(self, letters: Collection[str]) -> int:
        """Remove these dead letters, named by their ids, for ever; returns how many there were: an
        id that names none is passed over.

        Raises:
            QueueUnavailableError: the store does not answer; some may be gone.
        """

    @abstractmethod
    async def producers(self, limit: int, after: Standing | None = None) -> list[Standing]:
        """A page of the producers that are remembered, at most `limit` of them, from behind `after`
        on, in the order in which they connected last. An empty one says that there is no more. One
        that connects meanwhile may be told twice.

        Raises:
            UsageError: `limit` is not positive.
            QueueUnavailableError: the store does not answer.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Release the connections; consumers of this object are closed. Idempotent."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()


async def publish(
    queue: Queue, messages: Sequence[Message], *, backend: str, source: str = "publisher"
) -> None:
    """Put messages into a queue, as one batch of a producer that begins with it; returns when they
    are stored. Of two calls for the same backend and source at a time one may be fenced.

    Raises:
        UsageError: the backend or the source is no name.
        UnsendableError: a message cannot be encoded, or is over the limit that clients have by
            default; nothing is stored.
        FencedError, QueueLostError: somebody else began meanwhile, or the store was wiped: call
            again.
        QueueUnavailableError: the store does not answer, or is full.
    """
    check_name("the backend", backend)
    check_name("the source", source)
    producer = Producer(backend, source)
    state = await queue.open_producer(producer, new_id(), NEW)
    limit = Limits().message_bytes
    batch = batch_of(producer, state, state.sequence + 1, messages, limit)
    (outcome,) = await queue.append([batch])
    if outcome is AppendOutcome.FENCED:
        raise FencedError(f"somebody else publishes as {producer}")
    if outcome is AppendOutcome.LOST:
        raise QueueLostError("the queue lost its memory while this was published")
