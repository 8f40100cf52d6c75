"""One member of a consumer group over Redis streams.

What it holds is known twice: in Redis as its pending entries, and here as the deliveries that its
owner has not settled yet. What is pending there and unknown here (after a restart, or after a reply
was lost with its connection) is found by a scan of the pending entries and delivered again.
"""

import asyncio
import heapq
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence

from osmo_transport.delivery import Ack, Delivery, Outcome, Retry
from osmo_transport.errors import BodyError, ClosedError, QueueError, QueueUnavailableError
from osmo_transport.queues._fair import FairOrder
from osmo_transport.queues._redis_layout import Layout
from osmo_transport.queues._redis_member import AT_ONCE, Found, Member, NoGroupError, Removal
from osmo_transport.queues._rules import check_limit, kept_reason, retry_delay
from osmo_transport.queues.abc import Consumer, QueueConfig

BLOCK = 1.0
"""Seconds of one blocking read: a connection that an idle firewall cut is noticed after this and
`COMMAND_TIMEOUT`."""

_START = "-"
_END = "0-0"

_log = logging.getLogger(__name__)
_Key = tuple[str, str]


class RedisConsumer(Consumer):
    """Made by `RedisQueue.consumer`."""

    def __init__(
        self, member: Member, layout: Layout, config: QueueConfig, clock: Callable[[], float]
    ) -> None:
        self._member = member
        self._layout = layout
        self._config = config
        self._clock = clock
        self._streams = list(config.weights)
        self._receiving = asyncio.Lock()
        self._renewer: asyncio.Task[None] | None = None
        self._closed = False
        self._leaving = asyncio.Event()

        self._queue_epoch = ""
        self._ready: list[Delivery] = []
        self._held: dict[_Key, Delivery] = {}
        self._waiting: dict[_Key, float] = {}
        self._due: list[tuple[float, int, _Key]] = []
        self._turns = itertools.count()
        self._unreadable: dict[_Key, str] = {}

        self._order = FairOrder(config.weights)
        self._backlog = True
        self._new_first = False
        self._own = dict.fromkeys(self._streams, _START)
        self._claims: dict[str, str] = {}
        self._next_claim = clock()

    # Receiving

    async def receive(self, limit: int) -> list[Delivery]:
        check_limit(limit)
        async with self._receiving:
            self._check_open()
            if self._renewer is None:
                self._renewer = asyncio.create_task(self._renew_for_ever())
            while not self._ready:
                await self._look(limit)
            taken, self._ready = self._ready[:limit], self._ready[limit:]
            return taken

    async def _look(self, limit: int) -> None:
        """Move what there is into `_ready`, or wait a while for new entries."""
        try:
            await self._bury_unreadable()
            await self._take_own(limit)
            sources = [self._take_old, self._take_new]
            for take in reversed(sources) if self._new_first else sources:
                if len(self._ready) < limit:
                    await take(limit)
            # Neither may starve the other: who filled the limit lets the other go first next time.
            self._new_first = len(self._ready) >= limit and not self._new_first
            if not self._ready:
                await self._wait(limit)
        except BaseException as exc:
            # A reply may be lost, and with it entries that Redis counts as ours by now.
            self._own = dict.fromkeys(self._streams, _START)
            if isinstance(exc, NoGroupError):
                await self._member.join()
                return
            if self._closed and isinstance(exc, QueueError):
                raise ClosedError("the consumer was closed") from None
            raise

    async def _take_own(self, limit: int) -> None:
        """What is pending for this name and not known here."""
        for stream in list(self._own):
            while (room := limit - len(self._ready)) > 0:
                page = await self._member.pending(stream, self._own[stream])
                self._remember()
                if not page:
                    del self._own[stream]
                    break
                unknown = [entry_id for entry_id in page if not self._knows((stream, entry_id))]
                await self._take(stream, unknown[:room])
                last = unknown[room - 1] if room < len(unknown) else page[-1]
                self._own[stream] = f"({last}"

    async def _take_old(self, limit: int) -> None:
        """Entries whose retry is due, and entries whose lease has ended."""
        now = self._clock()
        due: dict[str, list[str]] = {}
        room = limit - len(self._ready)
        while room and self._due and self._due[0][0] <= now:
            at, _, key = heapq.heappop(self._due)
            if self._waiting.get(key) == at:
                del self._waiting[key]
                due.setdefault(key[0], []).append(key[1])
                room -= 1
        for stream, ids in due.items():
            await self._take(stream, ids)
        if room and not self._holds_back:
            await self._claim(room, now)

    async def _claim(self, limit: int, now: float) -> None:
        """Follow the cursors one step, or begin again when it is time."""
        if not self._claims:
            if now < self._next_claim:
                return
            self._claims = dict.fromkeys(self._streams, _END)
        step = dict(itertools.islice(self._claims.items(), limit))
        claimed = await self._member.claim(step, limit // len(step))
        self._remember()
        for stream, (cursor, ids) in claimed.items():
            unknown = [entry_id for entry_id in ids if not self._knows((stream, entry_id))]
            await self._take(stream, unknown, taken_over=True)
            if cursor == _END:
                del self._claims[stream]
            else:
                self._claims[stream] = cursor
        if not self._claims:
            self._next_claim = now + self._config.claim_interval
            await self._member.sweep()

    async def _take(self, stream: str, ids: list[str], *, taken_over: bool = False) -> None:
        if ids:
            self._admit(await self._member.take(stream, ids, taken_over=taken_over))

    @property
    def _holds_back(self) -> bool:
        return len(self._waiting) >= self._config.max_delayed

    async def _take_new(self, limit: int) -> None:
        if self._holds_back:
            return
        # What is read and not asked for would be kept from the other consumers.
        if self._backlog or limit - len(self._ready) < len(self._streams):
            await self._take_by_weight(limit)
        elif self._ready or self._new_first:
            await self._take_everywhere(limit - len(self._ready))
        # Otherwise `_wait` comes next, which takes what there is.

    async def _take_by_weight(self, limit: int) -> None:
        """While there are many new entries: as many as fit, one stream after the other."""
        served: list[str] = []
        empty: list[str] = []
        for stream in self._order.order():
            room = limit - len(self._ready)
            if room <= 0:
                break
            found = await self._member.read_new(room, [stream])
            self._remember()
            self._admit(itertools.chain(*found))
            (served if found else empty).append(stream)
        self._order.done(served, empty)
        self._backlog = len(self._ready) >= limit

    async def _take_everywhere(self, room: int, wait: float | None = None) -> None:
        """While there are few new entries: one read of all streams."""
        share = max(1, room // len(self._streams))  # too much only if it comes while we wait
        found = await self._member.read_new(share, self._streams, wait)
        self._remember()
        self._admit(itertools.chain(*found))
        self._backlog = any(len(entries) == share for entries in found)

    async def _wait(self, limit: int) -> None:
        """Wait for new entries, or for the time to look for old ones."""
        now = self._clock()
        until = min([now + BLOCK, *(at for at, _, _ in self._due[:1])])
        if self._holds_back:
            await self._rest(max(0.0, until - now))
        else:
            await self._take_everywhere(limit, max(0.0, min(until, self._next_claim) - now))

    async def _rest(self, seconds: float) -> None:
        """Wait and take nothing, but notice what a read would: a store that is away or was wiped,
        and the end of this consumer."""
        try:
            async with asyncio.timeout(seconds):
                await self._leaving.wait()
        except TimeoutError:
            await self._member.look()
            self._remember()
        self._check_open()

    def _admit(self, found: Iterable[Found]) -> None:
        for stream, entry_id, fields, attempt in found:
            key = (stream, entry_id)
            if self._knows(key):
                continue  # its group was made anew: it is pending for us again, and in hand already
            try:
                backend, message = self._layout.read(entry_id, fields)
            except BodyError as exc:
                self._unreadable[key] = f"cannot be read as a message: {exc}"
                continue
            delivery = Delivery(entry_id, stream, backend, message, attempt)
            self._held[key] = delivery
            self._ready.append(delivery)

    def _knows(self, key: _Key) -> bool:
        return key in self._held or key in self._waiting or key in self._unreadable

    def _remember(self) -> None:
        """Let go of everything that belonged to an earlier memory of the store."""
        if self._member.queue_epoch == self._queue_epoch:
            return
        if self._queue_epoch:
            _log.error("the queue lost its memory: what was in hand here is void")
            self._ready.clear()
            self._held.clear()
            self._waiting.clear()
            self._due.clear()
            self._unreadable.clear()
        self._queue_epoch = self._member.queue_epoch

    # Settling

    async def settle(self, outcomes: Sequence[tuple[Delivery, Outcome]]) -> None:
        self._check_open()
        removal = Removal({}, {})
        retries: list[tuple[_Key, float]] = []
        for delivery, outcome in outcomes:
            key = (delivery.stream, delivery.id)
            held = self._held.get(key)
            if held is not delivery and held != delivery:
                continue  # an earlier delivery, or one of an earlier memory of the store
            if isinstance(outcome, Ack):
                removal.acks.setdefault(delivery.stream, []).append(delivery.id)
            elif isinstance(outcome, Retry) and delivery.attempt < self._config.max_attempts:
                after = outcome.after
                delay = retry_delay(self._config, delivery.attempt) if after is None else after
                retries.append((key, self._clock() + delay))
            else:
                letters = removal.dead.setdefault(delivery.stream, [])
                letters.append((delivery.id, kept_reason(outcome.reason)))
        await self._remove(removal)
        for key, at in retries:
            if self._held.pop(key, None) is not None:
                self._waiting[key] = at
                heapq.heappush(self._due, (at, next(self._turns), key))

    async def _bury_unreadable(self) -> None:
        if not self._unreadable:
            return
        removal = Removal({}, {})
        for (stream, entry_id), reason in self._unreadable.items():
            removal.dead.setdefault(stream, []).append((entry_id, reason))
        try:
            await self._remove(removal)
        except QueueUnavailableError as exc:
            # A full store refuses dead letters; reading on is what makes room in it.
            _log.warning("unreadable entries stay pending: %s", exc)

    async def _remove(self, removal: Removal) -> None:
        done, refused = await self._member.remove(removal)
        for key in done:
            self._forget(key)
        if refused:
            raise QueueUnavailableError(f"the store takes no dead letters for now: {refused}")

    def _forget(self, key: _Key) -> None:
        self._held.pop(key, None)
        self._waiting.pop(key, None)
        self._unreadable.pop(key, None)

    # Leases

    async def _renew_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._config.lease / 3)
            ours: dict[str, list[str]] = {}
            for stream, entry_id in itertools.chain(self._held, self._waiting, self._unreadable):
                ours.setdefault(stream, []).append(entry_id)
            try:
                for stream, ids in ours.items():
                    for entry_id in await self._member.renew(stream, ids):
                        self._forget((stream, entry_id))
            except QueueError as exc:
                _log.warning("leases could not be renewed: %s", exc)

    # Leaving

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._leaving.set()
        member = self._member
        await member.reader.abort()
        try:
            if self._renewer is not None:
                self._renewer.cancel()
                await asyncio.wait([self._renewer])
            async with self._receiving:
                await member.give_back(self._leases(self._clock()))
        except QueueError as exc:
            _log.warning("%s did not give back its entries, their leases end: %s", member.name, exc)
        finally:
            await member.reader.abort()
            await member.writer.abort()

    def _leases(self, now: float) -> Iterator[tuple[str, str, float, int | None]]:
        for (stream, entry_id), delivery in self._held.items():
            # Our leaving is not the entry's fault: this delivery does not count.
            yield stream, entry_id, AT_ONCE, delivery.attempt - 1
        for (stream, entry_id), at in self._waiting.items():
            yield stream, entry_id, self._config.lease - max(0.0, at - now), None

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the consumer is closed")
