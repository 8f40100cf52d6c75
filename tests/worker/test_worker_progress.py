"""How far a worker has come, as who restarts it sees it; and what it counts."""

import asyncio
from dataclasses import replace

from osmo_runtime.operations import Work
from osmo_transport import Ack, Delivery, Message, Outcome, Reject, Retry, new_message
from osmo_worker import HandlerUnavailableError, Worker, WorkerMetrics
from osmo_worker.metrics import MOST_KINDS, OTHER
from tests.helpers import eventually
from tests.worker.harness import (
    CONFIG,
    FaultyConsumer,
    Recorder,
    append,
    event,
    filled_queue,
    heartbeat,
    report,
    settled,
    until,
    work_off,
    working,
)


def handling(worker: Worker) -> Work:
    return dict(worker.work())["handler"]()


async def test_a_call_has_its_time_and_then_has_to_end() -> None:
    """A handler that lets itself be cancelled is tried again and is progress; one that does not is
    told, because nobody waits for it any more."""
    let_go = asyncio.Event()
    stubborn = False

    async def handle(_: Delivery) -> Outcome:
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                if not stubborn:
                    raise
        return Ack()

    async with filled_queue(report()) as queue:
        worker = Worker(queue.consumer("workers", "one"), handle, CONFIG)
        async with working(worker):
            await eventually(lambda: worker.metrics.received)
            assert handling(worker) == Work(waits=False, done=0)
            let_go.set()
            await eventually(lambda: handling(worker) == Work(waits=False, done=1))
        let_go.clear()
        stubborn = True
        await append(queue, [report("b")])
        worker = Worker(
            queue.consumer("workers", "two"),
            handle,
            replace(CONFIG, handler="elsewhere:handle", handler_timeout=0.001),
        )
        async with working(worker):
            await eventually(lambda: handling(worker) == Work(waits=True, done=0))
            let_go.set()
            await eventually(lambda: handling(worker).done)


async def test_what_the_handler_needs_may_be_away_for_as_long_as_it_takes() -> None:
    """Each try is progress, nothing waits meanwhile, and who asks is told why it is not ready."""

    async def handle(_: Delivery) -> Outcome:
        raise HandlerUnavailableError("the database is away")

    async with filled_queue(report()) as queue:
        config = replace(CONFIG, drain_timeout=0.0)
        worker = Worker(queue.consumer("workers", "one"), handle, config)
        assert worker.check().ok
        async with working(worker):
            await eventually(lambda: not worker.check().ok)
            assert worker.check().reason == "the database is away"
            for tries in range(3):
                await eventually(lambda more=tries: handling(worker).done > more)  # type: ignore[misc]
                assert not handling(worker).waits


async def test_a_settlement_that_is_not_answered_counts_while_the_queue_answers() -> None:
    """Else it is an outage, which restarts nobody."""
    gate = asyncio.Event()

    class Hanging(FaultyConsumer):
        async def settle(self, outcomes: object) -> None:
            await gate.wait()
            await super().settle(outcomes)  # type: ignore[arg-type]

    async with filled_queue(report()) as queue:
        worker = Worker(Hanging(queue.consumer("workers", "one")), Recorder(), CONFIG)
        assert worker.settling(queue_answers=True) == Work(waits=False, done=0)
        async with working(worker):
            lost, away = Work(waits=True, done=0), Work(waits=False, done=0)
            await eventually(lambda: worker.settling(queue_answers=True) == lost)
            # What is finished is the worker's own until it has asked the queue to settle it.
            await eventually(lambda: worker.settling(queue_answers=False) == away)
            gate.set()
            await eventually(lambda: worker.settling(queue_answers=True).done == 1)


async def test_each_kind_has_a_ledger() -> None:
    """The sums are those of all; what is newer supersedes within its kind."""
    outcomes: dict[str, Outcome] = {
        "update_pod": Ack(),
        "heartbeat": Retry("later", 0.0),
        "pod_event": Reject("odd"),
    }

    async def handle(delivery: Delivery) -> Outcome:
        first = delivery.attempt == 1
        return outcomes[delivery.message.kind] if first else Ack()

    sent = [report("a"), report("b"), report("a", version=(1, 2)), heartbeat(), event("x", "1")]
    async with filled_queue(*sent) as queue:
        metrics = (await work_off(queue, handle)).metrics
    pods, beats, events = (metrics.of(kind) for kind in outcomes)
    assert (pods.handled, pods.compacted, pods.processing_time.count) == (2, 1, 3)
    assert (beats.handled, beats.retried, beats.processing_time.count) == (1, 1, 1)
    assert (events.handled, events.rejected, events.processing_time.count) == (0, 1, 0)
    assert (metrics.handled, metrics.compacted, metrics.retried, metrics.rejected) == (3, 1, 1, 1)
    assert metrics.received == 6
    assert metrics.in_hand == 0
    assert metrics.buried == 1
    assert metrics.processing_time.count == 4


async def test_kinds_without_an_end_have_one_ledger() -> None:
    """A peer may name as many as it likes: memory and figures do not grow with them."""
    kinds = [f"kind_{number}" for number in range(MOST_KINDS + 20)]
    sent: list[Message] = [new_message(kind, "key", b"x") for kind in kinds]
    async with filled_queue(*sent) as queue:
        metrics = WorkerMetrics()
        consumer = queue.consumer("workers", "one")
        async with working(Worker(consumer, Recorder(), CONFIG, metrics=metrics)):
            await until(lambda: settled(queue))
            await eventually(lambda: metrics.handled == len(kinds))
    assert len(metrics.kinds) == MOST_KINDS + 1
    assert metrics.kinds[OTHER].handled == 20


def test_unknown_kinds_hide_none_that_is_registered() -> None:
    """However many a peer names first."""
    metrics = WorkerMetrics()
    for number in range(MOST_KINDS + 20):
        metrics.of(f"kind_{number}")
    assert metrics.of("update_pod") is metrics.kinds["update_pod"]
    assert metrics.of("more") is metrics.kinds[OTHER]
    assert len(metrics.kinds) == MOST_KINDS + 2
