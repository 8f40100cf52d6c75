"""The queue in Redis streams: `redis://` and `rediss://`, Redis 6.2 or newer.

`QUEUES.md` describes the keys and fields, in both layouts.
"""

import asyncio
import itertools
import logging
import re
import time
import uuid
import weakref
from collections.abc import Callable, Sequence

import msgspec

from osmo_transport.admission import next_epoch
from osmo_transport.delivery import DeadLetter, Producer, ProducerBatch, ProducerState
from osmo_transport.errors import (
    BodyError,
    ClosedError,
    FencedError,
    QueueRefusedError,
    UsageError,
)
from osmo_transport.queues import _scripts
from osmo_transport.queues._redis_consumer import RedisConsumer
from osmo_transport.queues._redis_directory import RedisDirectory
from osmo_transport.queues._redis_layout import Layout, OwnLayout
from osmo_transport.queues._redis_link import Address, Info, Link
from osmo_transport.queues._redis_member import Member, Tally
from osmo_transport.queues._rules import check_config, full
from osmo_transport.queues.abc import AppendOutcome, Queue, QueueConfig, QueueStatus
from osmo_transport.queues.osmo_layout import OsmoLayout

OLDEST_VERSION = (6, 2)

PRODUCER_MEMORY = 90 * 24 * 3600.0
"""Seconds after its last connection for which a producer is remembered, so that names which come
and go do not pile up. One that appends all the same is told `LOST`, and starts anew."""

_LOSS_WINDOWS = {
    "memory": "everything since its last snapshot file when it stops",
    "process": "nothing when it is killed, up to two seconds when its machine loses power",
    "disk": "nothing",
}

_log = logging.getLogger(__name__)
_json = msgspec.json.Encoder().encode


async def open_queue(
    url: str,
    config: QueueConfig,
    *,
    clock: Callable[[], float] = time.monotonic,
    wall: Callable[[], float] = time.time,
) -> "RedisQueue":
    """The queue `redis://[USER:PASSWORD@]HOST[:PORT][/DB][?namespace=NAME&layout=LAYOUT]`.

    Queues of different namespaces (default `osmo`) or layouts (`own`, the default, or `osmo`, that
    of the deployed operators and workers) share nothing. `clock` gives the seconds by which this
    process times its retries, `wall` those since the Unix epoch, a lower bound of the producers'
    epochs.

    Raises:
        UsageError: the URL or the configuration is wrong.
        QueueUnavailableError: Redis does not answer.
        QueueRefusedError: Redis could lose what it acknowledged, or refuses the credentials; the
            text says what to change.
    """
    address, options = Address.of(url)
    layout = _layout(options.get("layout", "own"), options.get("namespace", "osmo"), config)
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


def _layout(name: str, namespace: str, config: QueueConfig) -> Layout:
    match name:
        case "own":
            return OwnLayout(namespace, config)
        case "osmo":
            return OsmoLayout(namespace)
    raise UsageError(f"the layout of the queue is {name!r}: it must be own or osmo")


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
        self._clock = clock
        self._wall = wall
        self._link = self._make_link()
        self._tally = Tally()
        self._consumers: weakref.WeakSet[RedisConsumer] = weakref.WeakSet()
        self._directory = RedisDirectory(
            self._open_link, self._make_link, layout, config.max_entries, wall
        )
        self._closed = False

    async def check(self) -> None:
        """Look at the server, and say in the log what it may lose.

        Raises:
            QueueUnavailableError, QueueRefusedError: as `open_queue`.
        """
        await self._queue_epoch()
        (info,) = await self._link.run(("INFO", "persistence"))
        # CONFIG is forbidden on many managed servers.
        answers = await self._link.run(("CONFIG", "GET", "appendfsync"), check=False)
        level = durability(b"aof_enabled:1" in info, answers[0])
        _log.info(
            "queue %s: durability level %s, Redis loses %s",
            self._address,
            level,
            _LOSS_WINDOWS[level],
        )

    async def open_producer(
        self, producer: Producer, listener: str, known: ProducerState
    ) -> ProducerState:
        now = self._wall()
        (reply,) = await self._open_link().call(
            _scripts.OPEN_PRODUCER,
            (
                (self._keys.epoch, self._keys.producers, self._keys.opened),
                (
                    _json(producer),
                    listener,
                    *known,
                    next_epoch(0, 0, now),
                    uuid.uuid4().hex,
                    round((now - PRODUCER_MEMORY) * 1000),
                ),
            ),
        )
        if reply == b"FENCED":
            raise FencedError(f"a newer listener of {producer.backend}/{producer.source} took over")
        queue_epoch, epoch, sequence = reply
        return ProducerState(queue_epoch.decode(), int(epoch), int(sequence))

    async def append(self, batches: Sequence[ProducerBatch]) -> list[AppendOutcome]:
        link = self._open_link()
        keys = (self._keys.epoch, self._keys.producers, *self._keys.streams.values())
        replies = await link.call(
            self._layout.append, *((keys, self._append_arguments(batch)) for batch in batches)
        )
        for reply in replies:
            if isinstance(reply, list):
                raise full(reply[0], self._config.max_entries)
        return [AppendOutcome[reply.decode()] for reply in replies]

    def _append_arguments(self, batch: ProducerBatch) -> list[str | bytes | int]:
        streams, payloads = self._layout.entries(batch)
        runs = [f"{stream}:{len(list(run))}" for stream, run in itertools.groupby(streams)]
        return [
            batch.state.queue_epoch,
            _json(batch.producer),
            batch.producer.backend,
            batch.state.epoch,
            batch.first,
            len(batch.messages),
            self._config.max_entries,
            " ".join(runs),
            *payloads,
        ]

    def consumer(self, group: str, name: str) -> RedisConsumer:
        self._open_link()
        if self._layout.group not in (None, group):
            _log.info("joins the group %s, which the layout asks for", self._layout.group)
            group = self._layout.group
        member = Member(self._make_link, self._layout, self._config, self._tally, group, name)
        consumer = RedisConsumer(member, self._layout, self._config, self._clock)
        self._consumers.add(consumer)
        return consumer

    @property
    def directory(self) -> RedisDirectory:
        self._open_link()
        return self._directory

    async def status(self) -> QueueStatus:
        await self._open_link().inspect()
        queue_epoch = await self._queue_epoch()
        ((dead, *figures),) = await self._link.call(
            _scripts.STATUS, ((self._keys.dead, *self._keys.streams.values()), ())
        )
        lengths, pending = figures[::2], figures[1::2]
        streams = list(self._keys.streams)
        return QueueStatus(
            queue_epoch=queue_epoch,
            # A pending entry that somebody deleted still counts as pending.
            waiting={s: max(0, n - p) for s, n, p in zip(streams, lengths, pending, strict=True)},
            pending=dict(zip(streams, pending, strict=True)),
            dead=dead,
            dead_dropped=self._tally.dead_dropped,
            lost=self._tally.lost,
        )

    async def dead_letters(self, limit: int) -> list[DeadLetter]:
        (entries,) = await self._open_link().run(
            ("XRANGE", self._keys.dead, "-", "+", "COUNT", limit)
        )
        return [self._dead_letter(fields) for _, fields in entries]

    def _dead_letter(self, fields: list[bytes]) -> DeadLetter:
        letter = dict(zip(fields[::2], fields[1::2], strict=True))
        entry_id, raw = letter[b"i"].decode(), letter[b"m"]
        try:
            message = self._layout.message(entry_id, raw)
        except BodyError:
            message = None
        return DeadLetter(
            id=entry_id,
            stream=letter[b"s"].decode(),
            backend=letter[b"b"].decode(errors="replace"),
            reason=letter[b"r"].decode(errors="replace"),
            attempt=int(letter[b"n"]),
            message=message,
            raw=raw,
        )

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            async with asyncio.TaskGroup() as tasks:
                for consumer in self._consumers:
                    tasks.create_task(consumer.aclose())
        finally:
            await self._link.abort()

    def _make_link(self) -> Link:
        return Link(self._address, inspect)

    def _open_link(self) -> Link:
        if self._closed:
            raise ClosedError("the queue is closed")
        return self._link

    async def _queue_epoch(self) -> str:
        (epoch,) = await self._open_link().call(
            _scripts.EPOCH, ((self._keys.epoch,), (uuid.uuid4().hex,))
        )
        return str(epoch, "ascii")


def durability(append_only: bool, appendfsync: object) -> str:
    """The level: `memory`, `process` or `disk`. `appendfsync` is the answer to CONFIG GET."""
    if not append_only:
        return "memory"
    return "disk" if appendfsync == [b"appendfsync", b"always"] else "process"
