"""The queue inside one process: `memory://` is its opener's own, `memory://NAME` is shared by all
who open it while one of them holds it open.

It keeps every promise of `abc` except that it dies with the process, which then counts as a loss of
memory: the next one has another queue epoch. A consumer in the same process can fall silent only by
being dropped without `aclose`; its lease runs from then on.
"""

import heapq
import itertools
import time
import weakref
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

from osmo_transport.errors import ClosedError, UnreadableError
from osmo_transport.kinds import DEFAULT_STREAM
from osmo_transport.message import read_message
from osmo_transport.queues.abc import (
    PAGE_BYTES,
    AppendOutcome,
    Consumer,
    Queue,
    QueueConfig,
    QueueStatus,
)
from osmo_transport.queues.delivery import (
    Ack,
    DeadLetter,
    Delivery,
    Outcome,
    Producer,
    ProducerBatch,
    ProducerState,
    Retry,
    StoredEntry,
    message_or_none,
)
from osmo_transport.queues.fair import FairOrder
from osmo_transport.queues.leases import AT_ONCE, Claim, Renewal, Standing
from osmo_transport.queues.memory.store import Entry, Holder, MemoryStore, Timers, turn_of
from osmo_transport.queues.rules import (
    EXHAUSTED,
    UNREADABLE,
    Burials,
    check_config,
    check_limit,
    check_stream,
    full,
    kept_reason,
    other_group,
    retry_delay,
    stream_of,
)
from osmo_transport.session.admission import judge
from osmo_transport.transports.urls import parsed

_T = TypeVar("_T")
_named: dict[str, MemoryStore] = {}


async def open_queue(
    url: str,
    config: QueueConfig,
    *,
    clock: Callable[[], float] = time.monotonic,
    wall: Callable[[], float] = time.time,
) -> "MemoryQueue":
    """The queue `memory://NAME`, or without a name a new one.

    `clock` gives the seconds by which leases and retries are timed, `wall` those since the Unix
    epoch: a lower bound of the producers' epochs, and the time by which their leases end.

    Raises:
        UsageError: the URL or the configuration is wrong.
    """
    parts = parsed(url)
    check_config(config)
    return MemoryQueue(parts.netloc, config, clock, wall)


class MemoryQueue(Queue):
    """See the module; made by `open_queue`."""

    def __init__(
        self,
        name: str,
        config: QueueConfig,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._name = name
        self._config = config
        self._clock = clock
        self._wall = wall
        store = MemoryStore(wall)
        self._store = _named.setdefault(name, store) if name else store
        self._store.users += 1
        self._dropped_before = self._store.dead_dropped
        self._consumers: weakref.WeakSet[MemoryConsumer] = weakref.WeakSet()
        self._closed = False

    async def open_producer(
        self, producer: Producer, instance: str, known: ProducerState, claim: Claim = AT_ONCE
    ) -> ProducerState:
        store = self._open_store()
        return store.producers.admit(producer, store.epoch, instance, known, self._wall(), claim)

    async def renew(
        self, renewals: Sequence[Renewal], wanted: Collection[Producer]
    ) -> set[Producer]:
        return self._open_store().producers.renew(renewals, wanted, self._wall())

    async def append(self, batches: Sequence[ProducerBatch]) -> list[AppendOutcome]:
        store = self._open_store()
        outcomes = [self._append(store, batch) for batch in batches]
        store.wake()
        return outcomes

    def _append(self, store: MemoryStore, batch: ProducerBatch) -> AppendOutcome:
        place = store.producers.place(batch.producer)
        outcome = judge(place, store.epoch, batch)
        if outcome is not AppendOutcome.STORED:
            return outcome
        fresh = batch.after(place.sequence)
        if fresh and (entries := store.entries) + len(fresh) > self._config.max_entries:
            store.wake()
            raise full(entries, self._config.max_entries)
        now = self._clock()
        for kind, data in fresh:
            store.add(stream_of(kind, self._config.weights), batch.producer.backend, data, now)
        store.producers.stored(batch.producer, place.epoch, batch.last)
        return outcome

    def consumer(self, group: str, name: str) -> "MemoryConsumer":
        consumer = MemoryConsumer(self._open_store(), self._config, self._clock, group, name)
        self._consumers.add(consumer)
        return consumer

    async def raise_epochs(self, epochs: Mapping[str, int]) -> None:
        self._open_store().producers.raise_epochs(epochs, self._wall())

    async def reset(self, backend: str) -> int:
        return self._open_store().producers.reset(backend)

    async def status(self) -> QueueStatus:
        store, now = self._open_store(), self._clock()
        pending = dict.fromkeys(self._config.weights, 0)
        added = {stream: waiting[0].added for stream, waiting in store.waiting.items() if waiting}
        for entry in store.pending.values():
            pending[entry.stream] += 1
            added[entry.stream] = min(entry.added, added.get(entry.stream, now))
        return QueueStatus(
            queue_epoch=store.epoch,
            waiting={s: len(store.waiting.get(s, ())) for s in self._config.weights},
            pending=pending,
            dead=len(store.dead),
            dead_dropped=store.dead_dropped - self._dropped_before,
            oldest={s: max(0.0, now - added.get(s, now)) for s in self._config.weights},
            consumers=sum(not holder.silent for holder in store.holders.values()),
        )

    async def peek(self, stream: str, limit: int, after: str = "") -> list[StoredEntry]:
        store, now = self._open_store(), self._clock()
        check_limit(limit)
        check_stream(stream, self._config.weights)
        pending = [entry for entry in store.pending.values() if entry.stream == stream]
        entries = itertools.chain(pending, store.waiting.get(stream, ()))
        begin = turn_of(after)
        found = [entry for entry in entries if turn_of(entry.id) > begin]
        oldest = heapq.nsmallest(limit, found, key=lambda entry: turn_of(entry.id))
        return [_shown(entry, store, now) for entry in _page(oldest, lambda entry: entry.data)]

    async def dead_letters(self, limit: int, after: str = "") -> list[DeadLetter]:
        check_limit(limit)
        letters = self._open_store().letters_after(after)[:limit]
        return _page(letters, lambda letter: letter.raw)

    async def replay(self, letters: Collection[str]) -> int:
        store, now = self._open_store(), self._clock()
        found = store.letters(letters)
        taken = found[: max(0, self._config.max_entries - store.entries)]
        store.forget_letters(taken)
        for letter in taken:
            stream = letter.stream if letter.stream in self._config.weights else DEFAULT_STREAM
            store.add(stream, letter.backend, letter.raw, now)
        store.wake()
        if len(taken) < len(found):
            raise full(store.entries, self._config.max_entries)
        return len(taken)

    async def drop(self, letters: Collection[str]) -> int:
        store = self._open_store()
        found = store.letters(letters)
        store.forget_letters(found)
        return len(found)

    async def producers(self, limit: int, after: Standing | None = None) -> list[Standing]:
        check_limit(limit)
        return self._open_store().producers.standings(limit, after, self._wall())

    async def aclose(self) -> None:
        if self._closed:
            return
        for consumer in list(self._consumers):
            await consumer.aclose()
        self._closed = True
        self._store.users -= 1
        if self._name and self._store.users == 0:
            del _named[self._name]

    def _open_store(self) -> MemoryStore:
        if self._closed:
            raise ClosedError("the queue is closed")
        return self._store


def _page(items: Sequence[_T], content: Callable[[_T], bytes]) -> list[_T]:
    """As many of them as a page takes."""
    sizes = itertools.accumulate((len(content(item)) for item in items), initial=0)
    return [item for item, before in zip(items, sizes, strict=False) if before < PAGE_BYTES]


def _shown(entry: Entry, store: MemoryStore, now: float) -> StoredEntry:
    return StoredEntry(
        id=entry.id,
        stream=entry.stream,
        backend=entry.backend,
        message=message_or_none(entry.data),
        raw=entry.data,
        age=max(0.0, now - entry.added),
        pending=(entry.stream, entry.id) in store.pending,
        attempts=entry.attempt,
        holder="" if entry.holder is None else entry.holder.name,
    )


class MemoryConsumer(Consumer):
    """A member of the store's group; made by `MemoryQueue.consumer`."""

    def __init__(
        self,
        store: MemoryStore,
        config: QueueConfig,
        clock: Callable[[], float],
        group: str,
        name: str,
    ) -> None:
        self._store = store
        self._config = config
        self._clock = clock
        self._group = group
        self._holder = Holder(name)
        self._order = FairOrder(config.weights)
        self._new_first = False
        self._closed = False
        self._burials = Burials()
        # What the last holder of this name did not settle; whether that one is gone or still
        # holds on, from now on it is ours.
        predecessor = store.holders.get(name)
        self._own = deque(predecessor.held.values()) if predecessor else deque()
        store.holders[name] = self._holder
        for entry in self._own:
            entry.lease += 1
            entry.holder = self._holder
            self._holder.held[entry.stream, entry.id] = entry
        if predecessor:
            predecessor.held.clear()
            self._holder.delayed.take_over(predecessor.delayed)
        lease = config.lease
        holder = self._holder
        self._dropped = weakref.finalize(self, lambda: store.abandon(holder, clock() + lease))
        self._dropped.atexit = False

    async def receive(self, limit: int) -> list[Delivery]:
        check_limit(limit)
        while True:
            self._check_open()
            if taken := self._take(limit):
                return taken
            due = self._next_due()
            await self._store.arrival(None if due is None else max(0.0, due - self._clock()))

    @property
    def _holds_back(self) -> bool:
        return len(self._holder.delayed) >= self._config.max_delayed

    def _next_due(self) -> float | None:
        own = self._holder.delayed.next()
        others = None if self._holds_back else self._store.due.next()
        return min((at for at in (own, others) if at is not None), default=None)

    def _take(self, limit: int) -> list[Delivery]:
        taken: list[Delivery] = []
        while self._own and len(taken) < limit:
            entry = self._own.popleft()
            if entry.holder is self._holder:
                self._hand_out(entry, taken)
        old_then_new = (self._take_old, self._take_new)
        for take in reversed(old_then_new) if self._new_first else old_then_new:
            take(taken, limit)
        # Neither may starve the other: who filled the limit lets the other go first next time.
        self._new_first = len(taken) == limit and not self._new_first
        return taken

    def _take_old(self, taken: list[Delivery], limit: int) -> None:
        self._take_due(self._holder.delayed, taken, limit)
        if not self._holds_back:
            self._take_due(self._store.due, taken, limit)

    def _take_due(self, timers: Timers, taken: list[Delivery], limit: int) -> None:
        now = self._clock()
        while len(taken) < limit and (due := timers.next()) is not None and due <= now:
            self._hand_out(timers.pop(), taken)

    def _take_new(self, taken: list[Delivery], limit: int) -> None:
        if self._holds_back:
            return
        served: list[str] = []
        empty: list[str] = []
        for stream in self._order.order():
            room = limit - len(taken)
            if room == 0:
                break
            waiting = self._store.waiting.setdefault(stream, deque())
            (served if waiting else empty).append(stream)
            for _ in range(min(room, len(waiting))):
                entry = waiting.popleft()
                self._store.pending[stream, entry.id] = entry
                self._hand_out(entry, taken)
        self._order.done(served, empty)

    def _hand_out(self, entry: Entry, taken: list[Delivery]) -> None:
        key = (entry.stream, entry.id)
        if entry.holder is not None:
            entry.holder.held.pop(key, None)
            self._store.forget_if_done(entry.holder)
        if entry.attempt >= self._config.max_attempts:
            self._bury(entry, EXHAUSTED.format(entry.attempt))
            return
        entry.attempt += 1
        try:
            message = read_message(entry.data)
        except UnreadableError as exc:
            self._bury(entry, UNREADABLE.format(exc))
            return
        entry.lease += 1
        entry.holder = self._holder
        self._holder.held[key] = entry
        taken.append(Delivery(entry.id, entry.stream, entry.backend, message, entry.attempt))

    async def settle(self, outcomes: Sequence[tuple[Delivery, Outcome]]) -> None:
        self._check_open()
        for delivery, outcome in outcomes:
            key = (delivery.stream, delivery.id)
            entry = self._holder.held.get(key)
            if entry is None or entry.attempt != delivery.attempt:
                continue
            del self._holder.held[key]
            entry.holder = None
            if isinstance(outcome, Ack):
                self._store.remove(entry)
            elif isinstance(outcome, Retry) and entry.attempt < self._config.max_attempts:
                after = outcome.after
                delay = retry_delay(self._config, entry.attempt) if after is None else after
                self._holder.delayed.add(entry, self._clock() + delay)
                self._store.wake()
            else:
                self._bury(entry, kept_reason(outcome.reason))

    def _bury(self, entry: Entry, reason: str) -> None:
        letter = self._store.bury(entry, reason, self._config.max_dead_letters)
        self._burials.tell(entry.stream, entry.backend, letter.message, entry.attempt, reason)

    @property
    def buried(self) -> int:
        return self._burials.count

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._dropped.detach()
        store, holder = self._store, self._holder
        undelivered = set(self._own)
        now = self._clock()
        for entry in holder.held.values():
            # Our leaving is not the entry's fault: this delivery does not count.
            entry.attempt -= entry not in undelivered
            entry.holder = None
            store.due.add(entry, now)
        store.due.take_over(holder.delayed)
        holder.held.clear()
        holder.silent = True
        store.forget_if_done(holder)
        store.wake()

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the consumer is closed")
        if self._store.group not in ("", self._group):
            raise other_group(self._store.group, self._group)
        self._store.group = self._group
