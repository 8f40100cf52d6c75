"""`drain` does with a queue what a worker would, and tells it."""

import pytest

from osmo_reports.errors import BodyError
from osmo_transport import Ack, Delivery, Outcome, Queue, QueueConfig, Reject, Retry, publish
from osmo_transport.testing.plugin import QueueUnderTest
from osmo_worker import HandlerUnavailableError
from osmo_worker.store import open_store
from osmo_worker.testing import drain
from tests.worker.harness import report

BRIEF = QueueConfig(retry_base=0.01, max_attempts=2)


def keys(deliveries: list[Delivery]) -> list[str]:
    """Of their messages."""
    return [delivery.message.key for delivery in deliveries]


class Seen:
    """A handler that answers by key, and keeps what it was given."""

    def __init__(self, **answers: Outcome | Exception) -> None:
        self.answers = answers
        self.deliveries: list[Delivery] = []

    async def __call__(self, delivery: Delivery) -> Outcome:
        self.deliveries.append(delivery)
        answer = self.answers.get(delivery.message.key.split("/")[1], Ack())
        if isinstance(answer, Exception):
            raise answer
        return answer


async def put(queue: Queue, *tasks: str) -> None:
    """Reports of tasks, each newer than the one before."""
    messages = [report(task, version=(1, number)) for number, task in enumerate(tasks, 1)]
    await publish(queue, messages, backend="backend")


async def test_everything_is_handled_once(osmo_queue: QueueUnderTest) -> None:
    """Over each queue, in order; nothing is left, and an empty queue takes no time."""
    async with osmo_queue.open() as queue:
        assert await drain(queue, Seen()) == []
        await put(queue, "a", "b")
        handler = Seen()
        handled = await drain(queue, handler)
        assert [each.delivery for each in handled] == handler.deliveries
        assert keys(handler.deliveries) == ["flow/a/0", "flow/b/0"]
        assert [each.outcome for each in handled] == [Ack(), Ack()]
        status = await queue.status()
        assert not any((*status.waiting.values(), *status.pending.values()))


async def test_what_is_superseded_is_told() -> None:
    """Of two reports of one key the handler sees the newer one, and both are settled."""
    async with QueueUnderTest("memory", "memory://superseded").open() as queue:
        await put(queue, "a", "b", "a")
        handler = Seen()
        first, second = await drain(queue, handler)
        assert keys(handler.deliveries) == ["flow/a/0", "flow/b/0"]
        assert first.delivery.message.version.revision == 3
        assert [each.message.version.revision for each in first.superseded] == [1]
        assert second.superseded == ()


async def test_each_outcome_is_carried_out() -> None:
    """What raises is retried, later; what cannot be read is rejected."""
    async with QueueUnderTest("memory", "memory://outcomes").open(BRIEF) as queue:
        await put(queue, "good", "broken", "unreadable", "bad")
        handler = Seen(broken=RuntimeError("no"), unreadable=BodyError("what"), bad=Reject("never"))
        outcomes = [each.outcome for each in await drain(queue, handler)]
        assert outcomes[0] == Ack()
        assert isinstance(outcomes[1], Retry)
        assert "RuntimeError: no" in outcomes[1].reason
        assert outcomes[2:] == [Reject("what"), Reject("never")]
        assert [letter.reason for letter in await queue.dead_letters(10)] == ["what", "never"]
        handler.answers.clear()
        (again,) = await drain(queue, handler)
        assert (again.delivery.attempt, again.outcome) == (2, Ack())


async def test_a_batch_handler_is_given_what_was_read() -> None:
    """As the state store, whose rows are there then."""
    async with (
        QueueUnderTest("memory", "memory://batches").open() as queue,
        open_store("memory://") as store,
    ):
        await put(queue, "a", "b")
        assert [each.outcome for each in await drain(queue, store)] == [Ack(), Ack()]
        assert [task.task_uuid for task in await store.tasks()] == ["a", "b"]


async def test_a_handler_that_is_not_available_ends_it() -> None:
    """With its own error, and the queue has everything again."""
    async with QueueUnderTest("memory", "memory://unavailable").open() as queue:
        await put(queue, "a")
        with pytest.raises(HandlerUnavailableError, match="away"):
            await drain(queue, Seen(a=HandlerUnavailableError("away")))
        ((delivery, *_),) = await drain(queue, Seen())
        assert delivery.attempt == 1


async def test_what_another_consumer_has_is_waited_for_in_vain() -> None:
    """And told."""
    async with QueueUnderTest("memory", "memory://other").open() as queue:
        await put(queue, "a", "b")
        async with queue.consumer("workers", "other") as other:
            await other.receive(1)
            with pytest.raises(AssertionError) as failure:
                await drain(queue, Seen(), within=0.2)
    text = str(failure.value)
    assert "waited 0.2 s for the queue to be empty: 1 deliveries were handled" in text
    assert "0 entries that no consumer was given, 1 that one has" in text
