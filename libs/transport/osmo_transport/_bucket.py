"""A rate, and what is bounded by one on every connection: frames that bring no message."""

from math import inf

from osmo_transport.errors import PeerError

IDLE_FRAMES = 100
"""Frames a second that bring no message, heartbeats for example: many more than anybody has to
send, and their cost is a part of a percent of a core."""

IDLE_BURST = 2.0
"""Seconds of them that may come at once, as after a network that stood still."""


class Bucket:
    """A token bucket that can be in debt, kept as the time at which everything is paid for.

    Args:
        rate: tokens that come in a second.
        burst: seconds for which they are saved up.
        debt: seconds for which it is in debt, at most.
    """

    __slots__ = ("_burst", "_debt", "_paid", "_price")

    def __init__(self, rate: float, burst: float, debt: float = inf) -> None:
        self._price = 1 / rate
        self._burst = burst
        self._debt = debt
        self._paid = -inf

    def take(self, tokens: int, now: float) -> float:
        """Take what there is, and owe the rest, at most what comes in the longest debt; seconds
        until that is paid, none or negative if nothing is owed."""
        # Not by `min` and `max`, each of which costs as much as all of this, for every batch.
        begun = now - self._burst
        if self._paid > begun:  # noqa: PLR1730
            begun = self._paid
        wait = begun + tokens * self._price - now
        if wait > self._debt:  # noqa: PLR1730
            wait = self._debt
        self._paid = now + wait
        return wait

    def owes(self, now: float) -> float:
        """Seconds until what is owed is paid, none or negative if nothing is."""
        return self._paid - now

    def is_full(self, now: float) -> bool:
        """Whether all is saved up that can be, as at the beginning."""
        return self._paid <= now - self._burst


class IdleFrames:
    """The frames of one connection that bring no message."""

    __slots__ = ("_bucket",)

    def __init__(self) -> None:
        self._bucket = Bucket(IDLE_FRAMES, IDLE_BURST)

    def count(self, now: float) -> None:
        """One more came.

        Raises:
            PeerError: there are too many.
        """
        if self._bucket.take(1, now) > 0:
            raise PeerError(f"more than {IDLE_FRAMES} frames without a message in a second")
