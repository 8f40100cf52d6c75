"""The worker service: the wiring, from configuration to drain."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from osmo_runtime.startup import once_there
from osmo_transport import QueueUnavailableError, open_queue
from osmo_worker.config import WorkerConfig
from osmo_worker.errors import HandlerUnavailableError
from osmo_worker.handler import BatchHandler, Handler, load_handler
from osmo_worker.metrics import WorkerMetrics
from osmo_worker.worker import Worker

logger = logging.getLogger(__name__)

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
    async with _open_handler(config, stop, metrics) as handler:
        queue = await once_there(
            lambda: open_queue(config.queue, config.limits), _ABSENT, config.backoff, stop
        )
        if queue is None:
            return
        async with queue:
            consumer = queue.consumer(config.group, config.name)
            ready()
            await Worker(consumer, handler, config, metrics=metrics).run(stop)
        logger.info("stopped after %d deliveries", metrics.received)


@asynccontextmanager
async def _open_handler(
    config: WorkerConfig, stop: asyncio.Event, metrics: WorkerMetrics
) -> AsyncIterator[Handler | BatchHandler]:
    if config.handler is not None:
        yield load_handler(config.handler)
        return
    # A worker with its own handler needs no database driver.
    from osmo_worker.store import open_store  # noqa: PLC0415

    async with open_store(config.store, config.store_limits, metrics=metrics) as store:
        await once_there(store.check, _ABSENT, config.backoff, stop)
        yield store
