"""`osmo-pipeline backends`: the names of backends, and what stands in the way of their reports."""

import asyncio
import sys
from dataclasses import dataclass
from urllib.parse import urlsplit

from osmo_pipeline.commands.places import directory_of, open_queue_of
from osmo_pipeline.config import BackendConfig
from osmo_transport import UsageError


@dataclass(frozen=True, kw_only=True)
class ForgetConfig(BackendConfig):
    """Frees the name of a backend for another cluster, and lets the default rules hold for it. Stop
    its listeners first: they go on, and take the name again when they connect anew."""


@dataclass(frozen=True, kw_only=True)
class ResetConfig(BackendConfig):
    """Makes good what no report of a backend reaches any more, because something was reported or
    given out with an epoch of the future: its listeners begin anew, and what they then report
    counts. Let the workers catch up first: what waits in the queue is applied later."""

    store: str
    """URL of the workers' state store (sqlite, postgresql)."""


async def forget_backend(config: ForgetConfig, _: asyncio.Event) -> None:
    """`backends forget`: free a backend's name for another cluster, and drop its rules.

    Raises:
        UsageError: the name is not known.
        TransportError: the queue cannot be used; the text says what to do.
    """
    async with directory_of(config) as directory:
        if not await directory.forget(config.backend):
            raise UsageError(f"no backend is called {config.backend!r}")
    sys.stdout.write(f"{config.backend} is free, and the default rules hold for it\n")


async def reset_backend(config: ResetConfig, _: asyncio.Event) -> None:
    """`backends reset`: let a backend's listeners begin anew, and their reports count.

    Raises:
        TransportError: the queue cannot be used, or the store is not that of any worker; the text
            says what to do.
        WorkerError: the store cannot be used; the text says what to do.
    """
    # Here, because the other commands need no database.
    from osmo_worker.config import StoreConfig  # noqa: PLC0415
    from osmo_worker.store import open_store  # noqa: PLC0415
    from osmo_worker.store.migrating import migrate_store  # noqa: PLC0415

    if urlsplit(config.store).scheme == "memory":
        raise UsageError(
            f"{config.store} ends with this command: name the store of the workers with --store"
        )
    # A path that is misspelt would be a new store, in which nothing is wrong.
    there = await migrate_store(config.store, StoreConfig(), check=True)
    if not there.found:
        none = "is not there" if there.absent else "has no tables"
        raise UsageError(f"{there.name} {none}: name the store of the workers with --store")
    async with await open_queue_of(config) as queue, open_store(config.store) as store:
        # The store first: the epoch that a listener then gets has to be above all that is left.
        rows = await store.heal(config.backend)
        producers = await queue.reset(config.backend)
    sys.stdout.write(
        f"{config.backend}: {rows} rows of the future taken back, and {producers} producers begin"
        " anew\n"
    )
    if not producers:
        sys.stderr.write(f"the queue knows no producer of a backend {config.backend!r}\n")
