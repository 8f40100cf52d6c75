"""Keeping a connection up, where time and turns of the event loop matter."""

import asyncio

from osmo_transport import (
    BackoffConfig,
    ClientConfig,
    ConnectionLostError,
    OutboxConfig,
    SessionConfig,
    Transport,
    connect,
    listen,
)
from osmo_transport.testing import make_message
from osmo_transport.transports.abc import Accept, Connection, ConnectionConfig, Endpoint, FrameSink
from tests.helpers import eventually

MANY = 100_000


class SlowlyRefusing(Transport):
    """Each try takes longer than a connection has to live to count as healthy, and fails."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.tries = 0

    async def dial(self, url: str, sink: FrameSink, config: ConnectionConfig) -> Connection:
        self.tries += 1
        await asyncio.sleep(self._seconds)
        raise ConnectionLostError("nobody there, found out late")

    async def listen(self, url: str, accept: Accept, config: ConnectionConfig) -> Endpoint:
        raise NotImplementedError


async def test_a_try_that_fails_slowly_is_no_healthy_connection() -> None:
    """Delays go on to grow: it is the time since the welcome that counts, and there was none."""
    backoff = BackoffConfig(base=0.001, maximum=60.0, healthy_after=0.001)
    refusing = SlowlyRefusing(2 * backoff.healthy_after)
    config = ClientConfig(backoff=backoff, drain_timeout=0.0)
    async with connect("memory://nobody", backend="b", config=config, transport=refusing) as client:
        await eventually(lambda: refusing.tries >= 6)
        assert client._uplink._backoff._tries >= 6 - 1


async def test_many_messages_before_the_first_welcome_leave_others_their_turn() -> None:
    """Who sends without a pause still gives the event loop turns, connected or not."""
    outbox = OutboxConfig(max_every_entries=2 * MANY)
    config = ClientConfig(drain_timeout=0.0, session=SessionConfig(outbox=outbox))
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with connect("memory://nobody", backend="b", config=config) as client:
        counting = asyncio.create_task(count())
        for number in range(MANY):
            await client.send(make_message(f"key-{number}"))
        assert turns > MANY // 1000
        counting.cancel()
        await asyncio.wait([counting])
        assert client.stats.waiting == MANY


async def test_what_was_sent_before_the_first_welcome_arrives() -> None:
    """In order, once somebody listens."""
    quick = ClientConfig(backoff=BackoffConfig(base=0.001, maximum=0.01))
    async with connect("memory://later", backend="b", config=quick) as client:
        for number in range(100):
            await client.send(make_message(f"key-{number}"))
        async with listen("memory://later") as server:
            keys: list[str] = []
            while len(keys) < 100:
                for incoming in await server.receive():
                    keys += [message.key for message in incoming.messages]
                    incoming.acknowledge()
            await client.flush()
    assert keys == [f"key-{number}" for number in range(100)]
