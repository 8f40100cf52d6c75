"""How much a backend may send in a second, and for how long it is not read when that was more."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf
from typing import Protocol

from osmo_transport._text import shown
from osmo_transport.bounds import CountOrZero, SecondsOrZero
from osmo_transport.frames import Limits

logger = logging.getLogger("osmo_transport.server")

SHORTEST_PAUSE = 0.01
"""Seconds, at least: little enough that what comes after it in one go is little, and not so little
that to read again and again would cost more than it lets through."""

LONGEST_PAUSE = 5.0
"""Seconds, at most: well within the times in which an acknowledgement and an answer to a heartbeat
are waited for. So what a connection has read in one go is let through each time, whatever it
is: less than `READ_AHEAD`."""

SLOWED_BATCH = 32 * 1024
"""Bytes of a batch, at most, where there is a quota: what was held back comes in one go, and for so
long nobody else is heard. The time that an event loop needs for it is below a millisecond."""

SLOWED_FOR = 1.0
"""Seconds after a pause for which a connection counts as slowed down: what it could not send is
still to come."""

LOG_INTERVAL = 60.0
"""Seconds between two lines about one backend."""

MAX_NAMED = 1_000
"""Backends that are counted by their name; further ones are counted together."""

OTHERS = "(others)"
"""Their name."""


@dataclass(frozen=True, kw_only=True)
class QuotaConfig:
    """What all connections of one backend may send together. Over it they are read more slowly, and
    lose nothing: the rest waits at the client."""

    messages: CountOrZero = 0
    """Messages per second; 0: as many as come. No bound by default: who reports everything at its
    start should not be held up, and what is a flood depends on whoever takes it from the queue. A
    part of what that can do in a second is a good bound."""
    bytes: CountOrZero = 0
    """Bytes of messages per second; 0: as many as come. Of each connection some 250 kB are let
    through every 5 seconds, even where that is more."""
    burst: SecondsOrZero = 30.0
    """Seconds of its quota that a backend which was quiet may send at once, as it does when it
    starts."""

    @property
    def is_set(self) -> bool:
        """Whether there is a bound."""
        return bool(self.messages or self.bytes)

    def narrowed(self, limits: Limits) -> Limits:
        """The limits of a server with this quota."""
        if not self.is_set:
            return limits
        return replace(limits, batch_bytes=min(limits.batch_bytes, SLOWED_BATCH))


class Bucket:
    """A token bucket that can be in debt, kept as the time at which everything is paid for.

    Args:
        rate: tokens that come in a second.
        burst: seconds for which they are saved up.
    """

    __slots__ = ("_burst", "_paid", "_price")

    def __init__(self, rate: float, burst: float) -> None:
        self._price = 1 / rate
        self._burst = burst
        self._paid = -inf

    def take(self, tokens: int, now: float) -> float:
        """Take what there is, and owe the rest, at most what comes in `LONGEST_PAUSE`; seconds
        until that is paid, none or negative if nothing is owed."""
        # Not by `min` and `max`, each of which costs as much as all of this, for every batch.
        begun = now - self._burst
        if self._paid > begun:  # noqa: PLR1730
            begun = self._paid
        wait = begun + tokens * self._price - now
        if wait > LONGEST_PAUSE:  # noqa: PLR1730
            wait = LONGEST_PAUSE
        self._paid = now + wait
        return wait

    def is_full(self, now: float) -> bool:
        """Whether all is saved up that can be, as at the beginning."""
        return self._paid <= now - self._burst


class Account:
    """What one backend sends."""

    def __init__(self, backend: str, config: QuotaConfig) -> None:
        self.backend = backend
        self.guests = 0
        """Connections that it is for."""
        self._by_count = Bucket(config.messages, config.burst) if config.messages else None
        self._by_size = Bucket(config.bytes, config.burst) if config.bytes else None
        self._logged = -inf

    def charge(self, messages: int, size: int, now: float) -> float:
        """Account for what a connection has sent; seconds for which it should be read no more, none
        or negative: it may go on."""
        by_count, by_size = self._by_count, self._by_size
        wait = -inf if by_count is None else by_count.take(messages, now)
        if by_size is not None and (longer := by_size.take(size, now)) > wait:
            return longer
        return wait

    def is_as_new(self, now: float) -> bool:
        """Whether to forget it would change nothing."""
        buckets = self._by_count, self._by_size
        return not self.guests and all(b is None or b.is_full(now) for b in buckets)

    def log(self, now: float) -> None:
        """Say that it is slowed down, if that was not said a moment ago."""
        if now - self._logged >= LOG_INTERVAL:
            self._logged = now
            logger.warning("%s sends more than its quota: it is slowed down", shown(self.backend))


class Pausable(Protocol):
    """A connection."""

    def pause(self) -> None:
        """See `Connection`."""

    def resume(self) -> None:
        """See `Connection`."""


class Meter:
    """Accounts for what one connection sends, and pauses it until that is paid for. Each connection
    is paused for itself, when it has sent something: those of a backend that have nothing to say
    are not held up by the others."""

    def __init__(
        self,
        account: Account,
        connection: Pausable,
        loop: asyncio.AbstractEventLoop,
        slowed: Callable[[str, float], None],
    ) -> None:
        self._account = account
        self._connection = connection
        self._loop = loop
        self._slowed = slowed
        self._since, self._until = 0.0, -inf
        self._timer: asyncio.TimerHandle | None = None
        account.guests += 1

    @property
    def pauses(self) -> bool:
        """Whether the connection is not read now."""
        return self._timer is not None

    def slows(self, now: float) -> bool:
        """Whether the connection is slowed down, or was so a moment ago."""
        return now < self._until + SLOWED_FOR

    def charge(self, messages: int, size: int, now: float) -> None:
        """The connection has sent this."""
        wait = self._account.charge(messages, size, now)
        if wait > 0:
            self._pause(wait, now)

    def close(self) -> None:
        """The connection has ended."""
        self._account.guests -= 1
        if self._timer is not None:
            self._timer.cancel()
            self._over()

    def _pause(self, wait: float, now: float) -> None:
        # What had been read already comes after the pause has begun, and is paid for as well.
        self._until = now + max(wait, SHORTEST_PAUSE)
        if self._timer is None:
            self._since = now
            self._timer = self._loop.call_at(self._until, self._look)
            self._connection.pause()
            self._account.log(now)

    def _look(self) -> None:
        if self._until > self._loop.time():
            self._timer = self._loop.call_at(self._until, self._look)
        else:
            self._over()
            self._connection.resume()

    def _over(self) -> None:
        self._timer = None
        self._slowed(self._account.backend, self._loop.time() - self._since)


class Quotas:
    """The accounts of all backends."""

    def __init__(self, config: QuotaConfig, loop: asyncio.AbstractEventLoop) -> None:
        self._config = config
        self._loop = loop
        self._accounts: dict[str, Account] = {}
        self.slowed: defaultdict[str, float] = defaultdict(float)
        """By backend, seconds for which connections were paused."""

    def meter(self, backend: str, connection: Pausable) -> Meter | None:
        """The meter of a connection that reports for `backend` from now on; None: there is no bound
        to what it may send."""
        if not self._config.is_set:
            return None
        account = self._accounts.get(backend)
        if account is None:
            account = self._accounts[backend] = Account(backend, self._config)
        return Meter(account, connection, self._loop, self._count)

    def tick(self, now: float) -> None:
        """Call about once a second: forget who has gone and owes nothing."""
        for account in [each for each in self._accounts.values() if each.is_as_new(now)]:
            del self._accounts[account.backend]

    def _count(self, backend: str, seconds: float) -> None:
        known = backend in self.slowed or len(self.slowed) < MAX_NAMED
        self.slowed[backend if known else OTHERS] += seconds
