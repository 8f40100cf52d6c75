"""Finding handlers, and what becomes of each of their calls."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from osmo_reports.errors import BodyError
from osmo_transport import (
    Ack,
    Delivery,
    Outcome,
    Reject,
    Retry,
)
from osmo_worker import HandlerNotFoundError, HandlerUnavailableError, load_handler
from osmo_worker.handler import GuardedHandler
from tests.model.virtual import VirtualLoop
from tests.worker.harness import Recorder, delivery, report


async def acknowledge(delivery: Delivery) -> Outcome:
    """A handler for `load_handler` to find."""
    return Ack()


def not_async(delivery: Delivery) -> Outcome:
    """Not a handler."""
    return Ack()


class Batches:
    """A batch handler that answers with what it was made with."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.sizes: list[int] = []

    async def handle_batch(self, deliveries: Sequence[Delivery]) -> Sequence[Outcome]:
        self.sizes.append(len(deliveries))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[return-value]  # wrong answers are the point


recorder = Recorder()
batches = Batches()


def test_a_handler_is_found_by_module_and_attribute() -> None:
    """A function, an object that can be called, and an object with handle_batch."""
    assert load_handler(f"{__name__}:acknowledge") is acknowledge
    assert load_handler(f"{__name__}:recorder") is recorder
    assert load_handler(f"{__name__}:batches") is batches


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no_colon", "module:attribute"),
        (":x", "module:attribute"),
        ("no.such.module:x", "No module named"),
        (f"{__name__}:missing", "missing"),
        (f"{__name__}:not_async", "async callable"),
        (f"{__name__}:Batches", "async callable"),
        (f"{__name__}:recorder.handled", "async callable"),
    ],
)
def test_what_is_no_handler_is_refused_by_name(name: str, reason: str) -> None:
    """The error names the setting and says what it must be."""
    with pytest.raises(HandlerNotFoundError, match=reason) as caught:
        load_handler(name)
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize(
    ("source", "reason"),
    [("1 / 0", "ZeroDivisionError: division by zero"), ("def (", "SyntaxError: invalid syntax")],
)
def test_a_module_that_raises_while_it_is_imported_is_refused(
    source: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the handler and what its module raised."""
    (tmp_path / "broken_handlers.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(HandlerNotFoundError, match=f"'broken_handlers:handle'.*{reason}"):
        load_handler("broken_handlers:handle")


async def _outcome(handler: object, timeout: float = 5.0) -> Outcome:
    guarded = GuardedHandler(handler, timeout)  # type: ignore[arg-type]  # wrong ones on purpose
    (outcome,) = await guarded.outcomes([delivery(report())])
    return outcome


async def test_an_outcome_is_passed_on_as_it_is() -> None:
    """What the handler answers is what happens."""

    async def handle(delivery: Delivery) -> Outcome:
        return Retry("later", 7.0)

    assert await _outcome(handle) == Retry("later", 7.0)


async def test_a_handler_that_raises_is_retried_with_the_reason() -> None:
    """The reason names the handler and the error, and no secret: a dead letter keeps it."""

    async def handle(delivery: Delivery) -> Outcome:
        raise KeyError("node", "http://u:sesame@host")

    outcome = await _outcome(handle)
    assert isinstance(outcome, Retry)
    assert "handle raised KeyError: ('node', 'http://u:****@host')" in outcome.reason


async def test_a_handler_that_hangs_is_retried_with_the_reason() -> None:
    """A call that does not end is ended."""

    async def handle(delivery: Delivery) -> Outcome:
        await asyncio.Event().wait()
        return Ack()

    outcome = await _outcome(handle, timeout=0.01)
    assert isinstance(outcome, Retry)
    assert "did not answer within 0.01 s" in outcome.reason


def test_each_call_has_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that begins while another hangs has as long as that one had, and ends as well."""
    ended: list[float] = []

    async def handle(delivery: Delivery) -> Outcome:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(loop.time() - begun)
        return Ack()

    async def begin_two(guarded: GuardedHandler) -> None:
        async with asyncio.TaskGroup() as calls:
            for _ in range(2):
                calls.create_task(guarded.outcomes([delivery(report())]))
                await asyncio.sleep(0.5)  # of the loop's time, which passes without waiting

    guarded = GuardedHandler(handler=handle, timeout=1.0)
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        clock = SimpleNamespace(monotonic=runner.get_loop().time)
        monkeypatch.setattr("osmo_worker.handler.time", clock)
        runner.run(begin_two(guarded))
    assert ended == [1.0, 1.0]
    assert guarded.calls == 2
    assert not guarded.overdue


async def test_an_answer_that_comes_late_all_the_same_counts() -> None:
    """A handler that brings to its end what it was doing when its time was over has done it, and
    its task may go on."""

    async def handle(delivery: Delivery) -> Outcome:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return Ack()

    assert await _outcome(handle, timeout=0.01) == Ack()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_timeout_of_the_handlers_own_is_its_exception() -> None:
    """A TimeoutError from inside is told apart from a handler that hangs."""

    async def handle(delivery: Delivery) -> Outcome:
        raise TimeoutError("the other service")

    outcome = await _outcome(handle)
    assert isinstance(outcome, Retry)
    assert "raised TimeoutError: the other service" in outcome.reason


@pytest.mark.parametrize(
    "answer",
    [
        None,
        True,
        "ack",
        Ack,
        Retry("busy", after="5"),  # type: ignore[arg-type]  # wrong answers are the point
        Retry("busy", after=float("nan")),
        Retry("busy", after=float("inf")),
        Retry("busy", after=-1.0),
        Retry(None),  # type: ignore[arg-type]
        Reject(ValueError("no")),  # type: ignore[arg-type]
    ],
)
async def test_a_wrong_answer_is_told(answer: object) -> None:
    """A handler that forgets to return an outcome reads so in the dead letter."""

    async def handle(delivery: Delivery) -> object:
        return answer

    outcome = await _outcome(handle)
    assert isinstance(outcome, Retry)
    assert f"not {answer!r}" in outcome.reason


async def test_a_payload_that_cannot_be_decoded_is_rejected() -> None:
    """Trying again does not mend a payload."""

    async def handle(delivery: Delivery) -> Outcome:
        raise BodyError("payload of kind 'update_pod' cannot be decoded")

    assert await _outcome(handle) == Reject("payload of kind 'update_pod' cannot be decoded")


async def test_unavailable_is_passed_on() -> None:
    """The worker waits and calls again; no outcome is made up."""

    async def handle(delivery: Delivery) -> Outcome:
        raise HandlerUnavailableError("away")

    with pytest.raises(HandlerUnavailableError):
        await _outcome(handle)


async def test_cancelling_is_passed_on() -> None:
    """A worker that is cancelled gives back what it has, and settles nothing."""

    async def handle(delivery: Delivery) -> Outcome:
        await asyncio.Event().wait()
        return Ack()

    call = asyncio.create_task(_outcome(handle))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_a_handler_that_was_cancelled_by_its_own_doing_is_retried() -> None:
    """What it waited for was cancelled, the worker was not: its report must not be forgotten."""

    async def handle(delivery: Delivery) -> Outcome:
        inner = asyncio.ensure_future(asyncio.sleep(60))
        inner.cancel()
        await inner
        return Ack()

    outcome = await _outcome(handle)
    assert isinstance(outcome, Retry)
    assert "handle raised CancelledError" in outcome.reason


async def test_a_batch_that_raises_is_handled_one_by_one() -> None:
    """One delivery's fault uses up the attempts of no other."""
    handler = Batches(ValueError("one of you"), [Ack()], ValueError("me"), [Reject("no")])
    deliveries = [delivery(report(str(number))) for number in range(3)]
    outcomes = await GuardedHandler(handler, 5.0).outcomes(deliveries)
    assert handler.sizes == [3, 1, 1, 1]
    assert [type(outcome) for outcome in outcomes] == [Ack, Retry, Reject]


@pytest.mark.parametrize("answer", [[Ack()], None, [Ack()] * 3, "ab"])
async def test_a_batch_handler_that_answers_wrongly_is_told(answer: object) -> None:
    """Too few, too many or no outcomes settle nothing by accident."""
    handler = Batches(answer, [None], [Ack()])
    deliveries = [delivery(report(str(number))) for number in range(2)]
    outcomes = await GuardedHandler(handler, 5.0).outcomes(deliveries)
    assert isinstance(outcomes[0], Retry)
    assert outcomes[1] == Ack()
