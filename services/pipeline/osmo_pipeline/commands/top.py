"""`osmo-pipeline top`: how it goes, now and now again."""

import asyncio
import os
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

from osmo_pipeline.commands.backends import FleetConfig
from osmo_pipeline.commands.output import say, write_json
from osmo_pipeline.commands.places import open_queue_of, queue_of, store_of
from osmo_pipeline.config import CommandConfig
from osmo_pipeline.errors import StoppedError
from osmo_reports.directory import open_directory
from osmo_runtime.masking import mask_text
from osmo_runtime.queues import store_url
from osmo_runtime.startup import unless_stopped
from osmo_transport import QueueConfig
from osmo_transport.bounds import Seconds
from osmo_transport.lean import dataclass

if TYPE_CHECKING:
    from osmo_pipeline.top.watching import Sources, Watch


@dataclass(frozen=True, kw_only=True)
class TopConfig(FleetConfig):
    """Shows what goes through a pipeline now: its backends, the silent ones first, reports per
    second, what waits, and with --operations how long reports take. Quit with q or Ctrl-C. Where
    the output is no terminal it is a line for each look."""

    operations: tuple[str, ...] = field(default=(), repr=False)
    """Operations ports of services, host:port or http://host:port, whose figures are added up."""
    interval: Seconds = 2.0
    """Seconds between two looks."""
    once: bool = False
    """Show one frame of two looks, and end."""
    json: bool = False
    """Write one JSON document for each look, on a line of its own."""


async def show_top(config: TopConfig, stop: asyncio.Event) -> None:
    """`top`.

    Raises:
        UsageError: an option does not work.
        MissingExtraError: a library is not installed that is needed for it.
        TransportError: the queue cannot be used; the text says what to do. Later it is shown that
            it is away.
        WorkerError: likewise of the store.
    """
    # Here, because it takes longer to import than other commands take.
    from osmo_pipeline.top.watching import Watch  # noqa: PLC0415

    async with AsyncExitStack() as stack:
        store = config.store and store_url(config.store, config.store_password_file)
        sources = await open_sources(stack, config, store, config.operations)
        watch = Watch(sources, config.patience)
        if config.once:
            if await unless_stopped(_once(watch, config), stop) is None:
                raise StoppedError("stopped between two looks")
        elif config.json or not _is_terminal() or find_spec("rich") is None:
            await unless_stopped(_each(watch, config), stop)
        else:
            from osmo_pipeline.top.live import show_live  # noqa: PLC0415

            await show_live(watch, config.interval, stop)


async def open_sources(
    stack: AsyncExitStack,
    config: CommandConfig,
    store: str | None,
    operations: Sequence[str],
    max_entries: int = QueueConfig.max_entries,
) -> "Sources":
    """All that can be asked, until the stack is left.

    Raises: as `show_top`.
    """
    from osmo_pipeline.top.watching import ANSWER_TIMEOUT, Sources  # noqa: PLC0415

    queue = await stack.enter_async_context(await open_queue_of(config, max_entries))
    directory = await stack.enter_async_context(await open_directory(queue_of(config)))
    stored = services = None
    if store is not None:
        stored = await stack.enter_async_context(await store_of(store))
    if operations:
        from osmo_pipeline.top.scraping import Scraper  # noqa: PLC0415

        services = await stack.enter_async_context(Scraper(operations, ANSWER_TIMEOUT))
    return Sources(
        place=mask_text(config.queue),
        queue=queue,
        directory=directory,
        store=stored,
        services=services,
    )


async def _once(watch: "Watch", config: TopConfig) -> Literal[True]:
    from osmo_pipeline.top.frame import NARROWEST, document, frame  # noqa: PLC0415

    await watch.look(counted=True)
    await asyncio.sleep(config.interval)
    await watch.look()
    for name in ("queue", "store"):
        if (failure := watch.failures.get(name)) is not None:
            raise failure
    if config.json:
        write_json(document(watch.board()))
        return True
    width = os.get_terminal_size(sys.stdout.fileno()).columns if _is_terminal() else NARROWEST
    for line in frame(watch.board(), width, 0):
        say(line.text)
    return True


async def _each(watch: "Watch", config: TopConfig) -> None:
    from osmo_pipeline.top.frame import document, line  # noqa: PLC0415

    while True:
        await watch.look()
        if config.json:
            write_json(document(watch.board()))
        else:
            say(line(watch.board()))
        sys.stdout.flush()
        await asyncio.sleep(config.interval)


def _is_terminal() -> bool:
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
