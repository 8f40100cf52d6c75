"""The relay: nothing is acknowledged before it is stored, whatever the store does."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from osmo_operator.relay import Relay, grouped
from osmo_transport import (
    AppendOutcome,
    BackoffConfig,
    Client,
    ClientConfig,
    FencedError,
    Incoming,
    Message,
    ProducerBatch,
    ProducerState,
    QueueUnavailableError,
    Server,
    connect,
    listen,
    new_message,
)
from osmo_transport.delivery import Producer
from tests.helpers import eventually

AT_ONCE = BackoffConfig(base=0.0, maximum=0.0)


class ScriptedStore:
    """A store that does what the test says with each append."""

    def __init__(self) -> None:
        self.appended: list[Message] = []
        self.calls = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.failures = 0
        self.outcome = AppendOutcome.STORED

    async def append(self, batches: Sequence[ProducerBatch]) -> list[AppendOutcome]:
        self.calls += 1
        await self.gate.wait()
        if self.failures:
            self.failures -= 1
            raise QueueUnavailableError("away")
        if self.outcome is AppendOutcome.STORED:
            self.appended += [m for b in batches for m in b.messages if m is not None]
        return [self.outcome for _ in batches]


@asynccontextmanager
async def relaying(store: ScriptedStore) -> AsyncIterator[tuple[Client, Server, Relay]]:
    config = ClientConfig(drain_timeout=0.0, backoff=AT_ONCE)
    async with listen("memory://") as server:
        relay = Relay(server, store, 2000, AT_ONCE)
        task = asyncio.create_task(relay.run())
        try:
            async with connect(server.url, backend="b", config=config) as client:
                yield client, server, relay
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def report(number: int) -> Message:
    return new_message("update_pod", f"key-{number}", b"x")


async def test_acknowledges_after_the_append() -> None:
    """While the store has not answered, nothing is acknowledged."""
    store = ScriptedStore()
    store.gate.clear()
    async with relaying(store) as (client, _, relay):
        await client.send(report(1))
        await eventually(lambda: store.calls)
        assert client.stats.acknowledged == 0
        store.gate.set()
        await client.flush()
        assert client.stats.acknowledged == 1
        assert [m.key for m in store.appended] == ["key-1"]
        assert relay.stored == 1


async def test_what_arrives_during_an_append_shares_the_next_one() -> None:
    """A thousand reports that come during one append are stored by the next."""
    store = ScriptedStore()
    store.gate.clear()
    async with relaying(store) as (client, _, _):
        await client.send(report(0))
        await eventually(lambda: store.calls)
        for number in range(1, 1000):
            await client.send(report(number))
        await eventually(lambda: client.stats.in_flight == 1000)
        store.gate.set()
        await client.flush()
        assert store.calls == 2
        assert [m.key for m in store.appended] == [f"key-{n}" for n in range(1000)]


async def test_an_unavailable_store_is_tried_again_and_then_acknowledged() -> None:
    """An outage means no acknowledgement and not ready, and ends by itself."""
    store = ScriptedStore()
    store.failures = 3
    async with relaying(store) as (client, _, relay):
        store.gate.clear()
        await client.send(report(1))
        store.gate.set()
        await client.flush()
        assert store.calls == 4
        assert len(store.appended) == 1
        assert relay.ready


async def test_is_not_ready_during_an_outage() -> None:
    """`ready` tells whether the last append succeeded."""
    store = ScriptedStore()
    store.failures = 1_000_000
    async with relaying(store) as (client, _, relay):
        await client.send(report(1))
        await eventually(lambda: not relay.ready)
        assert client.stats.acknowledged == 0
        store.failures = 0
        await client.flush()
        assert relay.ready


async def test_a_fenced_listener_is_told() -> None:
    """A listener whose epoch is not the newest gets a fatal error."""
    store = ScriptedStore()
    store.outcome = AppendOutcome.FENCED
    async with relaying(store) as (client, _, _):
        await client.send(report(1))
        with pytest.raises(FencedError):
            await client.flush()


async def test_a_lost_queue_makes_the_listener_connect_again() -> None:
    """LOST ends the connection with a resync; the report is sent again and stored."""
    store = ScriptedStore()
    store.outcome = AppendOutcome.LOST
    async with relaying(store) as (client, _, _):
        await client.epoch_after(0)
        await client.send(report(1))
        await eventually(lambda: client.stats.connects >= 2)
        store.outcome = AppendOutcome.STORED
        await client.flush()
        assert [m.key for m in store.appended] == ["key-1"]


async def test_stop_answers_what_has_arrived() -> None:
    """After `stop` the relay stores and acknowledges what had arrived, then ends."""
    store = ScriptedStore()
    store.gate.clear()
    async with listen("memory://") as server:
        relay = Relay(server, store, 2000, AT_ONCE)
        task = asyncio.create_task(relay.run())
        async with connect(server.url, backend="b") as client:
            await client.send(report(1))
            await eventually(lambda: store.calls)
            server.stop()
            store.gate.set()
            await task
            await client.flush()
            assert client.stats.acknowledged == 1


def batch(size: int) -> Incoming:
    state = ProducerState("q", 1, 0)
    messages = tuple(report(n) for n in range(size))
    return Incoming(None, ProducerBatch(Producer("b", "s"), state, 1, messages))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sizes", "groups"),
    [
        ([], []),
        ([3], [[3]]),
        ([4, 4, 4], [[4, 4], [4]]),
        ([20, 1], [[20], [1]]),
        ([1, 20], [[1], [20]]),
        ([10, 10], [[10], [10]]),
    ],
)
def test_groups_keep_order_and_bound(sizes: list[int], groups: list[list[int]]) -> None:
    """Groups hold up to ten messages; a larger batch is one by itself."""
    got = [[len(i.batch.messages) for i in g] for g in grouped([batch(s) for s in sizes], 10)]
    assert got == groups
