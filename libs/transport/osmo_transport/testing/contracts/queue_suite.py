"""What the tests of the queue contract share: the hooks to override, and words to test with."""

import asyncio
import dataclasses
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from osmo_transport.kinds import stream_weights
from osmo_transport.message import Message
from osmo_transport.queues.abc import AppendOutcome, Consumer, Queue, QueueConfig
from osmo_transport.queues.delivery import DeadLetter, Delivery
from osmo_transport.testing import feeder
from osmo_transport.testing.contracts.suite import AsyncSuite
from osmo_transport.testing.kinds import STATE

STORED, FENCED, LOST = AppendOutcome
PATIENCE = 20.0
"""Seconds after which a test no longer expects an answer."""


async def drain(consumer: Consumer, count: int, limit: int = 100) -> list[Delivery]:
    """Receive until there are `count` deliveries."""
    taken: list[Delivery] = []
    async with asyncio.timeout(PATIENCE):
        while len(taken) < count:
            taken += await consumer.receive(limit)
    return taken


async def is_silent(consumer: Consumer, seconds: float = 0.05) -> bool:
    """Whether nothing is delivered within `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            await consumer.receive(1)
    except TimeoutError:
        return True
    return False


async def buried(queue: Queue, count: int) -> list[DeadLetter]:
    """The dead letters, once there are `count`."""
    async with asyncio.timeout(PATIENCE):
        while True:
            letters = await queue.dead_letters(count)
            if len(letters) == count:
                return letters
            await asyncio.sleep(0.001)


async def has_buried(consumer: Consumer, count: int) -> None:
    """Return once the consumer has made so many dead letters, and knows it."""
    async with asyncio.timeout(PATIENCE):
        while True:
            if consumer.buried == count:
                return
            await asyncio.sleep(0.001)


def keys(deliveries: list[Delivery]) -> list[str]:
    """The keys of the messages, in order."""
    return [delivery.message.key for delivery in deliveries]


async def figures(queue: Queue) -> tuple[int, int, int]:
    """Entries waiting, entries pending, dead letters."""
    status = await queue.status()
    return sum(status.waiting.values()), sum(status.pending.values()), status.dead


class QueueSuite(AsyncSuite):
    """Hooks and configuration of the contract; see `QueueContract`."""

    name: str
    """Fresh for each test: what names the store, so that tests do not see each other's."""

    config = QueueConfig(
        lease=30.0, claim_interval=0.02, retry_base=0.04, retry_maximum=0.1, max_attempts=3
    )
    """What most tests open with."""
    short_lease = 0.05
    """Seconds; for tests in which a lease ends."""

    opaque = True
    """Whether any message is delivered as it was given. False for a store with a form of its own:
    then `report` makes messages that it can hold."""
    streams = True
    """Whether each class of kinds has a stream. False for a store with one stream for all, in which
    weights have no meaning."""
    groups = True
    """Whether a group has the name that is asked for. False for a store whose group is fixed."""

    def setup_method(self) -> None:
        """Called by pytest before each test."""
        self.name = uuid.uuid4().hex
        # Other kinds may have been registered since.
        self.config = dataclasses.replace(self.config, weights=stream_weights())

    async def open_queue(self, config: QueueConfig) -> Queue:
        """Open the queue `self.name`; within a test each call must lead to the same store."""
        raise NotImplementedError

    def report(self, key: str, kind: str = STATE) -> Message:
        """A message about `key`, of another kind if that suits the store better."""
        return feeder.report(key, kind)

    async def crash(self, consumer: Consumer) -> None:
        """Let a consumer fall silent, as if its process had been killed."""
        pytest.skip("this suite cannot crash a consumer: override `crash`")

    async def wipe(self, queue: Queue) -> Queue:
        """Let the store lose everything; return the queue, opened again if need be."""
        pytest.skip("this suite cannot wipe the store: override `wipe`")

    async def remove(self, queue: Queue) -> None:
        """Let somebody else remove the oldest entry from the store."""
        pytest.skip("this suite cannot remove an entry by hand: override `remove`")

    async def pass_time(self, seconds: float) -> None:
        """Let time pass on the clock of the queue, for consumers that live and renew their leases
        meanwhile, as here. To override it makes the suite faster, no more."""
        await asyncio.sleep(seconds)

    @asynccontextmanager
    async def opened(self, **changes: Any) -> AsyncIterator[Queue]:
        """The queue, opened with `config` but for `changes`, and closed."""
        async with await self.open_queue(dataclasses.replace(self.config, **changes)) as queue:
            yield queue
