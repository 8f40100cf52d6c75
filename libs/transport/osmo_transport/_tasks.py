"""Tasks that an object owns: how they end, and how they let others run."""

import asyncio
import logging
from collections.abc import Generator, Iterable
from types import coroutine
from typing import Any


async def end(*tasks: "asyncio.Task[Any] | None") -> None:
    """Cancel tasks and wait until they have ended, however often the caller is cancelled meanwhile.
    What they raise is left to be asked for."""
    wanted = [task for task in tasks if task is not None]
    for task in wanted:
        task.cancel()
    await ended(wanted)


async def ended(tasks: "Iterable[asyncio.Task[Any]]") -> None:
    """Wait until tasks have ended, however often the caller is cancelled meanwhile."""
    cancelled = False
    import anyio  # noqa: PLC0415  (no program starts by ending a task)

    # A cancel scope of anyio cancels at every await until it is left, asyncio once for each call.
    with anyio.CancelScope(shield=True):
        while waiting := [task for task in tasks if not task.done()]:
            try:
                await asyncio.wait(waiting)
            except asyncio.CancelledError:
                cancelled = True
    if cancelled:
        raise asyncio.CancelledError


def log_defect(task: "asyncio.Task[Any]", logger: logging.Logger, what: str) -> None:
    """Log what a task raised, with its traceback; for tasks that must not raise."""
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("%s: a defect of this program", what, exc_info=error)


@coroutine
def turn() -> Generator[None, None, None]:
    """Give the event loop a turn, as `asyncio.sleep(0)` does, in two calls less: it is part of each
    round trip within one process, of which that is 2 %."""
    yield
