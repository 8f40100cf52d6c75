"""Where a producer that connects goes on, and which of its batches is stored: pure rules, which
every store of producers follows."""

from collections.abc import Collection, Mapping, Sequence
from itertools import takewhile
from typing import NamedTuple

import msgspec

from osmo_transport.errors import FencedError, QueueUnavailableError
from osmo_transport.queues.abc import AppendOutcome
from osmo_transport.queues.delivery import Producer, ProducerBatch, ProducerState
from osmo_transport.queues.leases import AT_ONCE, Claim, Leases, Renewal, Standing

MAX_AHEAD = 24 * 3600 * 1000
"""Milliseconds by which an epoch that a client claims may be ahead of the clock. Epochs are counted
from the clock, so one that is further ahead was not given out here, or by a clock that was wrong;
believed, it would put every later epoch out of reach of those that the clock gives."""

MAX_PRODUCERS = 100_000
"""Producers that a store remembers: some for each of the backends of the largest fleet. A stranger
is turned away beyond that, because to forget somebody for him would end a fencing."""

STRANGER_MEMORY = 3600.0
"""Seconds for which a producer is remembered that never had anything stored: names that come and go
do not pile up."""

PRODUCER_MEMORY = 90 * 24 * 3600.0
"""Seconds after its last connection for which any other producer is remembered. One that appends
all the same is told that the queue has forgotten it, and starts anew."""


class Place(msgspec.Struct, frozen=True, gc=False):
    """What a store remembers of a producer."""

    epoch: int
    """The newest epoch that was handed out."""
    sequence: int
    """The last sequence number that is stored under it."""
    instance: str
    """The process that it was handed to."""


NOWHERE = Place(0, 0, "")
"""The place of a stranger."""


class Border(NamedTuple):
    """What a store remembers of a backend."""

    highest: int = 0
    """The highest epoch that was handed out to one of its producers, or is remembered elsewhere."""
    lowest: int = 0
    """The lowest epoch that still counts: a producer with a lower one has to start anew."""


def admit(
    held: Place | None,
    border: Border,
    queue_epoch: str,
    instance: str,
    known: ProducerState,
    now: float,
    *,
    waits: bool = False,
) -> Place:
    """The place of the process `instance`, which knows `known`, in a store that holds `held` of it
    and `border` of its backend, under `queue_epoch`; `now` in seconds since the Unix epoch. One
    that `waits` was not let in while another held the place, and so comes back as its successor.

    A process that asks for less than it was given is the same one still: the answer was lost, or a
    question that it had given up is carried out late. It is told what it has, whatever was lost and
    in whatever order the questions come, and so never outranks itself.

    Raises:
        FencedError: another, newer process was let in, and this one does not wait.
    """
    if held is not None:
        asks_again = known.epoch < held.epoch and held.instance == instance
        if 0 < known.epoch < held.epoch and not (asks_again or waits):
            raise FencedError("a newer client of this backend reports now")
        agrees = (known.queue_epoch, known.epoch) == (queue_epoch, held.epoch)
        goes_on = asks_again or (agrees and known.sequence <= held.sequence)
        if goes_on and held.epoch >= border.lowest:
            return held
    stored = max(border.highest, held.epoch if held is not None else 0)
    return Place(next_epoch(stored, known.epoch, now), 0, instance)


def next_epoch(stored: int, claimed: int, now: float) -> int:
    """A fencing number higher than any before, also after the store was wiped: then from what the
    client claims to know, if that can be; `now` in seconds."""
    present = int(now * 1000)
    believed = claimed if claimed <= max(stored, present + MAX_AHEAD) else 0
    return max(stored + 1, believed + 1, present)


def raised(border: Border, epoch: int, now: float) -> Border:
    """The border when somebody else remembers `epoch`; `now` in seconds since the Unix epoch. As
    epochs are counted from the clock, that says something new only where one was ahead."""
    if epoch <= border.highest or epoch < int(now * 1000):
        return border
    return Border(epoch, epoch + 1)


def judge(place: Place, queue_epoch: str, batch: ProducerBatch) -> AppendOutcome:
    """What becomes of a batch of the producer that stands at `place` under `queue_epoch`. If it is
    stored, that are the messages of `batch.after(place.sequence)`, and then the place's sequence is
    `batch.last`, unless it is higher."""
    if batch.state.queue_epoch != queue_epoch or place.epoch < batch.state.epoch:
        return AppendOutcome.LOST
    if place.epoch > batch.state.epoch:
        return AppendOutcome.FENCED
    return AppendOutcome.LOST if batch.first > place.sequence + 1 else AppendOutcome.STORED


def counted(place: Place, border: Border) -> Place:
    """The place as it counts for `judge`: nowhere once its epoch is below the border."""
    return place if place.epoch >= border.lowest else NOWHERE


class Record:
    """The places in a process's own memory."""

    def __init__(self) -> None:
        self._places: dict[Producer, Place] = {}
        self._opened: dict[Producer, float] = {}
        """When each connected last, the longest ago in front."""
        self._strangers: dict[Producer, float] = {}
        """The same of those that have appended nothing under their present epoch."""
        self._borders: dict[str, Border] = {}
        self._leases = Leases()

    def place(self, producer: Producer) -> Place:
        """What is remembered and still counts; nothing of a stranger."""
        border = self._borders.get(producer.backend, _NONE)
        return counted(self._places.get(producer, NOWHERE), border)

    def admit(
        self,
        producer: Producer,
        queue_epoch: str,
        instance: str,
        known: ProducerState,
        now: float,
        claim: Claim = AT_ONCE,
    ) -> ProducerState:
        """Apply `admit`, and remember what it says.

        Raises:
            FencedError: as `admit`.
            OccupiedError: as `Leases.check`.
            QueueUnavailableError: too many are remembered for another one.
        """
        self._leases.check(producer, instance, claim, now)
        held = self._places.get(producer)
        if held is None:
            self._forget_silent(self._strangers, STRANGER_MEMORY, now)
            self._forget_silent(self._opened, PRODUCER_MEMORY, now)
            if len(self._places) >= MAX_PRODUCERS:
                raise too_many_producers()
        border = self._borders.get(producer.backend, _NONE)
        place = admit(held, border, queue_epoch, instance, known, now, waits=claim.waits)
        self._places[producer] = place
        self._leases.take(producer, instance, claim, now)
        self._borders[producer.backend] = border._replace(highest=max(border.highest, place.epoch))
        for opened in (self._opened, self._strangers):
            opened.pop(producer, None)
        self._opened[producer] = now
        if not place.sequence:
            self._strangers[producer] = now
        return ProducerState(queue_epoch, place.epoch, place.sequence)

    def _forget_silent(self, among: dict[Producer, float], memory: float, now: float) -> None:
        silent = takewhile(lambda each: now - each[1] >= memory, among.items())
        # Whose epoch is ahead of the clock is remembered until it no longer is, or the next one of
        # its backend would begin below it.
        gone = [each for each, _ in silent if self._places[each].epoch <= now * 1000]
        for producer in gone:
            del self._places[producer], self._opened[producer]
            self._strangers.pop(producer, None)
            self._leases.forget(producer)
            border = self._borders.get(producer.backend, _NONE)
            if not border.lowest and border.highest <= now * 1000:
                self._borders.pop(producer.backend, None)

    def stored(self, producer: Producer, epoch: int, sequence: int) -> None:
        """Everything up to `sequence` of `epoch` is stored."""
        place = self._places.get(producer)
        if place is not None and place.epoch == epoch and place.sequence < sequence:
            self._places[producer] = Place(epoch, sequence, place.instance)
            if not place.sequence:
                self._strangers.pop(producer, None)

    def renew(
        self, renewals: Sequence[Renewal], wanted: Collection[Producer], now: float
    ) -> set[Producer]:
        """See `Leases.renew`."""
        return self._leases.renew(renewals, wanted, now)

    def standings(self, limit: int, after: Standing | None, now: float) -> list[Standing]:
        """See `Queue.producers`."""
        begin = after.opened if after is not None else 0.0
        found = [producer for producer, opened in self._opened.items() if opened >= begin]
        if after is not None and self._opened.get(after.producer) == after.opened:
            del found[: found.index(after.producer) + 1]
        return [self._standing(producer, now) for producer in found[:limit]]

    def _standing(self, producer: Producer, now: float) -> Standing:
        place = self._places[producer]
        holder = self._leases.holder(producer, now)
        opened = self._opened[producer]
        return Standing(producer, place.epoch, place.sequence, opened, place.instance, holder)

    def reset(self, backend: str) -> int:
        """Forget the producers of a backend, and its border; how many there were."""
        gone = [each for each in self._places if each.backend == backend]
        for producer in gone:
            del self._places[producer], self._opened[producer]
            self._strangers.pop(producer, None)
            self._leases.forget(producer)
        self._borders.pop(backend, None)
        return len(gone)

    def raise_epochs(self, epochs: Mapping[str, int], now: float) -> None:
        """Apply `raised` to these backends."""
        for backend, epoch in epochs.items():
            border = self._borders.get(backend, _NONE)
            self._borders[backend] = raised(border, epoch, now)


_NONE = Border()


def too_many_producers() -> QueueUnavailableError:
    """The error of one producer more than a store remembers."""
    return QueueUnavailableError(
        f"the queue remembers {MAX_PRODUCERS} producers already and takes no new one for now"
    )
