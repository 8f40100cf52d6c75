"""The queue in Redis streams: `redis://`, `rediss://`, `valkey://` and `valkeys://`; Redis 6.2 or
newer, or Valkey.

`QUEUES.md` describes the keys and fields.
"""

import asyncio
import logging
import re
import time
import uuid
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache, partial
from typing import TypeVar

import msgspec

from osmo_transport._polling import BusyPoll
from osmo_transport.errors import (
    ClosedError,
    FencedError,
    OccupiedError,
    QueueRefusedError,
)
from osmo_transport.queues.abc import AppendOutcome, Queue, QueueConfig, QueueStatus
from osmo_transport.queues.delivery import (
    DeadLetter,
    Producer,
    ProducerBatch,
    ProducerState,
    StoredEntry,
)
from osmo_transport.queues.leases import AT_ONCE, MAX_LEASE, Claim, Renewal, Standing
from osmo_transport.queues.redis.address import Address
from osmo_transport.queues.redis.administration import Administration
from osmo_transport.queues.redis.client import Beginning, Call, Info, RedisClient, beginning
from osmo_transport.queues.redis.consumer import BLOCK, RedisConsumer
from osmo_transport.queues.redis.layout import Layout, layout_named
from osmo_transport.queues.redis.member import ORPHANS, Member, Tally
from osmo_transport.queues.redis.scripts import producers, state
from osmo_transport.queues.redis.scripts.script import Script
from osmo_transport.queues.rules import check_config, full
from osmo_transport.session.admission import (
    MAX_AHEAD,
    MAX_PRODUCERS,
    PRODUCER_MEMORY,
    STRANGER_MEMORY,
    too_many_producers,
)

OLDEST_VERSION = (6, 2)

_ADVICE = (
    "set appendonly yes and appendfsync always in its configuration where what is acknowledged must"
    " not be lost"
)

_LOSS_WINDOWS = {
    "memory": f"Redis loses all since its last snapshot file when it stops: {_ADVICE}",
    "process": f"Redis loses up to two seconds when its machine loses power: {_ADVICE}",
}
"""Of the levels below `disk`, at which nothing is lost."""

PORTION = 500
"""Leases that one call of a script renews or looks at: bounds the time for which Redis serves
nobody else."""

MAX_BEGINNINGS = 1_000
"""Producers for which the beginning of an append is kept, those that appended last, each a kilobyte
at most: packed anew each time it takes a tenth of what a busy server does for one report."""

_MAX_LEASE = round(MAX_LEASE * 1000)

_OUTCOMES = {outcome.name.encode(): outcome for outcome in AppendOutcome}

_T = TypeVar("_T")
_log = logging.getLogger(__name__)
_json = msgspec.json.Encoder().encode


async def open_queue(
    url: str,
    config: QueueConfig,
    *,
    clock: Callable[[], float] = time.monotonic,
    wall: Callable[[], float] = time.time,
) -> "RedisQueue":
    """The queue at a URL; see `Address.of` for its form.

    Queues of different namespaces (`?namespace=NAME`) or layouts (`?layout=NAME`) share nothing.
    `clock` gives the seconds by which this process times its retries, `wall` those since the Unix
    epoch, a lower bound of the producers' epochs.

    Raises:
        UsageError: the URL or the configuration is wrong.
        QueueUnavailableError: Redis does not answer.
        QueueRefusedError: Redis could lose what it acknowledged, or refuses the credentials; the
            text says what to change.
    """
    address = Address.of(url)
    layout = layout_named(address.layout, address.namespace, config)
    return await open_layout(layout, address, config, clock=clock, wall=wall)


async def open_layout(
    layout: Layout,
    address: Address,
    config: QueueConfig,
    *,
    clock: Callable[[], float] = time.monotonic,
    wall: Callable[[], float] = time.time,
) -> "RedisQueue":
    """The queue of a layout; see `open_queue`, which reads it from a URL."""
    check_config(config)
    queue = RedisQueue(layout, address, config, clock, wall)
    try:
        await queue.check()
    except BaseException:
        await queue.aclose()
        raise
    return queue


def inspect(info: Info) -> None:
    """Refuse a server that is not fit for the queue. `info` is its answer to INFO.

    Raises:
        QueueRefusedError: with what to change.
    """
    version = info.get("redis_version", "0")
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < OLDEST_VERSION:
        wanted = ".".join(map(str, OLDEST_VERSION))
        raise QueueRefusedError(f"Redis {version} is too old for the queue: use {wanted} or newer")
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise QueueRefusedError(
            f"Redis may evict acknowledged messages, its maxmemory-policy is {policy}: set"
            " maxmemory-policy noeviction in its configuration, or give the queue its own Redis"
        )


def new_client(address: Address) -> RedisClient:
    """A client of a server that is fit for a queue."""
    return RedisClient(address, inspect)


class RedisQueue(Queue):
    """See the module; made by `open_queue`."""

    def __init__(
        self,
        layout: Layout,
        address: Address,
        config: QueueConfig,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._address = address
        self._layout = layout
        self._keys = layout.keys
        self._config = layout.configured(config)
        own = self._keys
        kept = (own.epoch, own.producers, own.strangers, own.borders, own.counts)
        self._begun = lru_cache(MAX_BEGINNINGS)(
            partial(
                _append_begins,
                layout.append,
                (*kept, *own.streams.values()),
                self._config.max_entries,
            )
        )
        self._clock = clock
        self._wall = wall
        # Each of these can take its time without holding up the others: whoever appends, whoever
        # asks to be let in, and whoever asks for figures.
        self._appending = new_client(address)
        self._admitting = new_client(address)
        self._asking = new_client(address)
        self._administration = Administration(self._asking, layout, self._config)
        self._polling = BusyPoll(asyncio.get_running_loop(), config.busy_poll)
        """For the answers to appends, which clients wait for."""
        self._tally = Tally()
        self._consumers: weakref.WeakSet[RedisConsumer] = weakref.WeakSet()
        self._closed = False

    async def check(self) -> None:
        """Look at the server, and at what it may lose.

        Raises:
            QueueUnavailableError, QueueRefusedError: as `open_queue`.
        """
        await self._asking.call(state.EPOCH, ((self._keys.epoch,), (uuid.uuid4().hex,)))
        (info,) = await self._asking.run(("INFO", "persistence"))
        # CONFIG is forbidden on many managed servers.
        answers = await self._asking.run(("CONFIG", "GET", "appendfsync"), check=False)
        level = durability(b"aof_enabled:1" in info, answers[0])
        told = f"queue {self._address}: durability level {level}"
        if level in _LOSS_WINDOWS:
            self.caveats = (f"{told}, {_LOSS_WINDOWS[level]}",)
        else:
            _log.info("%s, Redis loses nothing", told)

    async def open_producer(
        self, producer: Producer, instance: str, known: ProducerState, claim: Claim = AT_ONCE
    ) -> ProducerState:
        self._check_open()
        await self._appending.prepare(self._layout.append)
        now = self._wall()
        keys = self._keys
        (reply,) = await self._admitting.call(
            producers.OPEN,
            (
                (
                    keys.epoch,
                    keys.producers,
                    keys.opened,
                    keys.strangers,
                    keys.borders,
                    keys.leases,
                ),
                (
                    _json(producer),
                    instance,
                    *known,
                    int(now * 1000),
                    uuid.uuid4().hex,
                    producer.backend,
                    MAX_AHEAD,
                    round((now - PRODUCER_MEMORY) * 1000),
                    round((now - STRANGER_MEMORY) * 1000),
                    MAX_PRODUCERS,
                    int(claim.waits),
                    round(claim.lease * 1000),
                    claim.connection,
                    producers.encode_who(producers.Who(claim.address, claim.credential)),
                    _MAX_LEASE,
                ),
            ),
        )
        if reply == b"FENCED":
            raise FencedError(f"a newer client of {producer} took over")
        if reply == b"FULL":
            raise too_many_producers()
        if reply[0] == b"OCCUPIED":
            _, holder, who, since = reply
            raise OccupiedError(
                producer,
                holder.decode(errors="replace"),
                producers.decode_who(who).address,
                int(since) / 1000,
            )
        queue_epoch, epoch, sequence = reply
        return ProducerState(queue_epoch.decode(), int(epoch), int(sequence))

    async def renew(
        self, renewals: Sequence[Renewal], wanted: Collection[Producer]
    ) -> set[Producer]:
        self._check_open()
        waiting = {_json(producer): producer for producer in wanted}
        changes: list[tuple[bytes, str, int]] = [
            (_json(producer), connection, round(rest * 1000))
            for producer, connection, rest in renewals
        ]
        keys = (self._keys.leases,)
        calls: list[Call] = [
            (keys, (_MAX_LEASE, len(some), *(part for change in some for part in change)))
            for some in _portions(changes)
        ]
        calls += [(keys, (_MAX_LEASE, 0, *some)) for some in _portions(list(waiting))]
        if not calls:
            return set()
        replies = await self._admitting.call(producers.RENEW, *calls)
        return {waiting[name] for reply in replies for name in reply}

    async def append(self, batches: Sequence[ProducerBatch]) -> list[AppendOutcome]:
        self._check_open()
        calls = [self._append_call(batch) for batch in batches]
        self._polling.expect()
        try:
            replies = await self._appending.call(self._layout.append, *calls)
        finally:
            self._polling.met()
        for reply in replies:
            if type(reply) is list:
                raise full(reply[0], self._config.max_entries)
        return [_OUTCOMES[reply] for reply in replies]

    def _append_call(self, batch: ProducerBatch) -> Call:
        state, added = batch.state, self._layout.appended(batch)
        return self._begun(state.queue_epoch, batch.producer), (
            b"%d %d " % (state.epoch, batch.first - 1),
            b"%d %d " % (state.epoch, batch.last),
            added.ways,
            *added.payloads,
        )

    async def raise_epochs(self, epochs: Mapping[str, int]) -> None:
        self._check_open()
        named = [part for backend, epoch in epochs.items() for part in (backend, epoch)]
        if named:
            now = int(self._wall() * 1000)
            await self._asking.call(producers.RAISE, ((self._keys.borders,), (now, *named)))

    async def reset(self, backend: str) -> int:
        self._check_open()
        keys = self._keys
        whose = keys.producers, keys.opened, keys.strangers, keys.leases, keys.borders
        begins = _json([backend])[:-1] + b","
        (known,) = await self._asking.call(producers.RESET, (whose, (begins, backend)))
        return int(known)

    def consumer(self, group: str, name: str) -> RedisConsumer:
        self._check_open()
        if self._layout.group not in (None, group):
            _log.info("joins the group %s, which the layout asks for", self._layout.group)
            group = self._layout.group
        member = Member(
            lambda: new_client(self._address), self._layout, self._config, self._tally, group, name
        )
        consumer = RedisConsumer(member, self._layout, self._config, self._clock)
        self._consumers.add(consumer)
        return consumer

    async def status(self) -> QueueStatus:
        self._check_open()
        await self._asking.inspect()
        # Others append and remove in a shared queue, and count nothing.
        counted = int(self._layout.shared_for == 0)
        # One that has nothing to do is heard of at the end of each read.
        silence = self._config.lease + BLOCK
        ((epoch, lost, dead, consumers, figures),) = await self._asking.call(
            state.STATUS,
            (
                (
                    self._keys.epoch,
                    self._keys.dead,
                    self._keys.counts,
                    *self._keys.streams.values(),
                ),
                (uuid.uuid4().hex, counted, round(silence * 1000), ORPHANS),
            ),
        )
        if lost:
            self._tally.lost += lost
            _log.error("%d entries were removed by others: the queue begins a new epoch", lost)
        lengths, pending, ages = figures[::3], figures[1::3], figures[2::3]
        streams = list(self._keys.streams)
        return QueueStatus(
            queue_epoch=epoch.decode(),
            # A pending entry that somebody deleted still counts as pending.
            waiting={s: max(0, n - p) for s, n, p in zip(streams, lengths, pending, strict=True)},
            pending=dict(zip(streams, pending, strict=True)),
            dead=dead,
            dead_dropped=self._tally.dead_dropped,
            lost=self._tally.lost,
            oldest={stream: age / 1000 for stream, age in zip(streams, ages, strict=True)},
            consumers=consumers,
        )

    async def peek(self, stream: str, limit: int, after: str = "") -> list[StoredEntry]:
        self._check_open()
        return await self._administration.peek(stream, limit, after)

    async def dead_letters(self, limit: int, after: str = "") -> list[DeadLetter]:
        self._check_open()
        return await self._administration.dead_letters(limit, after)

    async def replay(self, letters: Collection[str]) -> int:
        self._check_open()
        return await self._administration.replay(letters)

    async def drop(self, letters: Collection[str]) -> int:
        self._check_open()
        return await self._administration.drop(letters)

    async def producers(self, limit: int, after: Standing | None = None) -> list[Standing]:
        self._check_open()
        return await self._administration.producers(limit, after)

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            await asyncio.gather(*(consumer.aclose() for consumer in self._consumers))
        finally:
            for client in (self._appending, self._admitting, self._asking):
                await client.aclose()
        await asyncio.sleep(0)  # the turn in which the event loop closes the sockets

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the queue is closed")


def _append_begins(
    script: Script, keys: Sequence[str], most: int, queue_epoch: str, producer: Producer
) -> Beginning:
    return beginning(script, keys, queue_epoch, _json(producer), producer.backend, most)


def _portions(items: Sequence[_T]) -> list[Sequence[_T]]:
    return [items[start : start + PORTION] for start in range(0, len(items), PORTION)]


def durability(append_only: bool, appendfsync: object) -> str:
    """The level: `memory`, `process` or `disk`. `appendfsync` is the answer to CONFIG GET."""
    if not append_only:
        return "memory"
    return "disk" if appendfsync == [b"appendfsync", b"always"] else "process"
