"""Asking something that may be away how it is, again and again.

An answer that does not come is an answer: nothing is cut off for it, and it may still come.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Generic, NoReturn, TypeVar

from osmo_runtime.operations.health import Check

T = TypeVar("T")

_log = logging.getLogger(__name__)


class Inquiry(Generic[T]):
    """One question, asked each `interval` seconds, for a check of whether there are answers.

    Args:
        ask: the question.
        interval: seconds between two of them, and how long one may take.
        unavailable: what `ask` raises while nobody answers.
        clock: seconds that only rise.
    """

    def __init__(
        self,
        ask: Callable[[], Awaitable[T]],
        interval: float,
        unavailable: tuple[type[Exception], ...],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask = ask
        self._interval = interval
        self._unavailable = unavailable
        self._clock = clock
        self._asked_at: float | None = None
        self._answered_at: float | None = None
        self._failure = ""
        self._answer: T | None = None

    @property
    def answer(self) -> T | None:
        """The last answer; None while there is none, be it that none came yet, that the last
        question failed, or that it takes too long."""
        return self._answer if self.check().ok else None

    def check(self) -> Check:
        """Whether the last question was answered, and the present one is not late."""
        now = self._clock()
        age = None if self._answered_at is None else now - self._answered_at
        if self._asked_at is not None and (waited := now - self._asked_at) > self._interval:
            return Check(ok=False, reason=f"has not answered for {waited:.1f} s", age=age)
        if self._failure:
            return Check(ok=False, reason=self._failure, age=age)
        if age is None:
            return Check(ok=False, reason="has not answered yet")
        return Check(ok=True, age=age)

    async def run(self, answered: Callable[[T], None] = lambda _: None) -> NoReturn:
        """Ask for ever; `answered` is told each answer.

        Raises: what `ask` does, if that is not one of `unavailable`.
        """
        while True:
            self._asked_at = self._clock()
            try:
                self._answer = answer = await self._ask()
            except self._unavailable as exc:
                # Who needs an answer says so, and the same again would tell nobody anything.
                _log.debug("no answer: %s", exc)
                self._failure = str(exc)
            else:
                self._failure = ""
                self._answered_at = self._clock()
                answered(answer)
            self._asked_at = None
            await asyncio.sleep(self._interval)
