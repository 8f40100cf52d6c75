"""The worker service: the wiring, from configuration to drain."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
from anyio.abc import TaskGroup

from osmo_runtime.operations import Inquiry, Operations
from osmo_runtime.queues import queue_url, store_url, with_all_streams
from osmo_runtime.startup import once_there, warn_of_caveats
from osmo_runtime.texts import counted
from osmo_transport import Queue, QueueStatus, QueueUnavailableError, open_queue
from osmo_worker import figures
from osmo_worker.config import WorkerConfig
from osmo_worker.errors import HandlerUnavailableError
from osmo_worker.handler import BatchHandler, Handler, load_handler, load_handlers
from osmo_worker.housekeeping import keep_house, tell_epochs
from osmo_worker.metrics import WorkerMetrics
from osmo_worker.worker import Worker

if TYPE_CHECKING:
    from osmo_worker.store import StateStore

logger = logging.getLogger(__name__)

_ABSENT = (HandlerUnavailableError, QueueUnavailableError)


async def run_worker(
    config: WorkerConfig,
    stop: asyncio.Event,
    ready: Callable[[], None],
    *,
    metrics: WorkerMetrics | None = None,
    operations: Operations | None = None,
) -> None:
    """Work until `stop` is set, then finish what is in hand, within `drain_timeout`.

    `ready` is called once, when the queue and the store have answered. `metrics` is filled while
    the worker runs. `operations` is given what tells of the service.

    Raises:
        UsageError: the configuration does not work (an unknown scheme, a handler that cannot be
            imported, a database that is not ours); the text says what to change.
        QueueRefusedError: the queue could lose messages; the text says what to change.
        ExceptionGroup: of the same, found out while it worked.
    """
    metrics = metrics or WorkerMetrics()
    operations = operations or Operations(stopping=stop.is_set)
    others = load_handlers() if config.handler is None else {}
    limits = with_all_streams(config.limits)
    where = queue_url(config.queue, config.layout, config.queue_password_file)
    async with _open_handler(config, stop, metrics) as (handler, store):
        queue = await once_there(
            lambda: open_queue(where, limits),
            _ABSENT,
            config.backoff,
            stop,
        )
        if queue is None:
            return
        warn_of_caveats(queue)
        async with queue:
            consumer = queue.consumer(config.group, config.name)
            worker = Worker(
                consumer,
                handler,
                config,
                others=others,
                metrics=metrics,
                tracer=operations.tracer,
            )
            asking = Inquiry(queue.status, config.check_interval, (QueueUnavailableError,))
            _show(operations, worker, asking)
            ready()
            async with anyio.create_task_group() as beside:
                beside.start_soon(asking.run)
                if store is not None:
                    _keep(store, queue, config, metrics, operations, beside)
                await worker.run(stop)
                beside.cancel_scope.cancel()
        logger.info("stopped after %s", counted(metrics.received, "delivery"))


def _show(operations: Operations, worker: Worker, queue: Inquiry[QueueStatus]) -> None:
    operations.check("queue", queue.check)
    operations.check("handling", worker.check)
    for name, work in worker.work():
        operations.work(name, work)
    operations.work("settling", lambda: worker.settling(queue_answers=queue.check().ok))
    figures.measure(operations, worker.metrics)


def _keep(
    store: "StateStore",
    queue: Queue,
    config: WorkerConfig,
    metrics: WorkerMetrics,
    operations: Operations,
    beside: TaskGroup,
) -> None:
    """Do beside the worker what its store needs."""
    limits = config.store_limits
    asking = Inquiry(store.check, config.check_interval, (HandlerUnavailableError,))
    operations.check("store", asking.check)
    figures.measure_store(operations, metrics, limits.silent_after)
    beside.start_soon(asking.run)
    beside.start_soon(keep_house, store, metrics, limits.housekeeping_interval)
    beside.start_soon(tell_epochs, store, queue, limits.epochs_interval)


@asynccontextmanager
async def _open_handler(
    config: WorkerConfig, stop: asyncio.Event, metrics: WorkerMetrics
) -> AsyncIterator[tuple[Handler | BatchHandler, "StateStore | None"]]:
    """The handler, and the store if it is that."""
    if config.handler is not None:
        yield load_handler(config.handler), None
        return
    # A worker with its own handler needs no database driver.
    from osmo_worker.store import open_store  # noqa: PLC0415

    where = store_url(config.store, config.store_password_file)
    async with open_store(where, config.store_limits, metrics=metrics) as store:
        await once_there(store.check, _ABSENT, config.backoff, stop)
        yield store, store
