"""How far the relay has come, as who restarts an operator sees it; and what is counted."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from osmo_operator.relay import Relay
from osmo_operator.service import relay_work
from osmo_runtime.operations import Inquiry, Work
from osmo_transport import (
    AppendOutcome,
    Client,
    Message,
    QueueStatus,
    QueueUnavailableError,
    Server,
    connect,
    listen,
    new_message,
)
from tests.helpers import eventually
from tests.operator_service.test_relay import CONFIG, ScriptedStore, relay_of, report, running


class Bench:
    """A relay between a client and a scripted store, and a queue that is asked how it is."""

    def __init__(self, store: ScriptedStore, server: Server, relay: Relay, client: Client) -> None:
        self.store = store
        self.relay = relay
        self.client = client
        self.away = False
        self.asking = Inquiry(self._status, 0.001, (QueueUnavailableError,))
        self._server = server

    def work(self) -> Work:
        return relay_work(self.relay, self._server, self.asking)

    async def _status(self) -> QueueStatus:
        if self.away:
            raise QueueUnavailableError("away")
        return QueueStatus("epoch", {}, {}, 0, 0)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with opened(relays=True) as bench:
        yield bench


@asynccontextmanager
async def opened(*, relays: bool) -> AsyncIterator[Bench]:
    store = ScriptedStore()
    async with listen("memory://") as server:
        relay = relay_of(server, store)
        async with connect(server.url, backend="b", config=CONFIG) as client:
            bench = Bench(store, server, relay, client)
            asking = asyncio.create_task(bench.asking.run())
            await eventually(lambda: bench.asking.answer is not None)
            if relays:
                async with running(relay):
                    yield bench
            else:
                yield bench
            asking.cancel()


async def test_who_has_nothing_to_do_has_no_work(bench: Bench) -> None:
    """And each append is a step."""
    assert bench.work() == Work(waits=False, done=0)
    await bench.client.send(report(1))
    await bench.client.flush()
    await eventually(lambda: bench.work() == Work(waits=False, done=1))


async def test_while_the_queue_is_away_nothing_waits_for_the_relay(bench: Bench) -> None:
    """Whether it hangs or refuses: an outage restarts nobody."""
    bench.away = True
    await eventually(lambda: not bench.asking.check().ok)
    bench.store.gate.clear()
    await bench.client.send(report(1))
    await eventually(lambda: bench.store.calls)
    assert bench.relay.has_work
    assert not bench.work().waits
    bench.store.failures = 1_000_000
    bench.store.gate.set()
    await eventually(lambda: bench.work().done > 2)
    assert not bench.work().waits


async def test_an_answer_that_was_lost_on_this_side_is_told(bench: Bench) -> None:
    """The queue answers everybody else, and the append is waited for without an end."""
    bench.store.gate.clear()
    await bench.client.send(report(1))
    await eventually(lambda: bench.store.calls)
    await eventually(lambda: bench.work() == Work(waits=True, done=0))


async def test_a_relay_that_does_not_take_what_arrives_is_told() -> None:
    """Be it that it hangs in code of its own: no queue has to answer for that to be known."""
    async with opened(relays=False) as bench:
        bench.away = True
        await eventually(lambda: not bench.asking.check().ok)
        await bench.client.send(report(1))
        await eventually(lambda: bench.work() == Work(waits=True, done=0))


async def test_what_is_stored_is_counted_by_stream(bench: Bench) -> None:
    """Also where a batch is of several kinds; what was not stored is not counted."""
    kinds = ("update_pod", "update_node", "update_pod", "pod_event", "unheard_of")
    bench.store.gate.clear()
    await bench.client.send(report(0))
    for number, kind in enumerate(kinds):
        await bench.client.send(message(kind, number))
    bench.store.gate.set()
    await bench.client.flush()
    stored = {"pods": 3, "nodes": 1, "events": 1, "default": 1}
    assert bench.relay.stored == stored
    assert bench.relay.append_time.count == bench.store.calls
    bench.store.outcome = AppendOutcome.LOST
    steps = bench.relay.steps
    await bench.client.send(report(9))
    await eventually(lambda: bench.relay.steps > steps)
    assert bench.relay.stored == stored


def message(kind: str, number: int) -> Message:
    return new_message(kind, f"key-{number}", b"x")
