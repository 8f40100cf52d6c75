"""What the state store needs from time to time, whether reports come or not."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import NoReturn, Protocol

from osmo_transport import Queue, QueueUnavailableError
from osmo_worker.errors import HandlerUnavailableError
from osmo_worker.metrics import WorkerMetrics

_log = logging.getLogger(__name__)


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

    async def silences(self) -> dict[str, float]:
        """By backend, seconds since its last heartbeat.

        Raises:
            HandlerUnavailableError: the database does not answer.
        """
        ...


class Remembering(Protocol):
    """What remembers the epochs of listeners."""

    async def epochs(self) -> Mapping[str, int]:
        """By backend, the highest epoch that its rows have.

        Raises:
            HandlerUnavailableError: the database does not answer.
        """
        ...


async def tell_epochs(
    store: Remembering,
    queue: Queue,
    interval: float,
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> NoReturn:
    """Tell the queue which epochs the rows have, now and whenever it has lost its memory: what a
    listener then reports is newer than they are, also where a clock was ahead that gave them.

    Args:
        store: what has the rows.
        queue: which hands out the epochs.
        interval: seconds between two looks at the queue.
        sleep: waits for seconds.
    """
    told = ""
    while True:
        try:
            queue_epoch = (await queue.status()).queue_epoch
            if queue_epoch != told:
                await queue.raise_epochs(await store.epochs())
                told = queue_epoch
        except (HandlerUnavailableError, QueueUnavailableError) as exc:
            _log.debug("the epochs of the rows are not told yet: %s", exc)
        await sleep(interval)


async def keep_house(
    store: Store,
    metrics: WorkerMetrics,
    interval: float,
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> NoReturn:
    """Sweep the store every `interval` seconds, for the first time when that much has passed, and
    look which backends are silent.

    Not while the worker holds, nor in the first interval after it or the database was away: the
    reports that waited meanwhile may say that a task has started long ago.

    Args:
        store: what is kept in order.
        metrics: of the worker; given the silences, and none while they say nothing.
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
                metrics.silences = await store.silences()
            else:
                await store.check()
                caught_up = True
        except HandlerUnavailableError:
            # The worker says so, and the same again would tell nobody anything.
            caught_up = False
        if not caught_up:
            metrics.silences = None
