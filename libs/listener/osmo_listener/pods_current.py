"""Until when the pods of a backend are known, told again and again.

Whoever concludes something from what was not reported, as that a task did not start in time, has to
know that its report would be there. A heartbeat does not say so: the listener may be alive and not
see its cluster, and what it reports of pods takes another way.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any, Generic, NoReturn

from osmo_listener.informer.source import Event, EventType, Page, Source, T
from osmo_listener.reporter import Reporter
from osmo_reports.bodies import PodsCurrent, encode_body
from osmo_transport.message import Message, Version, new_id

KIND = "pods_current"

LATE = 5.0
"""Seconds by which a pause is longer where this process was suspended: the clock may be set by less
while it waits, and a busy event loop is not as late."""


class Dated(Generic[T]):
    """Another source, with the moment until which whoever reads it has taken everything over.

    Args:
        source: what to read.
        clock: seconds since the Unix epoch.
    """

    def __init__(self, source: Source[T], clock: Callable[[], float] = time.time) -> None:
        self._source = source
        self._clock = clock
        self._listed: float | None = None
        self.current_at: float | None = None
        """The latest of these that its reader is done with: when a list began, when a bookmark
        came, or an event of a watch that had shown one. None: it has not read a whole list yet."""

    @property
    def left_out(self) -> int:
        """See `Source.left_out`."""
        return self._source.left_out

    async def list(self) -> AsyncGenerator[Page[T], None]:
        """See `Source.list`."""
        began = self._clock()
        async with contextlib.aclosing(self._source.list()) as pages:
            async for page in pages:
                yield page
        self._listed = began

    async def watch(self, version: int) -> AsyncGenerator[Sequence[Event[T]], None]:
        """See `Source.watch`."""
        if self._listed is not None:
            # Who begins to watch is done with the list, and with what it no longer held.
            self.current_at, self._listed = self._listed, None
        caught_up = False
        async with contextlib.aclosing(self._source.watch(version)) as batches:
            async for events in batches:
                came = self._clock()
                yield events
                # An event may be one of many that happened long ago. A bookmark comes behind them.
                caught_up = caught_up or any(e.type is EventType.BOOKMARK for e in events)
                if caught_up:
                    self.current_at = came

    async def position(self) -> int:
        """See `Source.position`."""
        return await self._source.position()

    def forget_credentials(self) -> None:
        """See `Source.forget_credentials`."""
        self._source.forget_credentials()


async def tell_pods_current(
    reporter: Reporter[Any],
    source: Dated[Any],
    backend: str,
    interval: float,
    *,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> NoReturn:
    """Tell after each `interval` seconds until when the pods that `reporter` reports are known, if
    that has changed: nothing is told while the watch is blind, nor while a snapshot is due. What
    was reported until then goes before. Who was suspended says nothing at first: what he reads then
    came long before, and there may be more of it.

    Raises:
        FencedError, UsageError: the operator refuses this listener for good.
    """
    told: float | None = None
    number = 0
    while True:
        began = clock()
        await sleep(interval)
        at = source.current_at
        if at is None or at == told or clock() - began > interval + LATE:
            continue
        number += 1
        message = Message(
            KIND, backend, Version(0, number), new_id(), clock(), encode_body(PodsCurrent(at))
        )
        if await reporter.vouch(message):
            told = at
