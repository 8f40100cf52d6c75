"""The program `osmo-pipeline web`."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp

from osmo_pipeline.commands.places import open_queue_of, store_of
from osmo_pipeline.web.config import WebConfig
from osmo_pipeline.web.feed import Feed
from osmo_pipeline.web.latency import Latency, Read, scraping
from osmo_pipeline.web.pulse import Pulse
from osmo_pipeline.web.server import Site, serving
from osmo_pipeline.web.views import View, Views
from osmo_runtime.operations.server import address
from osmo_runtime.runner import announce
from osmo_transport import Queue
from osmo_worker.store import StateStore

MAX_VIEWERS = WebConfig.max_viewers


async def run_web(config: WebConfig, stop: asyncio.Event) -> None:
    """Serve the page until `stop`.

    Raises:
        UsageError: an address is wrong, or the store is not that of any worker.
        TransportError: the queue cannot be used, or the port is taken; the text says what to do.
        WorkerError: the store cannot be used; the text says what to do.
    """
    async with AsyncExitStack() as stack:
        queue = await stack.enter_async_context(await open_queue_of(config, config.max_entries))
        store = await stack.enter_async_context(await store_of(config.store))
        read = None
        if config.workers:
            session = await stack.enter_async_context(aiohttp.ClientSession())
            read = scraping(session, config.workers)
        url = await stack.enter_async_context(
            page(
                *(queue, store, read, config.listen),
                hosts=config.hosts,
                max_viewers=config.max_viewers,
                allow_replay=config.allow_replay,
            )
        )
        announce(url)
        await stop.wait()


@asynccontextmanager
async def page(
    queue: Queue,
    store: StateStore,
    read: Read | None,
    listen: str,
    *,
    hosts: Sequence[str] = (),
    max_viewers: int = MAX_VIEWERS,
    allow_replay: bool = False,
) -> AsyncIterator[str]:
    """The page at the address `listen` until the context is left; gives its URL. `read` tells how
    long a change takes until its row is written, if anybody does.

    Raises:
        UsageError: the address is wrong.
        AddressInUseError: it is taken.
    """
    host, port = address(listen, "the page")
    token = secrets.token_urlsafe() if allow_replay else ""
    pulse = Pulse(queue, store, None if read is None else Latency(read))
    views = Views(pulse, queue, store, token)
    feed: Feed[View] = Feed(pulse.beat, views.load)
    site = Site(feed, queue, token=token, hosts=hosts, max_viewers=max_viewers)
    async with asyncio.TaskGroup() as tasks:
        looking = tasks.create_task(feed.run())
        try:
            async with serving(site, host, port) as url:
                yield url
        finally:
            looking.cancel()
