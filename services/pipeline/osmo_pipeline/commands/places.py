"""The queue, the directory and the store that a command is about."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from osmo_pipeline.config import CommandConfig
from osmo_reports.directory import Directory, open_directory
from osmo_runtime.queues import queue_url, with_all_streams
from osmo_transport import Queue, QueueConfig, UsageError, open_queue
from osmo_transport.registry import scheme_of
from osmo_worker.config import StoreConfig

if TYPE_CHECKING:
    from osmo_worker.store import StateStore


def queue_of(config: CommandConfig) -> str:
    """The URL of the queue.

    Raises:
        UsageError: it ends with this command, or has no layout.
    """
    if scheme_of(config.queue) == "memory":
        raise UsageError(
            f"{config.queue} ends with this command: name the queue of the operators with --queue"
        )
    return queue_url(config.queue, config.layout, config.queue_password_file)


async def open_queue_of(config: CommandConfig, max_entries: int = QueueConfig.max_entries) -> Queue:
    """The queue, with the streams of all kinds that are installed.

    Raises:
        TransportError: it cannot be used; the text says what to do.
    """
    limits = with_all_streams(replace(QueueConfig(), max_entries=max_entries))
    return await open_queue(queue_of(config), limits)


@asynccontextmanager
async def directory_of(config: CommandConfig) -> AsyncIterator[Directory]:
    """The directory beside the queue.

    Raises:
        TransportError: it cannot be used; the text says what to do.
    """
    where = queue_of(config)
    # What is not fit for a queue holds no directory either; the text says why.
    async with await open_queue(where), await open_directory(where) as directory:
        yield directory


async def store_of(url: str) -> "StateStore":
    """The state store of the workers.

    Raises:
        UsageError: it ends with this command, or is not there.
        TransportError, WorkerError: it cannot be used; the text says what to do.
    """
    # Here, because most commands need no database.
    from osmo_worker.store import open_store  # noqa: PLC0415
    from osmo_worker.store.migrating import migrate_store  # noqa: PLC0415

    if scheme_of(url) == "memory":
        raise UsageError(
            f"{url} ends with this command: name the store of the workers with --store"
        )
    # A path that is misspelt would be a new store, in which nothing is.
    there = await migrate_store(url, StoreConfig(), check=True)
    if not there.found:
        none = "is not there" if there.absent else "has no tables"
        raise UsageError(f"{there.name} {none}: name the store of the workers with --store")
    return open_store(url)
