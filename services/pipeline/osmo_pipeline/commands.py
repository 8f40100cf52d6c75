"""The commands that tell all operators of a queue something: condition rules, names of backends."""

import asyncio
import shlex
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from osmo_pipeline.config import (
    BackendConfig,
    CommandConfig,
    ForgetConfig,
    ResetConfig,
    RulesConfig,
)
from osmo_reports.conditions import DEFAULT_RULES
from osmo_reports.directory import Directory, open_directory
from osmo_runtime.queues import queue_url
from osmo_transport import UsageError, open_queue


def _queue_url(config: CommandConfig) -> str:
    if urlsplit(config.queue).scheme == "memory":
        raise UsageError(
            f"{config.queue} ends with this command: name the queue of the operators with --queue"
        )
    return queue_url(config.queue, config.layout)


@asynccontextmanager
async def _directory(config: CommandConfig) -> AsyncIterator[Directory]:
    where = _queue_url(config)
    # What is not fit for a queue holds no directory either; the text says why.
    async with await open_queue(where), await open_directory(where) as directory:
        yield directory


async def set_rules(config: RulesConfig, _: asyncio.Event) -> None:
    """`rules set`: replace the rules of a backend; its listeners are told at once.

    Raises:
        RulesError: some cannot be used; nothing is changed.
        TransportError: the queue cannot be used; the text says what to do.
    """
    async with _directory(config) as directory:
        known = await directory.set_rules(config.backend, config.rules)
        registered = await directory.backends()
    count = len(known.rules)
    rules = "1 rule" if count == 1 else f"{count} rules"
    sys.stdout.write(f"{config.backend}: {rules}, version {known.version}\n")
    if config.backend not in registered:
        names = ", ".join(sorted(registered)) or "none"
        sys.stderr.write(
            f"no listener has registered {config.backend} at the operators of this queue yet;"
            f" registered are: {names}\n"
        )


async def get_rules(config: BackendConfig, _: asyncio.Event) -> None:
    """`rules get`: print the rules of a backend, a line each, as a shell takes them.

    Raises:
        TransportError: the queue cannot be used; the text says what to do.
    """
    async with _directory(config) as directory:
        known = (await directory.rules()).get(config.backend)
    if known is None:
        sys.stderr.write(f"{config.backend} has no rules of its own: these hold everywhere\n")
    for type_, status in (known.rules if known else DEFAULT_RULES).items():
        sys.stdout.write(f"{shlex.quote(f'{type_}={status}')}\n")


async def forget_backend(config: ForgetConfig, _: asyncio.Event) -> None:
    """`backends forget`: free a backend's name for another cluster, and drop its rules.

    Raises:
        UsageError: the name is not known.
        TransportError: the queue cannot be used; the text says what to do.
    """
    async with _directory(config) as directory:
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
    async with await open_queue(_queue_url(config)) as queue, open_store(config.store) as store:
        # The store first: the epoch that a listener then gets has to be above all that is left.
        rows = await store.heal(config.backend)
        producers = await queue.reset(config.backend)
    sys.stdout.write(
        f"{config.backend}: {rows} rows of the future taken back, and {producers} producers begin"
        " anew\n"
    )
    if not producers:
        sys.stderr.write(f"the queue knows no producer of a backend {config.backend!r}\n")
