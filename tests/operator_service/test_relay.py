"""The relay: nothing is acknowledged before it is stored, whatever the store does."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from osmo_operator.relay import SLOW_APPEND, Relay
from osmo_transport import (
    AppendOutcome,
    BackoffConfig,
    Client,
    ClientConfig,
    FencedError,
    Incoming,
    Limits,
    Message,
    ProducerBatch,
    QueueUnavailableError,
    Server,
    SessionConfig,
    connect,
    listen,
    new_message,
)
from tests.helpers import eventually

AT_ONCE = BackoffConfig(base=0.0, maximum=0.0)
CONFIG = ClientConfig(drain_timeout=0.0, backoff=AT_ONCE)

ONE_BY_ONE = ClientConfig(
    drain_timeout=0.0, backoff=AT_ONCE, session=SessionConfig(limits=Limits(batch_bytes=1))
)
"""Each message is a batch of its own."""


class ScriptedStore:
    """A store that does what the test says with each append."""

    def __init__(self) -> None:
        self.appended: list[Message] = []
        self.groups: list[list[str]] = []
        """Of each append, the keys."""
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
            group = [message for batch in batches for message in batch.messages]
            self.appended += group
            self.groups.append([message.key for message in group])
        return [self.outcome for _ in batches]


def relay_of(
    server: Server,
    store: ScriptedStore,
    *,
    append_messages: int = 2_000,
    append_bytes: int = 512 * 1024,
    backlog_bytes: int = 1024 * 1024,
    clock: Callable[[], float] = time.monotonic,
) -> Relay:
    return Relay(server, store, append_messages, append_bytes, backlog_bytes, AT_ONCE, clock)


@asynccontextmanager
async def running(relay: Relay) -> AsyncIterator[None]:
    task = asyncio.create_task(relay.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def relaying(store: ScriptedStore) -> AsyncIterator[tuple[Client, Server, Relay]]:
    async with listen("memory://") as server:
        relay = relay_of(server, store)
        async with running(relay), connect(server.url, backend="b", config=CONFIG) as client:
            yield client, server, relay


def report(number: int, backend: str = "key") -> Message:
    return new_message("update_pod", f"{backend}-{number}", b"x")


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
        assert relay.stored == {"pods": 1}


async def test_counts_after_the_acknowledgement(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody waits for the one, and nobody for the other."""
    counted: list[tuple[int, int]] = []
    acknowledge = Incoming.acknowledge

    def acknowledged(incoming: Incoming) -> None:
        acknowledge(incoming)
        counted.append((relay.append_time.count, relay.stored.total()))

    monkeypatch.setattr(Incoming, "acknowledge", acknowledged)
    async with relaying(ScriptedStore()) as (client, _, relay):
        await client.send(report(1))
        await client.flush()
        assert counted == [(0, 0)]
        assert (relay.append_time.count, relay.stored.total()) == (1, 1)


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
        assert relay.check().ok


async def test_is_not_ready_during_an_outage() -> None:
    """`check` tells whether the last append succeeded."""
    store = ScriptedStore()
    store.failures = 1_000_000
    async with relaying(store) as (client, _, relay):
        await client.send(report(1))
        await eventually(lambda: not relay.check().ok)
        assert client.stats.acknowledged == 0
        store.failures = 0
        await client.flush()
        assert relay.check().ok


async def test_a_fenced_listener_is_told() -> None:
    """One whose epoch is not the newest connects again, and its report comes through when it has a
    place; one that takes over gets a fatal error."""
    store = ScriptedStore()
    store.outcome = AppendOutcome.FENCED
    async with relaying(store) as (client, server, _):
        await client.send(report(1))
        await eventually(lambda: client.stats.connects >= 2)
        store.outcome = AppendOutcome.STORED
        await client.flush()
        store.outcome = AppendOutcome.FENCED
        config = replace(CONFIG, takes_over=True)
        async with connect(server.url, backend="another", config=config) as other:
            await other.send(report(2))
            with pytest.raises(FencedError):
                await other.flush()
        store.outcome = AppendOutcome.STORED
        assert server.stats.fenced >= 2


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
        relay = relay_of(server, store)
        task = asyncio.create_task(relay.run())
        async with connect(server.url, backend="b") as client:
            await client.send(report(1))
            await eventually(lambda: store.calls)
            server.stop()
            store.gate.set()
            await task
            await client.flush()
            assert client.stats.acknowledged == 1


async def test_an_append_that_is_late_counts_as_an_outage() -> None:
    """Whoever asks about the operator's health need not wait for the store's answer to learn that
    there is none; the answer ends it."""
    now = 100.0
    store = ScriptedStore()
    store.gate.clear()
    async with listen("memory://") as server:
        relay = relay_of(server, store, clock=lambda: now)
        async with running(relay), connect(server.url, backend="b", config=CONFIG) as client:
            now += 10 * SLOW_APPEND
            assert relay.check().ok  # nothing to store is no outage
            await client.send(report(1))
            await eventually(lambda: store.calls)
            now += SLOW_APPEND
            assert relay.check().ok
            now += 0.1
            assert not relay.check().ok
            store.gate.set()
            await client.flush()
            assert relay.check().ok
            now += 10 * SLOW_APPEND
            assert relay.check().ok


async def test_who_reports_much_holds_up_nobody() -> None:
    """While the reports of one backend fill many appends, another one's are in the next."""
    store = ScriptedStore()
    store.gate.clear()
    async with listen("memory://") as server:
        relay = relay_of(server, store, append_messages=10)
        async with (
            running(relay),
            connect(server.url, backend="loud", config=ONE_BY_ONE) as loud,
            connect(server.url, backend="quiet", config=ONE_BY_ONE) as quiet,
        ):
            for number in range(100):
                await loud.send(report(number, "loud"))
            await eventually(lambda: loud.stats.in_flight == 100)
            for number in range(3):
                await quiet.send(report(number, "quiet"))
            await eventually(lambda: quiet.stats.in_flight == 3)
            store.gate.set()
            await quiet.flush()
            await loud.flush()
    first, second, *_ = store.groups
    assert {key for key in first if "quiet" in key} == set()
    assert [key for key in second if "quiet" in key] == ["quiet-0", "quiet-1", "quiet-2"]
    assert max(map(len, store.groups)) == 10
    stored = [message.key for message in store.appended]
    assert [key for key in stored if "loud" in key] == [f"loud-{n}" for n in range(100)]


async def test_an_append_is_bounded_in_bytes() -> None:
    """Whatever has arrived: over a slow link to the store nobody waits long for others' reports."""
    store = ScriptedStore()
    store.gate.clear()
    async with listen("memory://") as server:
        relay = relay_of(server, store, append_bytes=1)
        async with running(relay), connect(server.url, backend="b", config=ONE_BY_ONE) as client:
            for number in range(20):
                await client.send(report(number))
            await eventually(lambda: client.stats.in_flight == 20)
            store.gate.set()
            await client.flush()
    assert store.groups == [[f"key-{number}"] for number in range(20)]


async def test_what_waits_is_bounded() -> None:
    """What does not fit into the backlog stays with the server, which bounds it in its turn, and is
    fetched when there is room."""
    store = ScriptedStore()
    store.gate.clear()
    async with listen("memory://") as server:
        relay = relay_of(server, store, append_messages=1, backlog_bytes=1)
        async with running(relay), connect(server.url, backend="b", config=ONE_BY_ONE) as client:
            await client.send(report(0))
            await eventually(lambda: store.calls)
            for number in range(1, 5):
                await client.send(report(number))
            await eventually(lambda: client.stats.in_flight == 5)
            store.gate.set()
            await client.flush()
            assert not relay._backlog
            assert relay._backlog.size == 0
    assert store.groups == [[f"key-{number}"] for number in range(5)]


async def test_stop_answers_what_waits_too() -> None:
    """Also what does not fit into one append, nor into the backlog."""
    store = ScriptedStore()
    store.gate.clear()
    async with listen("memory://") as server:
        relay = relay_of(server, store, append_messages=1, backlog_bytes=1)
        task = asyncio.create_task(relay.run())
        async with connect(server.url, backend="b", config=ONE_BY_ONE) as client:
            for number in range(10):
                await client.send(report(number))
            await eventually(lambda: sum(len(peer._held) for peer in server._hub.peers) == 10)
            server.stop()
            store.gate.set()
            await task
            await client.flush()
            assert client.stats.acknowledged == 10
