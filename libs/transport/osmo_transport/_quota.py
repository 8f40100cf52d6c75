"""How much a backend may send in a second, and for how long it is not read when that was more."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from math import inf
from typing import Protocol

from osmo_transport._bucket import Bucket
from osmo_transport._text import shown
from osmo_transport.bounds import CountOrZero, SecondsOrZero
from osmo_transport.frames import Limits
from osmo_transport.lean import dataclass

logger = logging.getLogger("osmo_transport.server")

SHORTEST_PAUSE = 0.002
"""Seconds, at least: what comes after it in one go is then little more than what one who keeps to
10 000 messages a second sends at once, and nobody waits for it longer; and not so little that to
read again and again would cost more than it lets through."""

LONGEST_PAUSE = 5.0
"""Seconds, at most: well within the times in which an acknowledgement and an answer to a heartbeat
are waited for. So what a connection has read in one go is let through each time, whatever it
is: less than `READ_AHEAD`."""

LONGEST_WAIT = 30.0
"""Seconds after which a connection is read again although its backend still owes for what others
sent: a client expects an acknowledgement within a minute."""

SLOWED_BATCH = 16 * 1024
"""Bytes of a batch, at most, where there is a quota: what was held back comes in one go, and for so
long nobody else is heard: a quarter of a millisecond."""

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
    """What all connections of each backend may send together, at each server. Over it they are read
    more slowly, and lose nothing: the rest waits at the client."""

    messages: CountOrZero = 0
    """Messages per second of each backend, at each server; 0: as many as come. No bound by default:
    who reports everything at its start should not be held up, and what is a flood depends on
    whoever takes it from the queue. A part of what that can do in a second is a good bound."""
    bytes: CountOrZero = 0
    """Bytes of messages per second of each backend, at each server; 0: as many as come. What one
    connection has read in one go, some 250 kB, is let through every 5 seconds, and of each every
    30, even where that is more."""
    burst: SecondsOrZero = 30.0
    """Seconds of its quota that each backend may send at once, at each server, after it was quiet,
    as it does when it starts."""

    @property
    def is_set(self) -> bool:
        """Whether there is a bound."""
        return bool(self.messages or self.bytes)

    def narrowed(self, limits: Limits) -> Limits:
        """The limits of a server with this quota."""
        if not self.is_set:
            return limits
        return replace(limits, batch_bytes=min(limits.batch_bytes, SLOWED_BATCH))


def _bucket(rate: int, burst: float) -> Bucket | None:
    return Bucket(rate, burst, LONGEST_PAUSE) if rate else None


class Account:
    """What one backend sends, and those of its connections that are not read until that is paid
    for: one goes after the other, the one that has waited longest first."""

    def __init__(self, backend: str, config: QuotaConfig, loop: asyncio.AbstractEventLoop) -> None:
        self.backend = backend
        self.guests = 0
        """Connections that it is for."""
        self._loop = loop
        self._by_count = _bucket(config.messages, config.burst)
        self._by_size = _bucket(config.bytes, config.burst)
        self._waiting: dict[Meter, None] = {}
        """In the order in which they began to wait."""
        self._timer: asyncio.TimerHandle | None = None
        self._logged = -inf

    def charge(self, messages: int, size: int, now: float) -> float:
        """Account for what a connection has sent; seconds for which it should be read no more, none
        or negative: it may go on."""
        by_count, by_size = self._by_count, self._by_size
        wait = -inf if by_count is None else by_count.take(messages, now)
        if by_size is not None and (longer := by_size.take(size, now)) > wait:
            return longer
        return wait

    def owes(self, now: float) -> float:
        """Seconds until all that was sent is paid for, none or negative if it is."""
        buckets = self._by_count, self._by_size
        return max(-inf if bucket is None else bucket.owes(now) for bucket in buckets)

    def wait(self, meter: "Meter", now: float) -> None:
        """A connection is paused, and has to be told when it is over."""
        self._waiting[meter] = None
        if self._timer is None:
            self._rest(now)
        self._log(now)

    def leave(self, meter: "Meter") -> None:
        """It has ended."""
        self._waiting.pop(meter, None)
        if not self._waiting and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _rest(self, now: float) -> None:
        longest = next(iter(self._waiting)).since + LONGEST_WAIT
        until = max(now + SHORTEST_PAUSE, min(now + self.owes(now), longest))
        self._timer = self._loop.call_at(until, self._turn)

    def _turn(self) -> None:
        self._timer = None
        now = self._loop.time()
        first = next(iter(self._waiting))
        if self.owes(now) <= 0 or now >= first.since + LONGEST_WAIT:
            del self._waiting[first]
            first.resume()
        if self._waiting:
            self._rest(now)

    def is_as_new(self, now: float) -> bool:
        """Whether to forget it would change nothing."""
        buckets = self._by_count, self._by_size
        return not self.guests and all(b is None or b.is_full(now) for b in buckets)

    def _log(self, now: float) -> None:
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
    """Accounts for what one connection sends, and pauses it until that is paid for. A connection is
    paused when it has sent something, or is made, and its backend owes: those of a backend that
    have nothing to say are not held up by the others."""

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
        self.pauses = False
        """Whether the connection is not read now."""
        self.since = 0.0
        """When the last pause began."""
        self._over = -inf
        account.guests += 1
        now = loop.time()
        if account.owes(now) > 0:
            self._pause(now)  # or whoever connects anew would have paid

    def slows(self, now: float) -> bool:
        """Whether the connection is slowed down, or was so a moment ago."""
        return self.pauses or now < self._over + SLOWED_FOR

    def charge(self, messages: int, size: int, now: float) -> None:
        """The connection has sent this."""
        if self._account.charge(messages, size, now) > 0 and not self.pauses:
            self._pause(now)

    def close(self) -> None:
        """The connection has ended."""
        self._account.guests -= 1
        self._account.leave(self)
        if self.pauses:
            self._end()

    def resume(self) -> None:
        """It is this connection's turn."""
        self._end()
        self._connection.resume()

    def _pause(self, now: float) -> None:
        self.pauses, self.since = True, now
        self._connection.pause()
        self._account.wait(self, now)

    def _end(self) -> None:
        self.pauses, self._over = False, self._loop.time()
        self._slowed(self._account.backend, self._over - self.since)


class Quotas:
    """The accounts of all backends."""

    def __init__(self, config: QuotaConfig, loop: asyncio.AbstractEventLoop) -> None:
        self._config = config
        self._loop = loop
        self._accounts: dict[str, Account] = {}
        self.slowed: defaultdict[str, float] = defaultdict(float)
        """By backend, seconds for which connections were paused, if only 0."""

    def meter(self, backend: str, connection: Pausable) -> Meter | None:
        """The meter of a connection that is of `backend` from now on; None: there is no bound to
        what it may send."""
        self._count(backend, 0.0)
        if not self._config.is_set:
            return None
        account = self._accounts.get(backend)
        if account is None:
            account = self._accounts[backend] = Account(backend, self._config, self._loop)
        return Meter(account, connection, self._loop, self._count)

    def tick(self, now: float) -> None:
        """Call about once a second: forget who has gone and owes nothing."""
        for account in [each for each in self._accounts.values() if each.is_as_new(now)]:
            del self._accounts[account.backend]

    def _count(self, backend: str, seconds: float) -> None:
        known = backend in self.slowed or len(self.slowed) < MAX_NAMED
        self.slowed[backend if known else OTHERS] += seconds
