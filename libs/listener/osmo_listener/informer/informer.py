"""Knows the objects of a cluster, and tells its owner of every change.

Promises:
- *Complete.* After the first list the owner has been told of every object, and from then on is told
  of every change, however often the connection breaks. Deletions that happened meanwhile are found
  by comparing and told as VANISHED.
- *In order.* The changes of one object come in the order of their versions; no call to the handler
  begins before the one before it has ended.
- *Soon.* The objects on the first page of a list are told before the second page has come.
- *Bounded.* Nothing is buffered beyond a page and the HTTP client's read-ahead: a slow handler
  slows the server down, and if the server then forgets our position, a list catches up.
- *Independent.* It does not know where the changes go: no lost connection elsewhere makes it list.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import field
from typing import Generic, NamedTuple, NoReturn, Protocol

from osmo_listener.informer.reflector import Reflector, ReflectorConfig
from osmo_listener.informer.source import Event, Page, Source, T, object_key
from osmo_listener.informer.store import Change, ChangeType, Store
from osmo_transport.bounds import Seconds
from osmo_transport.lean import dataclass

SLICE = 500
"""Objects that are told at once when all are told again."""


@dataclass(frozen=True, kw_only=True)
class InformerConfig:
    """How an informer works; times in seconds."""

    reflector: ReflectorConfig = field(default_factory=ReflectorConfig)
    """How to go on after errors."""
    resync_interval: Seconds | None = 300.0
    """How often the handler is shown every object once more, for rules that depend on time and as a
    second chance; None: never."""


class Handler(Protocol[T]):
    """The owner of an informer. What it raises ends the informer."""

    async def changed(self, changes: Sequence[Change[T]]) -> None:
        """Changes, in their order; never empty."""

    async def synced(self, resource_version: int, count: int) -> None:
        """A list is complete: every change up to `resource_version` was told, and `count` objects
        exist. Comes after the first list and after every further one."""

    async def regressed(self, resource_version: int) -> None:
        """The cluster was restored from a backup and is at `resource_version`, lower than before:
        versions told so far do not compare with those to come. What differs from before was told
        already; every object follows once more as RESYNC, then `synced`."""


class InformerStatus(NamedTuple):
    """A moment's figures."""

    synced: bool
    objects: int
    resource_version: int
    """Up to which everything is known; 0 before the first list."""
    silence: float
    """Seconds since the API server was last heard of."""
    lists: int
    """Lists that were completed."""
    watches: int
    """Watches that were begun."""
    failures: Mapping[str, int]
    """Errors by the name of their class."""
    last_failure: str
    """The text of the last error; empty: none yet."""
    left_out: int
    """How often an object could not be read; the log names each once."""
    relists: Mapping[str, int]
    """By reason, one of `reflector.RELISTS`, how often everything was listed once more."""
    telling: bool
    """Whether the handler has not returned from its last call."""
    told: int
    """Calls of the handler from which it has returned."""


class Informer(Generic[T]):
    """Keeps `store` equal to what `source` shows and tells `handler` of every change.

    Args:
        source: what to read.
        handler: whom to tell.
        config: how.
        clock: seconds that only rise.
        sleep: waits for seconds.
        draw: a source of numbers in [0, 1).
    """

    def __init__(
        self,
        source: Source[T],
        handler: Handler[T],
        config: InformerConfig | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.store: Store[T] = Store()
        """What is known, for reading."""
        self._source = source
        self._config = config or InformerConfig()
        self._clock = clock
        self._sleep = sleep
        self._teller = _Teller(self.store, handler)
        self._reflector = Reflector(
            source, self._teller, self._config.reflector, clock=clock, sleep=sleep, draw=draw
        )

    async def run(self) -> NoReturn:
        """Work for ever; cancel to stop.

        Raises:
            ListenerError: what no retry mends, before the first list is complete.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._resync())
                await self._reflector.run()
        except BaseExceptionGroup as group:
            # One of the two failed and the other was cancelled: the owner wants the failure.
            raise group.exceptions[0] from None

    async def synced(self) -> None:
        """Wait until the first list is complete and the handler was told."""
        await self._teller.synced.wait()

    @property
    def resource_version(self) -> int:
        """The version that the store shows; 0 before the first list is complete."""
        return self._reflector.version

    def status(self) -> InformerStatus:
        """The figures of this moment."""
        reflector, counts = self._reflector, self._reflector.counts
        return InformerStatus(
            synced=self._teller.synced.is_set(),
            objects=len(self.store),
            resource_version=reflector.version,
            silence=self._clock() - reflector.last_sign,
            lists=counts.lists,
            watches=counts.watches,
            failures=dict(counts.failures),
            last_failure=counts.last_failure,
            left_out=self._source.left_out,
            relists=dict(counts.relists),
            telling=self._teller.begun > self._teller.ended,
            told=self._teller.ended,
        )

    async def _resync(self) -> None:
        interval = self._config.resync_interval
        if interval is None:
            return
        await self.synced()
        while True:
            await self._sleep(interval)
            await self._teller.show_all()


class _Teller(Generic[T]):
    """Takes over what the reflector reads and tells the handler, one call at a time."""

    def __init__(self, store: Store[T], handler: Handler[T]) -> None:
        self.synced = asyncio.Event()
        self.begun = 0
        """Calls of the handler."""
        self.ended = 0
        """Those of them from which it has returned."""
        self._store = store
        self._handler = handler
        self._turn = asyncio.Lock()

    async def list_started(self) -> None:
        self._store.start_list()

    async def listed(self, page: Page[T]) -> None:
        async with self._turn:
            await self._tell(self._store.apply_page(page))

    async def list_finished(self, version: int, *, regressed: bool) -> None:
        async with self._turn:
            await self._tell(self._store.finish_list(version))
            if regressed:
                await self._call(self._handler.regressed(version))
        if regressed:
            await self.show_all()
        async with self._turn:
            await self._call(self._handler.synced(version, len(self._store)))
        self.synced.set()

    async def happened(self, events: Sequence[Event[T]]) -> None:
        async with self._turn:
            await self._tell(self._store.apply(events))

    async def show_all(self) -> None:
        """Show every object once more, as it is when its turn comes."""
        keys = [object_key(item) for item in self._store.values()]
        for start in range(0, len(keys), SLICE):
            async with self._turn:
                known = map(self._store.get, keys[start : start + SLICE])
                await self._tell([_resync(item) for item in known if item is not None])

    async def _tell(self, changes: Sequence[Change[T]]) -> None:
        if changes:
            await self._call(self._handler.changed(changes))

    async def _call(self, call: Awaitable[None]) -> None:
        self.begun += 1
        await call
        self.ended += 1


def _resync(item: T) -> Change[T]:
    return Change(ChangeType.RESYNC, item, item, int(item.metadata.resource_version))
