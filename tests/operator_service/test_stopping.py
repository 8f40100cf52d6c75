"""The end of an operator: what has arrived is stored and acknowledged first, within its time."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from osmo_operator.config import OperatorConfig
from osmo_operator.relay import Relay
from osmo_operator.service import run_operator
from osmo_transport import (
    AppendOutcome,
    BackoffConfig,
    Client,
    ClientConfig,
    Limits,
    Message,
    ProducerBatch,
    SessionConfig,
    connect,
    listen,
    new_message,
    open_queue,
)
from osmo_transport.message import new_id
from osmo_transport.queues.memory.queue import MemoryQueue
from tests.helpers import eventually

ONE_BY_ONE = ClientConfig(
    drain_timeout=0.0,
    backoff=BackoffConfig(base=60.0, maximum=60.0),
    session=SessionConfig(limits=Limits(batch_bytes=1)),
)
"""Each message is a batch of its own; who is told goodbye stays away."""


class Gate:
    """Holds up every append until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.waiting = asyncio.Event()
        self.open = asyncio.Event()
        append = MemoryQueue.append

        async def held_up(
            queue: MemoryQueue, batches: Sequence[ProducerBatch]
        ) -> list[AppendOutcome]:
            self.waiting.set()
            await self.open.wait()
            return await append(queue, batches)

        monkeypatch.setattr(MemoryQueue, "append", held_up)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    """In front of the queue in memory."""
    return Gate(monkeypatch)


@asynccontextmanager
async def stopping(
    gate: Gate, queue_url: str, drain_timeout: float
) -> AsyncIterator[tuple["asyncio.Task[None]", Client]]:
    """An operator that is told to stop while its append waits at the gate, and its client."""
    stop = asyncio.Event()
    ready: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
    config = OperatorConfig(
        queue=queue_url, listen=("memory://",), append_messages=1, drain_timeout=drain_timeout
    )
    running = asyncio.create_task(run_operator(config, stop, ready.set_result))
    (url,) = await ready
    async with connect(url, backend="a", config=ONE_BY_ONE) as client:
        for number in range(3):
            await client.send(new_message("update_pod", f"key-{number}", b""))
        await gate.waiting.wait()
        await eventually(lambda: client.stats.in_flight == 3)
        stop.set()
        yield running, client


async def test_what_has_arrived_is_stored_before_it_ends(gate: Gate) -> None:
    """What an append carries that is on its way, and what waits behind it."""
    url = f"memory://{new_id()}"
    async with await open_queue(url) as queue, stopping(gate, url, 60.0) as (running, client):
        for _ in range(100):
            await asyncio.sleep(0)
        assert not running.done()
        gate.open.set()
        await running
        assert sum((await queue.status()).waiting.values()) == 3
        await eventually(lambda: client.stats.acknowledged == 3)


async def test_a_store_that_hangs_is_waited_for_within_bounds(
    gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    """What it has not taken by then is not acknowledged, and so is sent again by its listener."""
    url = f"memory://{new_id()}"
    async with await open_queue(url) as queue, stopping(gate, url, 0.05) as (running, client):
        async with asyncio.timeout(5):
            await running
        assert sum((await queue.status()).waiting.values()) == 0
        assert (client.stats.acknowledged, client.stats.in_flight) == (0, 3)
    assert "not everything was stored within 0.05 s" in caplog.text


async def test_what_waits_with_the_server_is_answered_too() -> None:
    """Batches that came during the append in whose course it was stopped."""
    waiting, release = asyncio.Event(), asyncio.Event()
    stored: list[Message] = []

    class Store:
        async def append(self, batches: Sequence[ProducerBatch]) -> list[AppendOutcome]:
            waiting.set()
            await release.wait()
            stored.extend(message for batch in batches for message in batch.messages)
            return [AppendOutcome.STORED] * len(batches)

    async with (
        listen("memory://") as server,
        connect(server.url, backend="a", config=ONE_BY_ONE) as client,
    ):
        relay = Relay(server, Store(), 1, 1, 1, BackoffConfig())
        running = asyncio.create_task(relay.run())
        await client.send(new_message("update_pod", "key-0", b""))
        await waiting.wait()
        for number in range(1, 4):
            await client.send(new_message("update_pod", f"key-{number}", b""))
        await eventually(lambda: len(server._hub._inbox) == 3)
        server.stop()
        release.set()
        await running
        assert [message.key for message in stored] == [f"key-{number}" for number in range(4)]
        await eventually(lambda: client.stats.acknowledged == 4)
