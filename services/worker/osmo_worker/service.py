"""The worker service: the wiring, from configuration to drain."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio

from osmo_runtime.queues import queue_url, with_all_streams
from osmo_runtime.startup import once_there, warn_of_caveats
from osmo_transport import Queue, QueueUnavailableError, open_queue
from osmo_worker.config import WorkerConfig
from osmo_worker.errors import HandlerUnavailableError
from osmo_worker.handler import BatchHandler, Handler, load_handler, load_handlers
from osmo_worker.housekeeping import keep_house, tell_epochs
from osmo_worker.metrics import WorkerMetrics
from osmo_worker.worker import Worker

logger = logging.getLogger(__name__)

Chore = Callable[[Queue], Coroutine[Any, Any, None]]
"""Runs beside a worker of the queue until it is cancelled."""

_ABSENT = (HandlerUnavailableError, QueueUnavailableError)


async def run_worker(
    config: WorkerConfig,
    stop: asyncio.Event,
    ready: Callable[[], None],
    *,
    metrics: WorkerMetrics | None = None,
) -> None:
    """Work until `stop` is set, then finish what is in hand, within `drain_timeout`.

    `ready` is called once, when the queue and the store have answered. `metrics` is filled while
    the worker runs.

    Raises:
        UsageError: the configuration does not work (an unknown scheme, a handler that cannot be
            imported, a database that is not ours); the text says what to change.
        QueueRefusedError: the queue could lose messages; the text says what to change.
        ExceptionGroup: of the same, found out while it worked.
    """
    metrics = metrics or WorkerMetrics()
    others = load_handlers() if config.handler is None else {}
    limits = with_all_streams(config.limits)
    async with _open_handler(config, stop, metrics) as (handler, chores):
        queue = await once_there(
            lambda: open_queue(queue_url(config.queue, config.layout), limits),
            _ABSENT,
            config.backoff,
            stop,
        )
        if queue is None:
            return
        warn_of_caveats(queue)
        async with queue:
            consumer = queue.consumer(config.group, config.name)
            ready()
            async with anyio.create_task_group() as beside:
                for chore in chores:
                    beside.start_soon(chore, queue)
                worker = Worker(consumer, handler, config, others=others, metrics=metrics)
                await worker.run(stop)
                beside.cancel_scope.cancel()
        logger.info("stopped after %d deliveries", metrics.received)


@asynccontextmanager
async def _open_handler(
    config: WorkerConfig, stop: asyncio.Event, metrics: WorkerMetrics
) -> AsyncIterator[tuple[Handler | BatchHandler, Sequence[Chore]]]:
    """The handler, and what has to run beside the worker for it."""
    if config.handler is not None:
        yield load_handler(config.handler), ()
        return
    # A worker with its own handler needs no database driver.
    from osmo_worker.store import open_store  # noqa: PLC0415

    async with open_store(config.store, config.store_limits, metrics=metrics) as store:
        await once_there(store.check, _ABSENT, config.backoff, stop)
        limits = config.store_limits

        async def sweep(_: Queue) -> None:
            await keep_house(store, metrics, limits.housekeeping_interval)

        async def remember(queue: Queue) -> None:
            await tell_epochs(store, queue, limits.epochs_interval)

        yield store, (sweep, remember)
