"""Documents that stay current, made once for all."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from osmo_pipeline.web.feed import Feed


class Source:
    """Makes documents, and counts how often it was asked."""

    def __init__(self) -> None:
        self.beats = 0
        self.loads: list[str] = []
        self.text = "one"
        self.beat_of = asyncio.Event()

    async def beat(self) -> None:
        """Count it."""
        self.beats += 1
        self.beat_of.set()
        self.beat_of = asyncio.Event()

    async def load(self, key: str) -> bytes:
        """The document of this moment."""
        self.loads.append(key)
        return f"{key} {self.text}".encode()


@asynccontextmanager
async def running(source: Source, interval: float) -> AsyncIterator[Feed[str]]:
    """A feed at work."""
    feed: Feed[str] = Feed(source.beat, source.load, interval)
    looking = asyncio.create_task(feed.run())
    try:
        yield feed
    finally:
        looking.cancel()
        await asyncio.wait([looking])


async def test_nobody_is_asked_while_nobody_watches() -> None:
    """Before the first one comes, and after the last one left."""
    source = Source()
    async with running(source, interval=0.0) as feed:
        await asyncio.sleep(0)
        assert source.beats == 0
        async with feed.watch("a") as topic:
            await topic.after(0)
        for _ in range(20):
            await asyncio.sleep(0)
        seen = source.beats
        for _ in range(20):
            await asyncio.sleep(0)
        assert source.beats == seen


async def test_many_cost_as_much_as_one() -> None:
    """A look asks once for each document, however many watch it."""
    source = Source()
    feed: Feed[str] = Feed(source.beat, source.load, interval=3600)
    async with feed.watch("a") as one, feed.watch("a") as other, feed.watch("b"):
        looking = asyncio.create_task(feed.run())
        await one.after(0)
        assert one is other
        assert feed.watchers == 3
        await asyncio.sleep(0)
        looking.cancel()
    assert sorted(source.loads) == ["a", "b"]
    assert feed.watchers == 0


async def test_who_comes_between_two_looks_need_not_wait() -> None:
    """The document that is new is made, and no other one."""
    source = Source()
    async with running(source, interval=3600) as feed, feed.watch("a") as first:
        await first.after(0)
        async with feed.watch("b") as second:
            await second.after(0)
            assert second.data == b"b one"
    assert (source.beats, source.loads) == (1, ["a", "b"])


async def test_what_has_not_changed_is_not_told_again() -> None:
    """And what has is."""
    source = Source()
    async with running(source, interval=0.0) as feed, feed.watch("a") as topic:
        await topic.after(0)
        for _ in range(3):
            await source.beat_of.wait()
        assert topic.version == 1
        source.text = "two"
        await topic.after(1)
        assert topic.data == b"a two"


async def test_who_watches_is_told_of_the_end() -> None:
    """So that its stream can end."""
    source = Source()
    async with running(source, interval=3600) as feed, feed.watch("a") as topic:
        await topic.after(0)
        feed.close()
        await topic.after(1)
        assert feed.closed
