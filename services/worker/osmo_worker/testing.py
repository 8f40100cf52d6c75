"""Public test tools: what a worker would do with a queue, done at once and told."""

from collections.abc import Sequence
from typing import NamedTuple

from osmo_transport import Delivery, Outcome, Queue, Retry
from osmo_transport.testing.patience import PATIENCE, describe_queue, patience
from osmo_worker.handler import BatchHandler, GuardedHandler, Handler
from osmo_worker.inbox import Inbox

READ_LIMIT = 1000
"""Deliveries that are read at a time, as by a worker where nothing else is set."""


class Handled(NamedTuple):
    """What a handler made of one delivery."""

    delivery: Delivery
    outcome: Outcome
    superseded: Sequence[Delivery] = ()
    """Older deliveries of the same key, of a kind registered as `Policy.LATEST`, that were read
    with it: the handler never sees them, and they share its outcome."""


async def drain(
    queue: Queue,
    handler: Handler | BatchHandler,
    *,
    group: str = "workers",
    within: float = PATIENCE,
) -> list[Handled]:
    """Hand everything that is in `queue` to `handler`, as a worker would, and return what became of
    it, in the order in which it was handled::

        await publish(queue, [message], backend="backend")
        (handled,) = await drain(queue, handler)
        assert handled.outcome == Ack()

    One delivery is handled after the other; a batch handler is given all that were read. What the
    handler raises counts as `Retry`, and a `BodyError` as `Reject`, as in a worker. What is to be
    retried is handled once, and stays in the queue for its next try; a later call has it when its
    time has come. Of a kind that is registered as `Policy.LATEST` only the newest report of each
    key is handled, see `Handled.superseded`.

    Args:
        queue: what to empty.
        handler: a handler, as a worker takes it.
        group: the queue's consumer group.
        within: seconds that it may take.

    Raises:
        AssertionError: it took longer, as while another consumer has something in hand; the text
            says what the queue holds and how much was handled.
        WorkerError: the handler raised it, as `HandlerUnavailableError`; a worker would wait. What
            it was given goes back to the queue.
        TransportError: the queue cannot be used.
    """
    __tracebackhide__ = True
    guarded = GuardedHandler(handler, within)
    done: list[Handled] = []

    async def stands() -> str:
        return f"{len(done)} deliveries were handled, and {describe_queue(await queue.status())}"

    async with (
        patience(within, "the queue to be empty", stands),
        queue.consumer(group, "drain") as consumer,
    ):
        while await _is_left(queue, done):
            handled = await _handle(guarded, await consumer.receive(READ_LIMIT))
            await consumer.settle(
                [
                    (delivery, each.outcome)
                    for each in handled
                    for delivery in (each.delivery, *each.superseded)
                ]
            )
            done += handled
    return done


async def _is_left(queue: Queue, done: Sequence[Handled]) -> bool:
    """Whether the queue holds anything but what waits for its next try."""
    last = {
        delivery.id: each.outcome for each in done for delivery in (each.delivery, *each.superseded)
    }
    retried = sum(isinstance(outcome, Retry) for outcome in last.values())
    status = await queue.status()
    return sum(status.waiting.values()) > 0 or sum(status.pending.values()) > retried


async def _handle(handler: GuardedHandler, deliveries: Sequence[Delivery]) -> list[Handled]:
    """What becomes of what was read at a time."""
    inbox = Inbox()
    inbox.add(deliveries)
    handled: list[Handled] = []
    while inbox.ready:
        works = inbox.take(READ_LIMIT if handler.takes_batches else 1)
        outcomes = await handler.outcomes([work.delivery for work in works])
        inbox.done(works)
        handled += [
            Handled(work.delivery, outcome, tuple(work.superseded or ()))
            for work, outcome in zip(works, outcomes, strict=True)
        ]
    return handled
