"""Where a producer that connects goes on: one pure rule, which every store of producers follows."""

from typing import NamedTuple

from osmo_transport.delivery import Producer, ProducerState
from osmo_transport.errors import FencedError


class Place(NamedTuple):
    """What a store remembers of a producer."""

    epoch: int
    """The newest epoch that was handed out."""
    sequence: int
    """The last sequence number that is stored under it."""
    listener: str
    """The process that it was handed to."""


def admit(
    held: Place | None, queue_epoch: str, listener: str, known: ProducerState, now: float
) -> Place:
    """The place of a `listener` that knows `known` in a store that holds `held` under
    `queue_epoch`; `now` in seconds since the Unix epoch.

    A listener that asks for less than it was given is the same process still: the answer was lost,
    or a question that it had given up is carried out late. It is told what it has, whatever was
    lost and in whatever order the questions come, and so never outranks itself.

    Raises:
        FencedError: another, newer listener holds the place.
    """
    if held is None:
        return Place(next_epoch(0, known.epoch, now), 0, listener)
    if known.epoch < held.epoch:
        if held.listener == listener:
            return held
        if known.epoch:
            raise FencedError("a newer listener of this backend reports now")
    agrees = (known.queue_epoch, known.epoch) == (queue_epoch, held.epoch)
    if agrees and known.sequence <= held.sequence:
        return held
    return Place(next_epoch(held.epoch, known.epoch, now), 0, listener)


def next_epoch(stored: int, known: int, now: float) -> int:
    """A fencing number higher than any before, also after the store was wiped; `now` in seconds."""
    return max(stored + 1, known + 1, int(now * 1000))


class Record:
    """The places in a process's own memory."""

    def __init__(self) -> None:
        self._places: dict[Producer, Place] = {}

    def place(self, producer: Producer) -> Place:
        """What is remembered; nothing of a stranger."""
        return self._places.get(producer, NOWHERE)

    def admit(
        self,
        producer: Producer,
        queue_epoch: str,
        listener: str,
        known: ProducerState,
        now: float,
    ) -> ProducerState:
        """Apply `admit`, and remember what it says. Raises what it raises."""
        held = self._places.get(producer)
        place = self._places[producer] = admit(held, queue_epoch, listener, known, now)
        return ProducerState(queue_epoch, place.epoch, place.sequence)

    def stored(self, producer: Producer, epoch: int, sequence: int) -> None:
        """Everything up to `sequence` of `epoch` is stored."""
        place = self._places.get(producer)
        if place is not None and place.epoch == epoch and place.sequence < sequence:
            self._places[producer] = Place(epoch, sequence, place.listener)


NOWHERE = Place(0, 0, "")
