"""Follows a source for ever: list, watch, watch again, and list again when the position is lost.

Three rings, one method each: `run` (for ever), `_follow` (watch after watch from where we stand)
and `_watch` (one request). What to do about an error is decided by `errors.reaction` alone, and
every error costs a delay, longer with each of its kind, so that nothing spins.

A position that gives nothing ends in a list. A watch that resumes from a version which the server
does not have yet, as after a cluster was restored from a backup, shows nothing, and often no error:
so whenever a watch has shown nothing or was interrupted, the source is asked where it stands. Where
that is behind us the cluster was restored. Where it is ahead of us, and a watch that should have
bookmarks stays silent, one watch after the other shows nothing, or none comes about for a minute,
what we missed is listed.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import field
from typing import Generic, NoReturn, Protocol

from osmo_listener.errors import (
    ExpiredError,
    ForbiddenError,
    KubeconfigError,
    ListenerError,
    MalformedError,
    Reaction,
    RegressedError,
    SilentError,
    StatusError,
    ThrottledError,
    TruncatedError,
    UnauthorizedError,
    UnreachableError,
    reaction,
)
from osmo_listener.informer.source import Event, EventType, Page, Source, T
from osmo_transport.backoff import Backoff, BackoffConfig
from osmo_transport.bounds import Count, Seconds, SecondsOrZero
from osmo_transport.lean import dataclass

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ReflectorConfig:
    """How to go on after errors; times in seconds."""

    backoff: BackoffConfig = field(
        default_factory=lambda: BackoffConfig(base=0.8, maximum=30.0, healthy_after=60.0)
    )
    """Delays after errors: those of client-go, for each kind of error by itself. A watch that lived
    for a minute was a good one; that is less than the silence after which an idle one is given up,
    so idling never slows us down."""
    shortest_watch: SecondsOrZero = 1.0
    """A watch that the server ends sooner counts as an error, or we would ask again in a loop."""
    fruitless_watches: Count = 3
    """Watches in a row that showed nothing, not even a bookmark, after which a list has to: of
    those that were ended or refused by a server that stands elsewhere than we."""
    longest_blindness: Seconds = 60.0
    """Where watches fail for so long that we are told nothing, be it that rights are missing, that
    the server wants to be spared or that something between cuts streams, a list takes their place:
    once in this time, so that who wants to be spared is."""
    longest_quiet: Seconds = 600.0
    """Where there are no bookmarks, watches that end in time and show nothing are as usual; but
    after so long a list has to say whether really nothing happened."""
    longest_retry_after: SecondsOrZero = 60.0
    """Bound of the delay that a server may ask for."""


NO_ANSWER = (
    UnreachableError,
    KubeconfigError,
    UnauthorizedError,
    ForbiddenError,
    ThrottledError,
)
"""Errors that say nothing of the position that was asked for."""


EXPIRED, UNREADABLE, RESTORED, BLIND = RELISTS = ("expired", "unreadable", "restored", "blind")
"""Why everything is listed once more: the server does not know our position any more, it sent what
cannot be read, it was restored from a backup, or watches show nothing although it is ahead."""

QUESTIONS = 3
"""How often it is asked where the source stands, before it is watched without an answer: a server
may answer watches and no such question."""


_WHY = {ExpiredError: EXPIRED, MalformedError: UNREADABLE, RegressedError: RESTORED}


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
    relists: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(RELISTS, 0)))
    """By reason, one of `RELISTS`, how often the position was given up for a list."""
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
        # One for each kind of error: that a server was away for long says nothing of how long to
        # wait when it is back and says that it still starts, or that our position is lost.
        self._backoffs: defaultdict[type[ListenerError], Backoff] = defaultdict(
            lambda: Backoff(self._config.backoff, draw)
        )
        self.counts = Counts()
        """What was done so far."""
        self.version = 0
        """The version up to which the sink knows everything; 0 before the first list."""
        self.last_sign = clock()
        """When the server was last heard of, by `clock`."""
        self._current_at = clock()
        """When the sink was last told of something, or of everything."""
        self._bookmarked = False
        """Whether the server has ever sent a bookmark: then it does not stay silent."""
        self._showed = False
        """Whether the present watch has shown anything."""

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
                self.counts.relists[await self._follow()] += 1

    async def _follow(self) -> str:
        """Watch until the position is lost; why it is, one of `RELISTS`."""
        fruitless = 0
        while True:
            started, self._showed = self._clock(), False
            failure: ListenerError | None = None
            try:
                await self._watch()
            except ListenerError as exc:
                failure = exc
            lived = self._clock() - started
            for backoff in self._backoffs.values():
                backoff.healthy(lived)
            answered = not isinstance(failure, NO_ANSWER)
            silent = isinstance(failure, SilentError)
            if silent and not self._bookmarked:
                failure = None  # of some resources there are no bookmarks: nothing happened
            elif failure is None and lived < self._config.shortest_watch:
                failure = TruncatedError(f"the API server ended a watch after {lived:.3f} s")
            if failure is not None and await self._recover(failure) is Reaction.RELIST:
                return _WHY.get(type(failure), EXPIRED)
            fruitless = 0 if self._showed else fruitless + answered
            if failure is None and self._showed:
                continue
            stands = await self._position()
            if stands is None:
                continue
            if failure is None:
                self._heard()  # of a resource where nothing happens this is all there is to hear
            if stands < self.version:
                return RESTORED
            lasting = self._is_blind(lived, fruitless, failure)
            if stands > self.version and (lasting or (silent and self._bookmarked)):
                return BLIND

    def _is_blind(self, lived: float, fruitless: int, failure: ListenerError | None) -> bool:
        """Whether watches as the last one, which lived for some seconds, will not show anything."""
        longest, blind = self._config.longest_blindness, self._clock() - self._current_at
        if failure is not None and lived < longest <= blind:
            return True
        if failure is None and not self._bookmarked:
            return blind >= self._config.longest_quiet
        return fruitless >= self._config.fruitless_watches

    async def _position(self) -> int | None:
        """Where the source stands; None: it does not say so.

        Then it is asked again: one that was restored and comes up between the question and the next
        watch takes that from our position, and shows nothing.
        """
        for left in reversed(range(QUESTIONS)):
            try:
                stands = await self._source.position()
            except ListenerError as exc:
                if left:
                    await self._recover(exc)
            else:
                if stands < self.version:
                    logger.warning(
                        "the API server is at version %d, after %d", stands, self.version
                    )
                return stands
        return None

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
        self._current_at = self._clock()

    async def _watch(self) -> None:
        self.counts.watches += 1
        async with contextlib.aclosing(self._source.watch(self.version)) as batches:
            async for events in batches:
                self._heard()
                self._showed = True
                for event in events:
                    if event.version < self.version:
                        raise RegressedError(
                            f"the API server is at version {event.version}, after {self.version}"
                        )
                    self.version = event.version
                await self._sink.happened(events)
                if not self._bookmarked:
                    self._bookmarked = any(e.type is EventType.BOOKMARK for e in events)
                self._current_at = self._clock()

    async def _recover(self, error: ListenerError) -> Reaction:
        """Wait as long as `error` calls for, and say what to do then; raise it if nothing helps."""
        self.counts.failures[type(error).__name__] += 1
        self.counts.last_failure = str(error)
        what = reaction(error, synced=self.counts.lists > 0)
        if what is Reaction.RAISE:
            raise error
        if what is Reaction.REAUTHENTICATE:
            self._source.forget_credentials()
        delay = self._backoffs[type(error)].next_delay()
        if isinstance(error, StatusError) and error.retry_after:
            # On top of what the server asks for, or all its clients come back in one moment.
            delay += min(error.retry_after, self._config.longest_retry_after)
        logger.warning("%s; %s in %.1f s", error, what.value, delay)
        await self._sleep(delay)
        return what

    def _heard(self) -> None:
        self.last_sign = self._clock()
