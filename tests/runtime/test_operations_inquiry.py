"""Asking something that may be away: an answer that does not come is an answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from osmo_runtime.operations import Inquiry
from tests.helpers import eventually

INTERVAL = 2.0


class AwayError(Exception):
    """What is asked is away."""


class Asked:
    """Something that answers as it is told to, and the clock of who asks."""

    def __init__(self) -> None:
        self.now = 100.0
        self.asked = 0
        self.error: Exception | None = None
        self.open = asyncio.Event()
        self.open.set()
        self.inquiry = Inquiry(self._answer, INTERVAL, (AwayError,), lambda: self.now)
        self.told: list[int] = []

    async def _answer(self) -> int:
        self.asked += 1
        await self.open.wait()
        if self.error is not None:
            raise self.error
        return self.asked

    async def again(self) -> None:
        """Let it be asked, and what follows happen."""
        before = self.asked
        await eventually(lambda: self.asked > before)
        await asyncio.sleep(0)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody sleeps between two questions."""

    turn = asyncio.sleep

    async def sleep(_: float) -> None:
        await turn(0)

    monkeypatch.setattr("osmo_runtime.operations.inquiry.asyncio.sleep", sleep)


@asynccontextmanager
async def running(asked: Asked) -> AsyncIterator[None]:
    task = asyncio.create_task(asked.inquiry.run(asked.told.append))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def test_before_the_first_answer_there_is_none() -> None:
    """Whoever has just started is not ready."""
    inquiry = Asked().inquiry
    assert not inquiry.check().ok
    assert inquiry.check().age is None
    assert inquiry.answer is None


@pytest.mark.usefixtures("quick")
async def test_answers_are_told_and_kept() -> None:
    """With their age."""
    asked = Asked()
    async with running(asked):
        await asked.again()
        asked.open.clear()
        await asked.again()
        assert asked.told == list(range(1, asked.asked))
        asked.now += INTERVAL
        assert asked.inquiry.check() == (True, "", INTERVAL)
        assert asked.inquiry.answer == asked.asked - 1


@pytest.mark.usefixtures("quick")
async def test_an_answer_that_does_not_come_is_told_and_ends_it_when_it_comes() -> None:
    """Nobody has to wait for the one who hangs, and nothing is cut off."""
    asked = Asked()
    async with running(asked):
        await asked.again()
        asked.open.clear()
        await asked.again()
        asked.now += INTERVAL + 0.5
        check = asked.inquiry.check()
        assert (check.ok, check.age) == (False, INTERVAL + 0.5)
        assert check.reason == "has not answered for 2.5 s"
        assert asked.inquiry.answer is None
        asked.open.set()
        await eventually(lambda: asked.inquiry.check().ok)


@pytest.mark.usefixtures("quick")
async def test_what_is_away_is_told_with_its_reason() -> None:
    """Until the first answer."""
    asked = Asked()
    async with running(asked):
        await asked.again()
        asked.error = AwayError("refused")
        await eventually(lambda: not asked.inquiry.check().ok)
        assert asked.inquiry.check().reason == "refused"
        assert asked.inquiry.answer is None
        asked.error = None
        await eventually(lambda: asked.inquiry.check().ok)


@pytest.mark.usefixtures("quick")
async def test_what_no_waiting_mends_ends_it() -> None:
    """As a store that is of another version."""
    asked = Asked()
    asked.error = LookupError("not ours")
    with pytest.raises(LookupError):
        await asked.inquiry.run()
