"""Both queues keep the contract; Redis in the preferred version and in the oldest supported one, to
users who may do what the production guide says, and nothing else."""

import pytest

from osmo_transport.queues.abc import Consumer, Queue, QueueConfig
from osmo_transport.testing.contracts.queues import QueueContract
from osmo_transport.testing.redis_server import RedisServer
from tests.queues.harness import MemoryHarness, RedisHarness


class Harnessed(QueueContract):
    """The contract over a harness."""

    harness: MemoryHarness | RedisHarness

    async def open_queue(self, config: QueueConfig) -> Queue:
        return await self.harness.open_queue(config)

    async def crash(self, consumer: Consumer) -> None:
        await self.harness.crash(consumer)

    async def wipe(self, queue: Queue) -> Queue:
        return await self.harness.wipe(queue)

    async def pass_time(self, seconds: float) -> None:
        await self.harness.pass_time(seconds)


class TestMemoryQueue(Harnessed):
    """`memory://NAME`."""

    @pytest.fixture(autouse=True)
    def _harness(self) -> None:
        self.harness = MemoryHarness(self.name)


class InRedis(Harnessed):
    """`redis://`."""

    harness: RedisHarness

    async def remove(self, queue: Queue) -> None:
        await self.harness.remove()


class TestRedisQueue(InRedis):
    """In the preferred version."""

    @pytest.fixture(autouse=True)
    def _harness(self, redis_server: RedisServer) -> None:
        self.harness = RedisHarness(self.name, redis_server, by_role=True)


class TestOldestRedisQueue(InRedis):
    """In the oldest supported one."""

    @pytest.fixture(autouse=True)
    def _harness(self, oldest_redis_server: RedisServer) -> None:
        self.harness = RedisHarness(self.name, oldest_redis_server, by_role=True)
