"""The worker's loop over the queue in memory: what it promises while nothing fails."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import replace

import pytest

from osmo_transport import Ack, Consumer, Delivery, Outcome, QueueConfig, Reject, Retry, Version
from osmo_worker import HandlerUnavailableError, Worker, WorkerMetrics, worker
from osmo_worker.errors import WorkerError
from tests.helpers import eventually
from tests.worker.harness import (
    CONFIG,
    QUEUE,
    FaultyConsumer,
    Recorder,
    append,
    delivery,
    event,
    filled_queue,
    report,
    settled,
    until,
    work_off,
    working,
)


async def test_what_is_handled_is_settled_and_counted() -> None:
    """Every delivery is handled once, removed from the queue, and in the ledger."""
    async with filled_queue(*(report(str(number)) for number in range(120))) as queue:
        recorder = Recorder()
        metrics = (await work_off(queue, recorder)).metrics
    assert len(recorder.handled) == metrics.handled == metrics.received == 120
    assert metrics.processing_time.count == 120
    assert (metrics.compacted, metrics.retried, metrics.rejected) == (0, 0, 0)


async def test_one_keys_reports_are_handled_in_order() -> None:
    """Also across reads, and with many calls running at a time."""
    sent = [event(f"pod-{number % 3}", str(number)) for number in range(150)]
    async with filled_queue(*sent) as queue:
        handled: dict[str, list[int]] = {}

        async def handle(delivery: Delivery) -> Outcome:
            number = int(delivery.message.payload)
            await asyncio.sleep(0)
            if number % 7 == 0:
                await asyncio.sleep(0.001)
            handled.setdefault(delivery.message.key, []).append(number)
            return Ack()

        await work_off(queue, handle)
    assert handled == {f"pod-{key}": list(range(key, 150, 3)) for key in range(3)}


async def test_keys_are_handled_concurrently_within_the_bound() -> None:
    """As many calls as `concurrency` run at a time, never more."""
    running, most = 0, 0
    full, go = asyncio.Event(), asyncio.Event()

    async def handle(delivery: Delivery) -> Outcome:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == CONFIG.concurrency:
            full.set()
        await go.wait()
        running -= 1
        return Ack()

    async with (
        filled_queue(*(report(str(number)) for number in range(100))) as queue,
        working(Worker(queue.consumer("workers", "one"), handle, CONFIG)),
    ):
        await full.wait()
        go.set()
    assert most == CONFIG.concurrency


async def test_no_more_than_max_in_flight_is_in_hand() -> None:
    """A slow handler stops the reading, not the process's memory."""
    go = asyncio.Event()

    async def handle(delivery: Delivery) -> Outcome:
        await go.wait()
        return Ack()

    async with filled_queue(*(report(str(number)) for number in range(500))) as queue:
        worker = Worker(queue.consumer("workers", "one"), handle, CONFIG)
        async with working(worker):
            await eventually(lambda: worker.metrics.received == CONFIG.max_in_flight)
            await asyncio.sleep(0.01)
            assert worker.metrics.received == CONFIG.max_in_flight
            go.set()
            await eventually(lambda: worker.metrics.handled == 500)


async def test_a_compacted_set_is_settled_with_its_newest() -> None:
    """Of several reports of a key only the newest is handled; all are acknowledged with it."""
    async with filled_queue(*(report(version=(1, rv)) for rv in range(1, 31))) as queue:
        consumer = FaultyConsumer(queue.consumer("workers", "one"))
        recorder = Recorder()
        worker = Worker(consumer, recorder, CONFIG)
        async with working(worker):
            await eventually(lambda: worker.metrics.compacted == 29)
    assert [item.message.version for item in recorder.handled] == [Version(1, 30)]
    (settlement,) = consumer.settlements
    assert len(settlement) == 30
    assert {outcome for _, outcome in settlement} == {Ack()}
    assert worker.metrics.processing_time.count == 30


async def test_a_compacted_set_is_rejected_as_one() -> None:
    """What was skipped for a report that cannot be handled is in the dead letters with it."""

    async def handle(delivery: Delivery) -> Outcome:
        return Reject("unreadable")

    async with filled_queue(*(report(version=(1, rv)) for rv in range(1, 4))) as queue:
        worker = await work_off(queue, handle)
        letters = await queue.dead_letters(10)
    assert [letter.reason for letter in letters] == ["unreadable"] * 3
    assert worker.metrics.rejected == worker.metrics.buried == 3


async def test_a_retry_comes_again_and_then_becomes_a_dead_letter() -> None:
    """Poison is tried as often as the queue allows, and is kept with its reason."""
    seen: list[int] = []

    async def handle(delivery: Delivery) -> Outcome:
        if delivery.message.key == "poison":
            seen.append(delivery.attempt)
            raise ValueError("bad")
        return Ack()

    async with filled_queue(event("poison", ""), *(event(str(n), "") for n in range(20))) as queue:
        worker = await work_off(queue, handle)
        (letter,) = await queue.dead_letters(10)
    assert seen == list(range(1, QUEUE.max_attempts + 1))
    assert "raised ValueError: bad" in letter.reason
    assert worker.metrics.handled == 20
    assert worker.metrics.retried == QUEUE.max_attempts
    assert worker.metrics.buried == 1


async def test_a_handler_chooses_the_delay_of_a_retry() -> None:
    """`Retry.after` reaches the queue."""
    config = QueueConfig(retry_base=3600.0, retry_maximum=3600.0)

    async def handle(delivery: Delivery) -> Outcome:
        return Ack() if delivery.attempt == 3 else Retry("soon", 0.001)

    async with filled_queue(report(), config=config) as queue:
        worker = await work_off(queue, handle)
    assert (worker.metrics.retried, worker.metrics.handled) == (2, 1)


async def test_batches_form_by_themselves() -> None:
    """What arrives while a batch is handled makes the next one, up to `batch_limit`."""
    sizes: list[int] = []

    class Batches:
        async def handle_batch(self, deliveries: Sequence[Delivery]) -> Sequence[Outcome]:
            sizes.append(len(deliveries))
            keys = [item.message.key for item in deliveries]
            assert len(set(keys)) == len(keys)
            await asyncio.sleep(0)
            return [Ack()] * len(deliveries)

    async with filled_queue(*(report(str(number)) for number in range(500))) as queue:
        await work_off(queue, Batches())
    assert sum(sizes) == 500
    assert max(sizes) == CONFIG.batch_limit


async def test_processing_time_is_taken_after_the_acknowledgement() -> None:
    """It is now minus the message's timestamp, by the clock that was given."""
    message = report()
    metrics = WorkerMetrics()
    async with filled_queue(message) as queue:
        worker = Worker(
            queue.consumer("workers", "one"),
            Recorder(),
            CONFIG,
            metrics=metrics,
            clock=lambda: message.timestamp + 2.5,
        )
        async with working(worker):
            await eventually(lambda: metrics.handled == 1)
    assert metrics.processing_time.maximum == pytest.approx(2.5)


async def test_two_workers_share_the_messages() -> None:
    """Each message is handled by one of them, and both get some."""
    one, two = Recorder(), Recorder()
    config = replace(CONFIG, read_limit=4, max_in_flight=4)
    async with filled_queue(*(event(str(number), str(number)) for number in range(40))) as queue:
        first = Worker(queue.consumer("workers", "one"), one, config)
        second = Worker(queue.consumer("workers", "two"), two, config)
        async with working(first), working(second):
            await until(lambda: settled(queue))
    assert sorted(map(int, one.payloads + two.payloads)) == list(range(40))
    assert one.handled
    assert two.handled


async def test_stop_finishes_what_is_in_hand_and_reads_no_more() -> None:
    """What was taken is handled and settled; what comes later stays in the queue."""
    started, go = asyncio.Event(), asyncio.Event()

    async def handle(delivery: Delivery) -> Outcome:
        started.set()
        await go.wait()
        return Ack()

    async with filled_queue(report("a"), report("b")) as queue:
        worker = Worker(queue.consumer("workers", "one"), handle, CONFIG)
        stop = asyncio.Event()
        running = asyncio.create_task(worker.run(stop))
        await started.wait()
        stop.set()
        await asyncio.sleep(0)
        await append(queue, [report("late")])
        go.set()
        await running
        assert worker.metrics.handled == 2
        assert sum((await queue.status()).waiting.values()) == 1


async def test_stop_gives_back_what_does_not_end_in_time() -> None:
    """A handler that hangs cannot hold up a stop for longer than `drain_timeout`."""
    started = asyncio.Event()

    async def hang(delivery: Delivery) -> Outcome:
        started.set()
        await asyncio.Event().wait()
        return Ack()

    config = replace(CONFIG, drain_timeout=0.01)
    async with filled_queue(report()) as queue:
        async with working(Worker(queue.consumer("workers", "one"), hang, config)):
            await started.wait()
        recorder = Recorder()
        await work_off(queue, recorder)
    assert [item.attempt for item in recorder.handled] == [1]


class _Prompt(FaultyConsumer):
    """A consumer that gives what it is told to at once, and remembers what it is asked."""

    def __init__(self, consumer: Consumer) -> None:
        super().__init__(consumer)
        self.asked: list[str] = []
        self.come: asyncio.Future[list[Delivery]] = asyncio.get_running_loop().create_future()

    async def receive(self, limit: int) -> list[Delivery]:
        self.asked.append("receive")
        deliveries = await self.come
        self.come = asyncio.get_running_loop().create_future()
        return deliveries

    async def settle(self, outcomes: Sequence[tuple[Delivery, Outcome]]) -> None:
        self.asked.append("settle")


async def test_nothing_is_done_before_what_somebody_waits_for() -> None:
    """A report that comes alone is handled in the very turn of the event loop in which it was read,
    before more is asked for, and settled in the one in which its handler has answered."""
    answer = asyncio.get_running_loop().create_future()

    async def handle(delivery: Delivery) -> Outcome:
        consumer.asked.append("handle")
        await answer
        return Ack()

    async with filled_queue() as queue:
        consumer = _Prompt(queue.consumer("workers", "one"))
        async with working(Worker(consumer, handle, CONFIG)) as worker:
            await eventually(lambda: consumer.asked)
            consumer.come.set_result([delivery(report())])
            await asyncio.sleep(0)
            assert consumer.asked == ["receive", "handle"]
            await eventually(lambda: len(consumer.asked) == 3)
            answer.set_result(None)
            await asyncio.sleep(0)
            assert consumer.asked == ["receive", "handle", "receive", "settle"]
            assert worker.metrics.handled == 1


async def test_a_stop_in_the_turn_of_a_read_reads_no_more() -> None:
    """Nobody is reading at that moment, and nobody begins to; what has come is finished."""

    async def handle(delivery: Delivery) -> Outcome:
        for _ in range(5):
            await asyncio.sleep(0)
        return Ack()

    async with filled_queue() as queue:
        consumer = _Prompt(queue.consumer("workers", "one"))
        async with working(Worker(consumer, handle, CONFIG)):
            await eventually(lambda: consumer.asked)
            consumer.come.set_result([delivery(report())])
    assert consumer.asked == ["receive", "settle"]


async def test_what_ends_together_is_settled_together() -> None:
    """Reports that were read at once and take equally long are told the queue in one step: none
    waits until another one is settled."""
    answer = asyncio.Event()

    async def handle(delivery: Delivery) -> Outcome:
        await answer.wait()
        return Ack()

    async with filled_queue(*(report(str(number)) for number in range(3))) as queue:
        consumer = FaultyConsumer(queue.consumer("workers", "one"))
        async with working(Worker(consumer, handle, CONFIG)) as worker:
            await eventually(lambda: worker.metrics.received == 3)
            answer.set()
            await eventually(lambda: worker.metrics.handled == 3)
    assert [len(settlement) for settlement in consumer.settlements] == [3]


async def test_a_handler_cannot_cancel_what_is_settled_after_it() -> None:
    """What it left behind may cancel the task that called it: its own outcome and those of others
    are settled all the same."""
    queue_answers = asyncio.Event()

    class Slow(FaultyConsumer):
        async def settle(self, outcomes: Sequence[tuple[Delivery, Outcome]]) -> None:
            self.settlements.append(list(outcomes))
            await queue_answers.wait()
            await super().settle(outcomes)

    async def handle(delivery: Delivery) -> Outcome:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().call_later(0.001, task.cancel)
        return Ack()

    async with filled_queue(report("a"), report("b")) as queue:
        consumer = Slow(queue.consumer("workers", "one"))
        async with working(Worker(consumer, handle, CONFIG)) as worker:
            await eventually(lambda: len(consumer.settlements) == 2)
            queue_answers.set()
            await eventually(lambda: worker.metrics.handled == 2)
        assert await settled(queue)


async def test_nothing_begins_after_the_end() -> None:
    """A handler that answers when it is cancelled makes room for another call, which is for whoever
    comes next."""
    calls = 0

    async def answer_late(delivery: Delivery) -> Outcome:
        nonlocal calls
        calls += 1
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return Ack()

    config = replace(CONFIG, concurrency=1, drain_timeout=0.01)
    async with filled_queue(report("a"), report("b")) as queue:
        async with working(Worker(queue.consumer("workers", "one"), answer_late, config)):
            await eventually(lambda: calls == 1)
        assert calls == 1
        recorder = Recorder()
        await work_off(queue, recorder)
    assert len(recorder.handled) == 2


class _Interrupted:
    """A handler that makes something else of its cancellation, as drivers of databases do."""

    def __init__(self, failure: Exception) -> None:
        self._failure = failure
        self.started = asyncio.Event()

    async def handle_batch(self, deliveries: Sequence[Delivery]) -> Sequence[Outcome]:
        self.started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as exc:
            raise self._failure from exc
        return [Ack()] * len(deliveries)


@pytest.mark.parametrize(
    "failure", [HandlerUnavailableError("interrupted"), ConnectionError("interrupted")], ids=repr
)
async def test_a_call_that_is_not_cancelled_at_once_is_cancelled_again(
    monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    """Neither the next try nor the next delivery of its batch outlives the worker."""
    monkeypatch.setattr(worker, "CANCEL_AGAIN", 0.001)
    config = replace(CONFIG, drain_timeout=0.01)
    async with filled_queue(*(report(str(number)) for number in range(3))) as queue:
        handler = _Interrupted(failure)
        async with asyncio.timeout(5):
            async with working(Worker(queue.consumer("workers", "one"), handler, config)):
                await handler.started.wait()
        recorder = Recorder()
        await work_off(queue, recorder)
    assert len(recorder.handled) == 3


async def test_what_a_call_raises_at_the_end_is_told() -> None:
    """A failure that nothing mends is not lost because the worker is stopping anyway."""
    config = replace(CONFIG, drain_timeout=0.01)
    async with filled_queue(report()) as queue:
        handler = _Interrupted(WorkerError("cannot go on"))
        with pytest.raises(ExceptionGroup) as raised:
            async with working(Worker(queue.consumer("workers", "one"), handler, config)):
                await handler.started.wait()
    assert raised.group_contains(WorkerError, match="cannot go on")


async def test_all_that_fail_at_once_are_told() -> None:
    """Not the first of them alone."""

    async def fail(delivery: Delivery) -> Outcome:
        raise WorkerError(delivery.message.key)

    async with filled_queue(report("a"), report("b")) as queue:
        with pytest.raises(ExceptionGroup) as raised:
            async with working(Worker(queue.consumer("workers", "one"), fail, CONFIG)):
                await asyncio.Event().wait()
    assert raised.group_contains(WorkerError, match="a")
    assert raised.group_contains(WorkerError, match="b")


async def test_a_call_knows_nothing_of_what_another_has_set() -> None:
    """One begins when another ends, and yet has the context of the worker."""
    setting: ContextVar[str] = ContextVar("setting", default="none")
    seen: list[str] = []

    async def handle(delivery: Delivery) -> Outcome:
        seen.append(setting.get())
        setting.set(delivery.message.key)
        return Ack()

    async with filled_queue(*(report(str(number)) for number in range(5))) as queue:
        setting.set("the worker's")
        await work_off(queue, handle, replace(CONFIG, concurrency=1))
    assert seen == ["the worker's"] * 5
