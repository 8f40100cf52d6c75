"""Documents that stay current: each is made once for all who watch it, and while somebody does.

One task makes them all, one after the other, so that however many watch, the store is asked one
question at a time.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

INTERVAL = 1.0
"""Seconds between the end of a look and the next one."""
PAUSE = 0.05
"""Seconds between two times that documents are made because somebody came: whoever comes and goes
all the time has the store asked no more than twenty times a second."""


class Topic:
    """A document that somebody watches."""

    def __init__(self) -> None:
        self.data = b""
        """Empty: it was not made yet."""
        self.version = 0
        self.watchers = 0
        self._changed = asyncio.Event()

    def put(self, data: bytes) -> None:
        """Replace the document."""
        if data != self.data:
            self.data = data
            self.wake()

    def wake(self) -> None:
        """Let whoever waits look."""
        self.version += 1
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def after(self, version: int) -> None:
        """Wait for another version than this one."""
        while self.version == version:
            await self._changed.wait()


class Feed(Generic[K]):
    """Makes documents by their key while `run` runs."""

    def __init__(
        self,
        beat: Callable[[], Awaitable[None]],
        load: Callable[[K], Awaitable[bytes]],
        interval: float = INTERVAL,
    ) -> None:
        """`beat` is awaited at the beginning of each look, `load` makes a document."""
        self._beat = beat
        self._load = load
        self._interval = interval
        self._topics: dict[K, Topic] = {}
        self._came = asyncio.Event()
        self.watchers = 0
        self.closed = False

    @asynccontextmanager
    async def watch(self, key: K) -> AsyncIterator[Topic]:
        """The document, as long as the context lasts; it comes as soon as it is made."""
        topic = self._topics.get(key)
        if topic is None:
            topic = self._topics[key] = Topic()
            self._came.set()
        topic.watchers += 1
        self.watchers += 1
        try:
            yield topic
        finally:
            self.watchers -= 1
            topic.watchers -= 1
            if not topic.watchers:
                del self._topics[key]

    def close(self) -> None:
        """Let all who watch know that nothing comes any more."""
        self.closed = True
        for topic in self._topics.values():
            topic.wake()

    async def run(self) -> None:
        """Look again and again, as long as somebody watches. It ends by being cancelled."""
        while True:
            if not self._topics:
                await self._came.wait()
            self._came.clear()
            await self._beat()
            await self._make(list(self._topics.items()))
            await self._rest()

    async def _rest(self) -> None:
        """Until the next look, serve nobody but who comes."""
        try:
            async with asyncio.timeout(self._interval):
                while True:
                    await self._came.wait()
                    self._came.clear()
                    await self._make([item for item in self._topics.items() if not item[1].data])
                    await asyncio.sleep(PAUSE)
        except TimeoutError:
            return

    async def _make(self, topics: list[tuple[K, Topic]]) -> None:
        for key, topic in topics:
            if topic.watchers:
                topic.put(await self._load(key))
