"""What the state store needs from time to time, whether reports come or not."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NoReturn, Protocol

from osmo_worker.errors import HandlerUnavailableError
from osmo_worker.metrics import WorkerMetrics


class Store(Protocol):
    """What is kept in order."""

    async def check(self) -> None:
        """Return when the database answers.

        Raises:
            HandlerUnavailableError: it does not answer.
        """
        ...

    async def sweep(self) -> None:
        """Do what has become due.

        Raises:
            HandlerUnavailableError: the database does not answer.
        """
        ...


async def keep_house(
    store: Store,
    metrics: WorkerMetrics,
    interval: float,
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> NoReturn:
    """Sweep the store every `interval` seconds, for the first time when that much has passed.

    Not while the worker holds, nor in the first interval after it or the database was away: the
    reports that waited meanwhile may say that a task has started long ago.

    Args:
        store: what is kept in order.
        metrics: of the worker.
        interval: seconds between two sweeps.
        sleep: waits for seconds.
    """
    caught_up = True
    while True:
        await sleep(interval)
        try:
            if metrics.holding is not None:
                caught_up = False
            elif caught_up:
                await store.sweep()
            else:
                await store.check()
                caught_up = True
        except HandlerUnavailableError:
            # The worker says so, and the same again would tell nobody anything.
            caught_up = False
