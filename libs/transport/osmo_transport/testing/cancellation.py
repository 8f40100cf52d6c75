"""Cancel a coroutine at its k-th suspension, to find out what a cancellation leaves behind."""

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class CancelAt(Generic[T]):
    """Awaits `coroutine`; the running task is cancelled when it suspends for the k-th time.

    `reached` tells afterwards whether there was a k-th time: a sweep raises k until there is none.
    """

    def __init__(self, k: int, coroutine: Coroutine[Any, Any, T]) -> None:
        self._k = k
        self._coroutine = coroutine
        self.reached = False

    def __await__(self) -> Generator[Any, Any, T]:
        coroutine = self._coroutine
        count = 0
        failure: BaseException | None = None
        while True:
            try:
                future = coroutine.send(None) if failure is None else coroutine.throw(failure)
            except StopIteration as stop:
                result: T = stop.value
                return result
            count += 1
            if count == self._k:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
                self.reached = True
            try:
                yield future
                failure = None
            except BaseException as exc:  # noqa: BLE001
                failure = exc


async def cancel_at(k: int, coroutine: Coroutine[Any, Any, object]) -> bool:
    """Run `coroutine` in a task of its own that is cancelled at the k-th suspension.

    Returns whether it came to that; otherwise the coroutine has ended by itself.
    """
    cut = CancelAt(k, coroutine)

    async def run() -> None:
        await cut

    task = asyncio.create_task(run())
    try:
        await task
    except asyncio.CancelledError:
        if not task.cancelled():
            raise
    return cut.reached
