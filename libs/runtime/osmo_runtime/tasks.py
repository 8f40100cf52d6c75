"""Tasks that run beside something else, and end with it."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any


@asynccontextmanager
async def beside(works: Iterable[Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Let `works` run until the context is left, which cancels them.

    It is asyncio's group, as what a listener starts with needs none of anyio's, whose first use
    takes 9 % of the CPU of that start. So each work is cancelled once, and a work that fails
    cancels the context even where a scope of anyio shields it.

    Raises:
        ExceptionGroup: what a work or the context raised, which ends the others.
    """
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(work) for work in works]
        yield
        for task in running:
            task.cancel()
