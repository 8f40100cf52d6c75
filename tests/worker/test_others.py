"""Kinds of others in the worker: a handler and a lane of their own."""

import asyncio
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from osmo_transport import (
    Ack,
    Delivery,
    Message,
    Outcome,
    Retry,
    UsageError,
    Version,
    new_message,
)
from osmo_transport.registry import Group
from osmo_worker import HandlerNotFoundError, HandlerUnavailableError, Worker
from osmo_worker.handler import HANDLERS, load_handlers
from tests.helpers import eventually
from tests.worker.harness import (
    CONFIG,
    Recorder,
    append,
    filled_queue,
    report,
    settled,
    snapshot_end,
    until,
    working,
)

KIND = "job_state"


def job(key: str, *, version: int = 1) -> Message:
    """A report of somebody else's kind."""
    return new_message(KIND, key, b"payload", version=Version(1, version))


class Batches:
    """A batch handler that remembers what it was given."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    async def handle_batch(self, deliveries: Any) -> list[Outcome]:
        self.keys += [each.message.key for each in deliveries]
        return [Ack()] * len(deliveries)


async def test_each_handler_gets_its_kind_and_the_ends_of_its_snapshots() -> None:
    """And nothing else; what nobody else has is the first handler's."""
    ends = [snapshot_end(1, version=(1, 1), kind=kind) for kind in (KIND, "update_pod", "strange")]
    strange = new_message("strange", "key", b"", version=Version(1, 1))
    async with filled_queue(report("a"), job("j"), *ends, strange) as queue:
        ours, theirs = Recorder(), Batches()
        worker = Worker(queue.consumer("workers", "w"), ours, CONFIG, others={KIND: theirs})
        async with working(worker):
            await until(lambda: settled(queue))
    assert sorted(theirs.keys) == ["j", KIND]
    kinds = sorted(each.message.kind for each in ours.handled)
    assert kinds == ["snapshot_end", "snapshot_end", "strange", "update_pod"]
    assert worker.metrics.handled == 6


@pytest.fixture(params=["hangs", "is away"])
def stuck(request: pytest.FixtureRequest) -> Any:
    """A handler that gets nothing done, and how to mend it."""
    mended = asyncio.Event()

    async def handle(delivery: Delivery) -> Outcome:
        if request.param == "hangs":
            await mended.wait()
        elif not mended.is_set():
            raise HandlerUnavailableError("the table is away")
        return Ack()

    return handle, mended


async def test_a_handler_that_gets_nothing_done_keeps_nobody_waiting(stuck: Any) -> None:
    """Ours goes on, also with what is read later, and its own is settled in the end."""
    handle, mended = stuck
    async with filled_queue(*(job(str(number)) for number in range(20)), report("a")) as queue:
        ours = Recorder()
        worker = Worker(queue.consumer("workers", "w"), ours, CONFIG, others={KIND: handle})
        async with working(worker):
            await eventually(lambda: len(ours.handled) == 1)
            await append(queue, [report("b")])
            await eventually(lambda: len(ours.handled) == 2)
            assert worker.metrics.holding is None
            assert worker.metrics.retried == 0
            mended.set()
            await until(lambda: settled(queue))
    assert worker.metrics.handled == 22


async def test_what_waits_for_a_handler_is_bounded(stuck: Any) -> None:
    """By `max_in_flight`, together with everything else that the worker has in hand."""
    handle, mended = stuck
    config = replace(CONFIG, max_in_flight=60, read_limit=20)
    async with filled_queue(*(job(str(number)) for number in range(100))) as queue:
        worker = Worker(queue.consumer("workers", "w"), Recorder(), config, others={KIND: handle})
        async with working(worker):
            await eventually(lambda: worker.metrics.received == 60)
            for _ in range(100):
                await asyncio.sleep(0)
            assert worker.metrics.received == 60
            mended.set()
            await until(lambda: settled(queue))


async def test_a_handler_that_raises_or_is_late_loses_its_own_reports_alone() -> None:
    """After as many attempts as any report has, with the reason."""

    async def handle(delivery: Delivery) -> Outcome:
        if delivery.message.key == "late":
            await asyncio.sleep(60)
        raise ZeroDivisionError("a bug")

    config = replace(CONFIG, handler_timeout=0.05, handler="not:asked")
    async with filled_queue(job("bad"), job("late"), report("a")) as queue:
        ours = Recorder()
        worker = Worker(queue.consumer("workers", "w"), ours, config, others={KIND: handle})
        async with working(worker):
            await until(lambda: settled(queue))
        buried = await queue.dead_letters(9)
        reasons = {each.message.key: each.reason for each in buried if each.message}
    assert len(ours.handled) == 1
    assert reasons.keys() == {"bad", "late"}
    assert "ZeroDivisionError: a bug" in reasons["bad"]
    assert "did not answer within 0.05 s" in reasons["late"]


async def later(delivery: Delivery) -> Outcome:
    return Retry("later")


def install(monkeypatch: pytest.MonkeyPatch, **handlers: object) -> None:
    """As if packages had these entry points."""

    def load(group: Group, name: str) -> object:
        assert group == HANDLERS
        handler = handlers[name]
        if isinstance(handler, Exception):
            raise handler
        return handler

    monkeypatch.setattr("osmo_worker.handler.schemes", lambda _: list(handlers))
    monkeypatch.setattr("osmo_worker.handler.named", load)


def test_handlers_are_found_by_their_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both kinds of handler."""
    batches = Batches()
    install(monkeypatch, one=later, two=batches)
    assert load_handlers() == {"one": later, "two": batches}


@pytest.mark.parametrize(
    ("kind", "handler", "text"),
    [
        ("update_pod", later, "named update_pod, which the state store handles"),
        ("snapshot_end", later, "named snapshot_end, which the state store handles"),
        ("mine", Batches, "must be an async callable"),
        ("mine", "text", "handler 'mine' is str"),
        ("mine", UsageError("mine cannot be loaded: why"), "handler of mine cannot be loaded: why"),
    ],
)
def test_what_cannot_be_a_handler_is_named_at_the_start(
    monkeypatch: pytest.MonkeyPatch, kind: str, handler: Callable[..., Any], text: str
) -> None:
    """The worker does not start without one that is installed."""
    install(monkeypatch, **{kind: handler})
    with pytest.raises(HandlerNotFoundError, match=re.escape(text)):
        load_handlers()
