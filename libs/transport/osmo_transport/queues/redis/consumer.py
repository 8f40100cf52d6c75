"""One member of a consumer group over Redis streams.

What it holds is known twice: in Redis as its pending entries, and here as the deliveries that its
owner has not settled yet. What is pending there and unknown here, because a reply was lost with its
connection, is found by a scan of the pending entries, and delivered as the attempt that was counted
for it.
"""

import asyncio
import heapq
import itertools
import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from typing import NamedTuple

from osmo_transport import _tasks
from osmo_transport.errors import (
    ClosedError,
    QueueError,
    QueueUnavailableError,
    UnreadableError,
)
from osmo_transport.queues.abc import Consumer, QueueConfig
from osmo_transport.queues.delivery import Ack, Delivery, Outcome, Retry
from osmo_transport.queues.fair import FairOrder
from osmo_transport.queues.redis.layout import Layout, content_of
from osmo_transport.queues.redis.member import (
    Found,
    Member,
    NoGroupError,
    Pending,
    Removal,
    Returned,
)
from osmo_transport.queues.rules import UNREADABLE, check_limit, kept_reason, retry_delay

BLOCK = 1.0
"""Seconds of one blocking read: a connection that an idle firewall cut is noticed after this,
`COMMAND_TIMEOUT`, and the time that a slow link may take for what a read brings."""

WAITING_READ = 32
"""Entries of each stream that a read takes which waited for the first of them: what else has come
by then is read by size."""

_START = "-"

_log = logging.getLogger(__name__)
_Key = tuple[str, str]


class _Unreadable(NamedTuple):
    """An entry that is to be buried."""

    backend: str
    attempt: int
    reason: str


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
        self._waiting: dict[_Key, tuple[float, int]] = {}
        """Of what waits for its next try: when, and which attempt that is."""
        self._due: list[tuple[float, int, _Key]] = []
        self._turns = itertools.count()
        self._unreadable: dict[_Key, _Unreadable] = {}
        self._unanswered: set[_Key] = set()
        """Of which a dead letter was to be made when no answer came."""

        self._order = FairOrder(config.weights)
        self._empty: frozenset[str] = frozenset()
        """Streams that had nothing new when they were read last, one after the other."""
        self._backlog = True
        self._new_first = False
        self._former: dict[str, list[str]] | None = None
        """By stream, who had this name before; None: not asked yet."""
        self._inherited: dict[str, str] = {}
        """By stream, from where on to look for what the last of them has."""
        self._unsure: dict[str, str] = {}
        """By stream, from where on to look for what is pending and unknown here."""
        self._claims: dict[str, str] = {}
        """By stream, from where on to look for what others left."""
        self._orphans: dict[str, str] = {}
        """By stream, from where on to look for what is pending for nobody."""
        self._next_claim = clock()

    # Receiving

    async def receive(self, limit: int) -> list[Delivery]:
        check_limit(limit)
        async with self._receiving:
            self._check_open()
            if self._renewer is None:
                self._renewer = asyncio.create_task(self._renew_for_ever())
                self._renewer.add_done_callback(_log_defect)
            while not self._ready:
                await self._look(limit)
                self._check_open()
            taken, self._ready = self._ready[:limit], self._ready[limit:]
            return taken

    async def _look(self, limit: int) -> None:
        """Move what there is into `_ready`, or wait a while for new entries."""
        try:
            await self._bury_unreadable()
            await self._take_unknown(limit)
            await self._take_former(limit)
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
            self._unsure = dict.fromkeys(self._streams, _START)
            if isinstance(exc, NoGroupError):
                await self._member.join()
                return
            if self._closed and isinstance(exc, QueueError):
                raise ClosedError("the consumer was closed") from None
            raise

    async def _take_unknown(self, limit: int) -> None:
        """What is pending for this member and not known here: it was read, and never arrived."""
        for stream in list(self._unsure):
            while (room := limit - len(self._ready)) > 0:
                page = await self._member.pending(stream, self._unsure[stream])
                self._remember()
                unknown = [entry for entry in page if not self._knows((stream, entry.id))][:room]
                looked = await self._take(stream, unknown)
                if looked < len(unknown):
                    self._unsure[stream] = f"({unknown[looked - 1].id}" if looked else _START
                elif len(unknown) == room:
                    self._unsure[stream] = f"({unknown[-1].id}"
                elif page:
                    self._unsure[stream] = f"({page[-1].id}"
                else:
                    del self._unsure[stream]
                    break

    async def _take_former(self, limit: int) -> None:
        """What a consumer of the same name had that is gone, or holds on: it is ours now."""
        if self._former is None:
            self._former = await self._member.former()
        for stream, names in self._former.items():
            # What is not due yet stays theirs, so the cursor alone says whether there is more.
            cursor = self._inherited.pop(stream, _START)
            while names and (room := limit - len(self._ready)) > 0:
                found, cursor = await self._member.claim(stream, room, cursor, names[-1])
                self._admit(found)
                if not cursor:
                    await self._member.dismiss(names.pop())
                    cursor = _START
            if names:
                self._inherited[stream] = cursor

    async def _take_old(self, limit: int) -> None:
        """Entries whose retry is due, and entries whose lease has ended."""
        now = self._clock()
        due: dict[str, list[Pending]] = {}
        room = limit - len(self._ready)
        while room and self._due and self._due[0][0] <= now:
            at, _, key = heapq.heappop(self._due)
            known = self._waiting.get(key)
            if known is not None and known[0] == at:
                due.setdefault(key[0], []).append(Pending(key[1], known[1]))
                room -= 1
        try:
            for stream, waiting in due.items():
                while waiting:
                    looked = await self._take(stream, waiting)
                    for entry in waiting[:looked]:
                        self._waiting.pop((stream, entry.id), None)
                    del waiting[:looked]
        except BaseException:
            for stream, waiting in due.items():
                for entry in waiting:
                    self._push_due((stream, entry.id))
            raise
        if room and not self._holds_back:
            await self._claim(now, limit)

    async def _claim(self, now: float, limit: int) -> None:
        """Follow the cursors one step, or begin again when it is time."""
        if not (self._claims or self._orphans):
            if now < self._next_claim:
                return
            self._next_claim = now + self._config.claim_interval
            self._claims = dict.fromkeys(self._streams, _START)
            self._orphans = dict.fromkeys(self._streams, _START)
            # To remove those that are gone. Who has joined under our name since took over from
            # us, and keeps what it has.
            await self._member.former()
        for stream in list(self._claims):
            room = limit - len(self._ready)
            if room <= 0:
                return
            found, cursor = await self._member.claim(stream, room, self._claims[stream])
            self._admit(found)
            if cursor:
                self._claims[stream] = cursor
            else:
                del self._claims[stream]
        if not self._claims:
            self._orphans = await self._member.adopt(self._orphans)

    async def _take(self, stream: str, wanted: Sequence[Pending]) -> int:
        """Read these entries, as far as an exchange takes them; how many were looked at."""
        if not wanted:
            return 0
        found, looked = await self._member.take(stream, wanted)
        self._admit(found)
        return looked

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
        """While there are many new entries: as many as fit, and no more once some cannot be read,
        which are to be buried before others come."""
        more = True
        while more and len(self._ready) < limit and not self._unreadable:
            more = await self._take_in_order(limit)
        self._backlog = more or len(self._ready) >= limit

    async def _take_in_order(self, limit: int) -> bool:
        """One stream after the other; whether there may be more. Those that were empty when they
        were read last share a read, where they follow each other."""
        order = self._order.order()
        served: list[str] = []
        empty: list[str] = []
        more = False
        while order and (room := limit - len(self._ready)) > 0:
            idle = list(itertools.takewhile(self._empty.__contains__, order))
            asked = idle[:room] or order[:1]
            del order[: len(asked)]
            new = await self._member.read_new(room // len(asked), asked)
            self._admit(new.found)
            served += [stream for stream in asked if stream in new.gave]
            empty += [stream for stream in asked if stream not in new.gave]
            more = more or new.more
        self._order.done(served, empty)
        self._empty = self._empty.difference(served).union(empty)
        return more

    async def _take_everywhere(self, room: int, wait: float | None = None) -> None:
        """While there are few new entries: one read of all streams."""
        share = max(1, room // len(self._streams))  # too much only if it comes while we wait
        if wait is not None:
            share = min(share, WAITING_READ)
        new = await self._member.read_new(share, self._streams, wait)
        self._admit(new.found)
        self._backlog = new.more

    async def _wait(self, limit: int) -> None:
        """Wait for new entries, or for the time to look for old ones."""
        self._check_open()  # closed while the writer was at work, which `aclose` lets finish
        if (self._claims or self._orphans) and not self._holds_back:
            await self._take_everywhere(limit)
            return
        now = self._clock()
        until = min([now + BLOCK, *(at for at, _, _ in self._due[:1])])
        if self._holds_back:
            await self._rest(max(0.0, until - now))
        else:
            await self._member.prepare()
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

    def _admit(self, found: Iterable[Found]) -> None:
        self._remember()
        held, ready, read = self._held, self._ready, self._layout.read
        for stream, entry_id, fields, attempt in found:
            key = (stream, entry_id)
            if key in held or key in self._unreadable:
                continue  # its group was made anew: it is pending for us again, and in hand already
            try:
                backend, message = read(entry_id, fields)
            except UnreadableError as exc:
                reason = UNREADABLE.format(exc)
                self._unreadable[key] = _Unreadable(content_of(fields).backend, attempt, reason)
                continue
            held[key] = delivery = Delivery(entry_id, stream, backend, message, attempt)
            ready.append(delivery)

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
            self._unanswered.clear()
            # Where only a part is gone, the rest is still pending for us.
            self._unsure = dict.fromkeys(self._streams, _START)
        self._queue_epoch = self._member.queue_epoch

    # Settling

    async def settle(self, outcomes: Sequence[tuple[Delivery, Outcome]]) -> None:
        self._check_open()
        removal = Removal({}, {})
        retries: list[tuple[_Key, float, int]] = []
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
                retries.append((key, self._clock() + delay, delivery.attempt + 1))
            else:
                letters = removal.dead.setdefault(delivery.stream, [])
                letters.append((delivery.id, kept_reason(outcome.reason)))
        await self._remove(removal)
        for key, at, attempt in retries:
            if self._held.pop(key, None) is not None:
                self._waiting[key] = at, attempt
                self._push_due(key)

    def _push_due(self, key: _Key) -> None:
        """Look at it again when it is due, unless somebody else has it by now."""
        if key in self._waiting:
            at, _ = self._waiting[key]
            heapq.heappush(self._due, (at, next(self._turns), key))

    async def _bury_unreadable(self) -> None:
        if not self._unreadable:
            return
        removal = Removal({}, {})
        for (stream, entry_id), found in self._unreadable.items():
            removal.dead.setdefault(stream, []).append((entry_id, found.reason))
        try:
            await self._remove(removal)
        except QueueUnavailableError as exc:
            # A full store refuses dead letters; reading on is what makes room in it.
            _log.warning("unreadable entries stay pending: %s", exc)

    async def _remove(self, removal: Removal) -> None:
        reasons = {
            (stream, entry_id): reason
            for stream, letters in removal.dead.items()
            for entry_id, reason in letters
        }
        try:
            done, buried, refused = await self._member.remove(removal)
        except BaseException:
            self._unanswered.update(reasons)
            raise
        if reasons:
            # One that was buried when no answer came is not pending any more when asked for anew.
            for key in buried.union(self._unanswered.intersection(done, reasons)):
                self._tell_buried(key, reasons[key])
        self._forget(done)
        if refused:
            raise QueueUnavailableError(f"the store takes no dead letters for now: {refused}")

    def _tell_buried(self, key: _Key, reason: str) -> None:
        tell, stream = self._member.burials.tell, key[0]
        if (held := self._held.get(key)) is not None:
            tell(stream, held.backend, held.message, held.attempt, reason)
        elif (found := self._unreadable.get(key)) is not None:
            tell(stream, found.backend, None, found.attempt, reason)

    @property
    def buried(self) -> int:
        return self._member.burials.count

    def _forget(self, keys: Collection[_Key]) -> None:
        for known in (self._held, self._waiting, self._unreadable):
            if known:
                for key in keys:
                    known.pop(key, None)
        self._unanswered.difference_update(keys)

    # Leases

    async def _renew_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._config.lease / 3)
            ours: dict[str, list[str]] = {}
            for stream, entry_id in itertools.chain(self._held, self._waiting, self._unreadable):
                ours.setdefault(stream, []).append(entry_id)
            try:
                for stream, ids in ours.items():
                    gone = await self._member.renew(stream, ids)
                    self._forget([(stream, entry_id) for entry_id in gone])
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
            await _tasks.end(self._renewer)
            async with self._receiving:
                await member.give_back([entry async for entry in self._returned()])
        except QueueError as exc:
            _log.warning("%s did not give back its entries, their leases end: %s", member.name, exc)
        finally:
            await member.aclose()

    async def _returned(self) -> AsyncIterator[Returned]:
        """What is pending for this member: handed out, waiting, or never arrived."""
        now = self._clock()
        for (stream, entry_id), delivery in self._held.items():
            # Our leaving is not the entry's fault: this delivery does not count.
            yield Returned(stream, entry_id, 0.0, delivery.attempt - 1)
        for (stream, entry_id), (at, attempt) in self._waiting.items():
            yield Returned(stream, entry_id, at - now, attempt - 1)
        for stream, entry_id in self._unreadable:
            yield Returned(stream, entry_id, 0.0, 0)
        for stream in self._streams:
            cursor = _START
            while page := await self._pending(stream, cursor):
                for entry in page:
                    if not self._knows((stream, entry.id)):
                        yield Returned(stream, entry.id, 0.0, entry.attempt - 1)
                cursor = f"({page[-1].id}"

    async def _pending(self, stream: str, cursor: str) -> list[Pending]:
        try:
            return await self._member.pending(stream, cursor)
        except NoGroupError:
            return []

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the consumer is closed")


def _log_defect(task: "asyncio.Task[None]") -> None:
    _tasks.log_defect(task, _log, "renewing leases")
