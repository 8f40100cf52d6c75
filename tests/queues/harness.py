"""The queues with the hooks of their contract: clock, crash, wipe."""

import asyncio
import dataclasses
import time
from collections.abc import Callable, Collection

import msgspec
from redis import ConnectionError as RedisConnectionError

from osmo_deployed.layout import OsmoLayout
from osmo_reports import bodies
from osmo_runtime.queues import QueueLayout
from osmo_transport.kinds import stream_weights
from osmo_transport.message import Message, Version, new_message
from osmo_transport.queues.abc import Consumer, Queue, QueueConfig
from osmo_transport.queues.memory import queue as memory
from osmo_transport.queues.memory.queue import MemoryConsumer, MemoryQueue
from osmo_transport.queues.redis import queue as redis
from osmo_transport.queues.redis.address import Address
from osmo_transport.queues.redis.consumer import RedisConsumer
from osmo_transport.testing.redis_server import RedisServer
from tests.documents import rights
from tests.helpers import eventually
from tests.queues.roles import QueueByRole


def current(config: QueueConfig) -> QueueConfig:
    """The configuration with all streams that are registered by now: other tests may have
    registered some since a constant was made."""
    return dataclasses.replace(config, weights=stream_weights())


def name_in_redis(consumer: Consumer) -> str:
    """The name of its own that a consumer has there."""
    assert isinstance(consumer, RedisConsumer)
    return consumer._member._own


async def crash(consumer: Consumer) -> None:
    """Let a consumer of Redis fall silent, as if its process had been killed."""
    assert isinstance(consumer, RedisConsumer)
    consumer._closed = True
    if consumer._renewer is not None:
        consumer._renewer.cancel()
    await consumer._member.aclose()


async def cluster_of_one() -> RedisServer:
    """A server that is a cluster by itself. It ends at once when another program has its second
    port, so it is tried some times."""
    for _ in range(5):
        try:
            server = RedisServer(cluster_enabled="yes")
        except RedisConnectionError:
            continue
        break
    server.command("CLUSTER", "ADDSLOTS", *range(16384))
    await eventually(lambda: b"cluster_state:ok" in server.command("CLUSTER", "INFO"))
    return server


class Clock:
    """A clock that stands still until it is told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class MemoryHarness:
    """A store inside this process, on a clock of its own."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.clock = Clock()
        self._began = time.time()

    async def open_queue(self, config: QueueConfig) -> Queue:
        return await memory.open_queue(
            f"memory://{self.name}", config, clock=self.clock, wall=self._wall
        )

    def _wall(self) -> float:
        return self._began + self.clock.now

    async def crash(self, consumer: Consumer) -> None:
        assert isinstance(consumer, MemoryConsumer)
        consumer._dropped()
        consumer._closed = True

    async def wipe(self, queue: Queue) -> Queue:
        assert isinstance(queue, MemoryQueue)
        await queue.aclose()
        return await self.open_queue(queue._config)

    async def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds


class RedisHarness:
    """A namespace in a Redis server, which is flushed by `wipe`; with `by_role` each part of a
    queue is done by the user of the production guide who does it.

    With a `clock` no time passes by itself: `pass_time` moves it, and in Redis what waits for its
    time; and it ends there the leases of the consumers that are not in `live`, which would have
    renewed theirs.
    """

    layout: QueueLayout = "own"

    def __init__(
        self,
        name: str,
        server: RedisServer,
        clock: Clock | None = None,
        *,
        by_role: bool = False,
    ) -> None:
        self.name = name
        self.server = server
        self.clock = clock
        self._users = rights.allow(server, self.layout, name) if by_role else {}
        self.lease = 0.0
        self.live: Collection[Consumer] = ()

    async def open_queue(self, config: QueueConfig) -> Queue:
        self.lease = config.lease
        if self._users:
            return await QueueByRole.opened(self._users, lambda url: self._open(url, config))
        return await self._open(f"{self.server.url}?namespace={self.name}", config)

    async def _open(self, url: str, config: QueueConfig) -> Queue:
        return await redis.open_queue(url, config, clock=self.clock or time.monotonic)

    async def crash(self, consumer: Consumer) -> None:
        await crash(consumer)

    async def wipe(self, queue: Queue) -> Queue:
        self.server.flush()
        return queue

    async def remove(self) -> None:
        """Delete the oldest entry of its first stream."""
        for key in self.server.command("KEYS", self.streams()):
            for entry_id, _ in self.server.command("XRANGE", key, "-", "+", "COUNT", 1):
                self.server.command("XDEL", key, entry_id)
                return

    async def pass_time(self, seconds: float) -> None:
        if self.clock is None:
            await asyncio.sleep(seconds)
            return
        self.clock.now += seconds
        for key in self.server.command("KEYS", f"{{{self.name}}}:*due:*"):
            for entry_id in self.server.command("ZRANGE", key, 0, -1):
                self.server.command("ZINCRBY", key, -1000 * seconds, entry_id)
        if seconds >= self.lease:
            self._end_leases()

    def streams(self) -> str:
        """The pattern of the keys of its streams."""
        return f"{{{self.name}}}:stream:*"

    def _end_leases(self) -> None:
        live = {name_in_redis(consumer) for consumer in self.live}
        for key in self.server.command("KEYS", self.streams()):
            for group in self.server.command("XINFO", "GROUPS", key):
                who = (key, group[1])
                for entry_id, name, *_ in self.server.command("XPENDING", *who, "-", "+", 10_000):
                    if name.decode() not in live:
                        idle = int(self.lease * 1000)
                        claim = ("XCLAIM", *who, name, 0, entry_id, "IDLE", idle, "JUSTID")
                        self.server.command(*claim)


class OsmoHarness(RedisHarness):
    """The same in the deployed layout, in which nobody but us holds entries, and so leases end as
    they are configured."""

    layout = "osmo"

    async def _open(self, url: str, config: QueueConfig) -> Queue:
        address = Address.of(url)
        layout = OsmoLayout(self.name, config, lease=0.001)
        return await redis.open_layout(layout, address, config, clock=self.clock or time.monotonic)

    def streams(self) -> str:
        return f"{{{self.name}}}:*operator_messages"


BODIES: dict[str, Callable[[str], msgspec.Struct]] = {
    "update_node": lambda key: bodies.UpdateNode(key, key),
    "update_node_usage": lambda key: bodies.UpdateNodeUsage(key, key),
    # With a time: one without is told to deployed workers with that of its report.
    "pod_event": lambda key: bodies.PodEvent(
        key, "Pulled", timestamp="2026-01-02T12:00:00.123456Z"
    ),
    "logging": lambda key: bodies.Logging(bodies.LogType.INFO, "", key),
}
"""Of the kinds whose key may be any name."""


def report_with_body(key: str, kind: str) -> Message:
    """A message about `key` that deployed programs can read, of another kind if there is none."""
    kind = kind if kind in BODIES else "update_node"
    return new_message(kind, key, bodies.encode_body(BODIES[kind](key)), version=Version(1, 1))
