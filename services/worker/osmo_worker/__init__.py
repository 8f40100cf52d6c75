"""The worker: takes reports from the queue, hands them to a handler, settles them."""

from osmo_worker.config import StoreConfig, WorkerConfig
from osmo_worker.errors import (
    HandlerNotFoundError,
    HandlerUnavailableError,
    StoreRefusedError,
    StoreUnavailableError,
    WorkerError,
)
from osmo_worker.handler import BatchHandler, Handler, load_handler
from osmo_worker.metrics import WorkerMetrics
from osmo_worker.service import run_worker
from osmo_worker.worker import Worker

__all__ = (
    "BatchHandler",
    "Handler",
    "HandlerNotFoundError",
    "HandlerUnavailableError",
    "StoreConfig",
    "StoreRefusedError",
    "StoreUnavailableError",
    "Worker",
    "WorkerConfig",
    "WorkerError",
    "WorkerMetrics",
    "load_handler",
    "run_worker",
)
