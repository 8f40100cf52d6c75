"""Follows a source for ever: list, watch, watch again, and list again when the position is lost.

Three rings, one method each: `run` (for ever), `_follow` (watch after watch from where we stand)
and `_watch` (one request). What to do about an error is decided by `errors.reaction` alone, and
every error costs a delay, so that nothing spins.

A watch that resumes from a version which the server does not have yet shows nothing, and no error:
so it is after a cluster was restored from a backup. The bookmarks give it away, because they are
older than what we have seen; the list that follows settles it.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, NoReturn, Protocol

from osmo_listener.errors import (
    ListenerError,
    Reaction,
    RegressedError,
    StatusError,
    TruncatedError,
    reaction,
)
from osmo_listener.source import Event, Page, Source, T
from osmo_transport.backoff import Backoff, BackoffConfig
from osmo_transport.bounds import SecondsOrZero

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ReflectorConfig:
    """How to go on after errors; times in seconds."""

    backoff: BackoffConfig = field(
        default_factory=lambda: BackoffConfig(base=0.8, maximum=30.0, healthy_after=60.0)
    )
    """Delays after errors: those of client-go. A watch that lived for a minute was a good one; that
    is less than the silence after which an idle one is given up, so idling never slows us down."""
    shortest_watch: SecondsOrZero = 1.0
    """A watch that the server ends sooner counts as an error, or we would ask again in a loop."""
    longest_retry_after: SecondsOrZero = 60.0
    """Bound of the delay that a server may ask for."""


class Sink(Protocol[T]):
    """What a reflector feeds. A call ends before the next one begins."""

    async def list_started(self) -> None:
        """A list begins; an earlier one may not have been finished."""

    async def listed(self, page: Page[T]) -> None:
        """A page of the list."""

    async def list_finished(self, version: int, *, regressed: bool) -> None:
        """All pages came, and show `version`; `regressed`: that is lower than one seen before."""

    async def happened(self, events: Sequence[Event[T]]) -> None:
        """Events of a watch, in their order."""


@dataclass(kw_only=True)
class Counts:
    """What a reflector did since it was made."""

    lists: int = 0
    """Lists that were finished."""
    watches: int = 0
    """Watches that were asked for."""
    failures: Counter[str] = field(default_factory=Counter)
    """Errors by the name of their class."""
    last_failure: str = ""
    """The text of the last error."""


class Reflector(Generic[T]):
    """Keeps a sink up to date with a source. `run` is for one task; cancel it to stop.

    Args:
        source: what to read.
        sink: what to feed.
        config: how to go on after errors.
        clock: seconds that only rise.
        sleep: waits for seconds.
        draw: a source of numbers in [0, 1).
    """

    def __init__(
        self,
        source: Source[T],
        sink: Sink[T],
        config: ReflectorConfig | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._source = source
        self._sink = sink
        self._config = config or ReflectorConfig()
        self._clock = clock
        self._sleep = sleep
        self._backoff = Backoff(self._config.backoff, draw)
        self.counts = Counts()
        """What was done so far."""
        self.version = 0
        """The version up to which the sink knows everything; 0 before the first list."""
        self.last_sign = clock()
        """When the server was last heard of, by `clock`."""

    async def run(self) -> NoReturn:
        """Follow the source for ever.

        Raises:
            ListenerError: what no retry mends, before the first list is complete.
        """
        while True:
            try:
                await self._list()
            except ListenerError as exc:
                await self._recover(exc)
            else:
                await self._follow()

    async def _follow(self) -> None:
        while True:
            started = self._clock()
            failure: ListenerError | None = None
            try:
                await self._watch()
            except ListenerError as exc:
                failure = exc
            lived = self._clock() - started
            self._backoff.healthy(lived)
            if failure is None and lived < self._config.shortest_watch:
                failure = TruncatedError(f"the API server ended a watch after {lived:.3f} s")
            if failure is not None and await self._recover(failure) is Reaction.RELIST:
                return

    async def _list(self) -> None:
        await self._sink.list_started()
        version = None
        async with contextlib.aclosing(self._source.list()) as pages:
            async for page in pages:
                self._heard()
                version = page.version
                await self._sink.listed(page)
        if version is None:
            raise TruncatedError("the list ended without its last page")
        regressed, self.version = version < self.version, version
        self.counts.lists += 1
        if regressed:
            logger.warning("versions went back to %d: the cluster was restored", version)
        await self._sink.list_finished(version, regressed=regressed)

    async def _watch(self) -> None:
        self.counts.watches += 1
        async with contextlib.aclosing(self._source.watch(self.version)) as batches:
            async for events in batches:
                self._heard()
                for event in events:
                    if event.version < self.version:
                        raise RegressedError(
                            f"the API server is at version {event.version}, after {self.version}"
                        )
                    self.version = event.version
                await self._sink.happened(events)

    async def _recover(self, error: ListenerError) -> Reaction:
        """Wait as long as `error` calls for, and say what to do then; raise it if nothing helps."""
        self.counts.failures[type(error).__name__] += 1
        self.counts.last_failure = str(error)
        what = reaction(error, synced=self.counts.lists > 0)
        if what is Reaction.RAISE:
            raise error
        if what is Reaction.REAUTHENTICATE:
            self._source.forget_credentials()
        delay = self._backoff.next_delay()
        if isinstance(error, StatusError) and error.retry_after:
            # On top of what the server asks for, or all its clients come back in one moment.
            delay += min(error.retry_after, self._config.longest_retry_after)
        logger.warning("%s; %s in %.1f s", error, what.value, delay)
        await self._sleep(delay)
        return what

    def _heard(self) -> None:
        self.last_sign = self._clock()
