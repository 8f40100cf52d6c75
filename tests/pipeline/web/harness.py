"""What the tests of the page share: a site that looks again at once, and what a browser is sent."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp
import msgspec

from osmo_pipeline.fleet import Patience
from osmo_pipeline.top.watching import Sources, Watch
from osmo_pipeline.web.feed import Feed
from osmo_pipeline.web.pulse import Pulse
from osmo_pipeline.web.server import Site, serving
from osmo_pipeline.web.views import View, Views
from osmo_reports.directory import open_directory
from osmo_transport import Delivery, Queue, Reject, open_queue
from osmo_worker.store import StateStore, open_store
from tests.worker.harness import append, report

TOKEN = "token"


class Running(NamedTuple):
    """A site that is served."""

    url: str
    queue: Queue
    store: StateStore
    feed: Feed[View]
    session: aiohttp.ClientSession


@asynccontextmanager
async def running(token: str = "", max_viewers: int = 50) -> AsyncIterator[Running]:
    """A site over an empty queue and an empty store."""
    async with (
        await open_queue("memory://") as queue,
        await open_directory("memory://") as directory,
        open_store("memory://") as store,
        aiohttp.ClientSession() as session,
    ):
        sources = Sources(place="memory://", queue=queue, directory=directory, store=store)
        pulse = Pulse(Watch(sources, Patience(60.0, 95.0)))
        views = Views(pulse, queue, store, token)
        feed: Feed[View] = Feed(pulse.beat, views.load, interval=0.005)
        site = Site(feed, queue, token=token, hosts=["fleet.example"], max_viewers=max_viewers)
        looking = asyncio.create_task(feed.run())
        try:
            async with serving(site, "127.0.0.1", 0) as url:
                yield Running(url, queue, store, feed, session)
        finally:
            looking.cancel()


@asynccontextmanager
async def documents(site: Running, **view: str) -> AsyncIterator[AsyncIterator[Any]]:
    """The documents of a view, as they come."""
    async with site.session.get(f"{site.url}live", params=view) as answer:
        assert answer.status == 200, await answer.text()
        yield _documents(answer)


async def _documents(answer: aiohttp.ClientResponse) -> AsyncIterator[Any]:
    async for line in answer.content:
        if line.startswith(b"data: "):
            yield msgspec.json.decode(line[6:])


async def document(site: Running, **view: str) -> Any:
    """The first document of a view."""
    async with documents(site, **view) as found:
        return await anext(found)


async def bury(queue: Queue, count: int, reason: str = "no", message: str = "") -> list[Delivery]:
    """Make dead letters, of reports with this message."""
    await append(queue, [report(f"task-{number}", message=message) for number in range(count)])
    async with queue.consumer("workers", "worker") as consumer:
        found = await consumer.receive(count)
        await consumer.settle([(each, Reject(reason)) for each in found])
    return found
