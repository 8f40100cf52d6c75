"""The worker's loop while the queue or the handler's own store is away, or it is cancelled."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from osmo_transport import Ack, BackoffConfig, Delivery, Outcome, open_queue
from osmo_worker import HandlerUnavailableError, StoreRefusedError, Worker
from tests.helpers import eventually
from tests.worker.harness import (
    CONFIG,
    QUEUE,
    FaultyConsumer,
    Recorder,
    append,
    event,
    filled_queue,
    report,
    settled,
    until,
    work_off,
    working,
)


async def test_a_queue_that_is_away_is_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    """Reading goes on when it is back, and nothing is lost or handled twice."""
    async with filled_queue(report("a"), report("b")) as queue:
        consumer = FaultyConsumer(queue.consumer("workers", "one"))
        consumer.failing_receives = 3
        recorder = Recorder()
        worker = Worker(consumer, recorder, CONFIG)
        async with working(worker):
            await eventually(lambda: worker.metrics.handled == 2)
            assert worker.metrics.holding is None
    assert len(recorder.handled) == 2
    assert caplog.messages[0].startswith("waits until this is over: ")


async def test_a_settlement_is_repeated_with_the_same_outcomes() -> None:
    """What the handler has done is not done again because the queue was away."""
    async with filled_queue(report("a"), report("b")) as queue:
        consumer = FaultyConsumer(queue.consumer("workers", "one"))
        consumer.failing_settles = 3
        recorder = Recorder()
        worker = Worker(consumer, recorder, CONFIG)
        async with working(worker):
            await eventually(lambda: worker.metrics.handled == 2)
        assert await settled(queue)
    assert len(recorder.handled) == 2
    assert consumer.settlements[:4] == [consumer.settlements[0]] * 4


async def test_an_outage_of_the_handler_uses_up_no_attempts() -> None:
    """The same deliveries are handled again, at their first attempt, as often as it takes."""
    attempts: list[int] = []
    tries = 4 * QUEUE.max_attempts

    class Away:
        async def handle_batch(self, deliveries: Sequence[Delivery]) -> Sequence[Outcome]:
            attempts.extend(item.attempt for item in deliveries)
            if len(attempts) < tries:
                raise HandlerUnavailableError("the store is away")
            return [Ack()] * len(deliveries)

    async with filled_queue(report()) as queue:
        await work_off(queue, Away())
        assert await queue.dead_letters(10) == []
    assert attempts == [1] * tries


async def test_an_outage_of_the_handler_stops_the_reading(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A worker that cannot handle leaves the messages to those who can, and says why it waits."""
    away = True

    async def handle(delivery: Delivery) -> Outcome:
        if away:
            raise HandlerUnavailableError("the store is away")
        return Ack()

    async with filled_queue(report("first")) as queue:
        worker = Worker(queue.consumer("workers", "one"), handle, CONFIG)
        async with working(worker):
            await eventually(lambda: worker.metrics.holding)
            assert worker.metrics.holding == "the store is away"
            # The read that was waiting already may still bring what comes now; the next may not.
            for number in range(10):
                await append(queue, [report(str(number))])
                await asyncio.sleep(0.002)
            assert worker.metrics.received <= 2
            away = False
            await eventually(lambda: worker.metrics.handled == 11)
            assert worker.metrics.holding is None
    assert caplog.messages[0] == "holds 1 delivery until this is over: the store is away"


async def test_an_error_that_waiting_does_not_mend_ends_the_worker() -> None:
    """It is told, and what was in hand is given back unharmed."""

    async def handle(delivery: Delivery) -> Outcome:
        raise StoreRefusedError("a database of another version")

    async with filled_queue(report()) as queue:
        worker = Worker(queue.consumer("workers", "one"), handle, CONFIG)
        with pytest.raises(ExceptionGroup) as caught:
            await worker.run(asyncio.Event())
        assert caught.group_contains(StoreRefusedError, match="another version")
        recorder = Recorder()
        await work_off(queue, recorder)
    assert [item.attempt for item in recorder.handled] == [1]


async def test_a_stop_during_an_outage_gives_back_what_is_in_hand() -> None:
    """Draining ends in time also when nothing can be handled."""

    async def handle(delivery: Delivery) -> Outcome:
        raise HandlerUnavailableError("away")

    config = replace(CONFIG, drain_timeout=0.01)
    async with filled_queue(report()) as queue:
        worker = Worker(queue.consumer("workers", "one"), handle, config)
        async with working(worker):
            await eventually(lambda: worker.metrics.holding)
        recorder = Recorder()
        await work_off(queue, recorder)
    assert [item.attempt for item in recorder.handled] == [1]


async def _cancel_at(step: int) -> bool:
    """Run a worker and cancel it after `step` turns of the loop; whether it was still at work.

    Checks that every message was handled in the end, by it or by its successor.
    """
    async with await open_queue("memory://", QUEUE) as queue:
        await append(queue, [event(f"pod-{n % 3}", str(n)) for n in range(12)])
        recorder = Recorder()

        async def handle(delivery: Delivery) -> Outcome:
            await asyncio.sleep(0)
            return await recorder(delivery)

        config = replace(CONFIG, read_limit=4, max_in_flight=8, backoff=BackoffConfig(base=0.0))
        consumer = FaultyConsumer(queue.consumer("workers", "one"))
        consumer.failing_settles = 1
        running = asyncio.create_task(Worker(consumer, handle, config).run(asyncio.Event()))
        for _ in range(step):
            await asyncio.sleep(0)
        unfinished = not await settled(queue)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert consumer.closed
        await work_off(queue, recorder)
        assert set(recorder.payloads) == {str(n) for n in range(12)}
        assert await queue.dead_letters(1) == []
        return unfinished


async def test_a_worker_cancelled_at_any_moment_loses_nothing() -> None:
    """Whatever it was waiting for, its successor gets what it had not settled."""
    step = 1
    while await _cancel_at(step):
        step += 1
    assert step > 5


async def test_a_killed_workers_deliveries_go_to_another() -> None:
    """A worker that vanishes without a word: another one has its messages when the leases end."""
    config = replace(QUEUE, lease=0.05, claim_interval=0.01)
    async with filled_queue(report("a"), report("b"), config=config) as queue:
        vanished = queue.consumer("workers", "one")
        assert len(await vanished.receive(10)) == 2
        del vanished
        recorder = Recorder()
        worker = Worker(queue.consumer("workers", "two"), recorder, CONFIG)
        async with working(worker):
            await until(lambda: settled(queue))
    assert [item.attempt for item in recorder.handled] == [2, 2]


async def test_every_new_reason_to_hold_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """Once each: what was mended may uncover what else is wrong."""
    reasons = ["no route", "no route", "read-only", "read-only", "no route", "disk full"]

    async def handle(delivery: Delivery) -> Outcome:
        if reasons:
            raise HandlerUnavailableError(reasons.pop(0))
        return Ack()

    async with filled_queue(report()) as queue:
        await work_off(queue, handle)
    assert [message.rpartition(": ")[2] for message in caplog.messages] == [
        *("no route", "read-only", "no route", "disk full")
    ]


async def test_two_reasons_at_a_time_are_told_once_each(caplog: pytest.LogCaptureFixture) -> None:
    """And the one that is left is shown when the other is over."""
    away, tries = {"a": True, "b": True}, 0

    async def handle(delivery: Delivery) -> Outcome:
        nonlocal tries
        task = delivery.message.key.split("/")[1]
        tries += 1
        if away[task]:
            raise HandlerUnavailableError(f"{task} is away")
        return Ack()

    async with filled_queue(report("a"), report("b")) as queue:
        worker = Worker(queue.consumer("workers", "one"), handle, CONFIG)
        async with working(worker):
            await eventually(lambda: tries > 10)
            assert sorted(message.rpartition(": ")[2] for message in caplog.messages) == [
                *("a is away", "b is away")
            ]
            away["b"] = False
            await eventually(lambda: worker.metrics.handled == 1)
            assert worker.metrics.holding == "a is away"
            away["a"] = False
            await eventually(lambda: worker.metrics.handled == 2)
            assert worker.metrics.holding is None
