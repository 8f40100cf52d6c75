"""The program `osmo-pipeline web`."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from osmo_pipeline.commands.top import open_sources
from osmo_pipeline.fleet import Patience
from osmo_pipeline.top.watching import Sources, Watch
from osmo_pipeline.web.config import WebConfig
from osmo_pipeline.web.feed import Feed
from osmo_pipeline.web.pulse import Pulse
from osmo_pipeline.web.server import Site, serving
from osmo_pipeline.web.views import View, Views
from osmo_runtime.operations.server import address
from osmo_runtime.queues import store_url
from osmo_runtime.runner import announce
from osmo_transport import UsageError

LATENCY_LOOKS = 60
"""Looks that latencies are about: a minute."""


async def run_web(config: WebConfig, stop: asyncio.Event) -> None:
    """Serve the page until `stop`.

    Raises:
        UsageError: an address is wrong, or the store is not that of any worker.
        TransportError: the queue cannot be used, or the port is taken; the text says what to do.
        WorkerError: the store cannot be used; the text says what to do.
    """
    where = address(config.listen, "the page")
    async with AsyncExitStack() as stack:
        store = store_url(config.store, config.store_password_file)
        sources = await open_sources(stack, config, store, config.operations, config.max_entries)
        async with (
            asyncio.TaskGroup() as tasks,
            page(
                tasks,
                sources,
                where,
                patience=config.patience,
                hosts=config.hosts,
                max_viewers=config.max_viewers,
                allow_replay=config.allow_replay,
            ) as url,
        ):
            announce(url)
            await stop.wait()


@asynccontextmanager
async def page(
    tasks: asyncio.TaskGroup,
    sources: Sources,
    where: tuple[str, int],
    *,
    patience: Patience,
    hosts: Sequence[str] = (),
    max_viewers: int = WebConfig.max_viewers,
    allow_replay: bool = False,
) -> AsyncIterator[str]:
    """The page at a host and port until the context is left; gives its URL. What looks for it
    is one of `tasks`.

    Raises:
        UsageError: no store is among the sources.
        AddressInUseError: the address is taken.
    """
    queue, store = sources.queue, sources.store
    if store is None:
        raise UsageError("the page needs a store")
    token = secrets.token_urlsafe() if allow_replay else ""
    pulse = Pulse(Watch(sources, patience, window=LATENCY_LOOKS))
    feed: Feed[View] = Feed(pulse.beat, Views(pulse, queue, store, token).load)
    site = Site(feed, queue, token=token, hosts=hosts, max_viewers=max_viewers)
    looking = tasks.create_task(feed.run())
    try:
        async with serving(site, *where) as url:
            yield url
    finally:
        looking.cancel()
