"""How each side notices that the other is gone."""

from math import inf

from osmo_transport.errors import ConnectionLostError
from osmo_transport.session.config import SessionConfig


class Heartbeat:
    """When to ping, and when to give up. A peer is given up only after it left a ping unanswered:
    silence alone may mean that this process was not running."""

    def __init__(self, config: SessionConfig, now: float) -> None:
        self._interval = config.heartbeat_interval
        self._timeout = config.heartbeat_timeout
        self.started = now
        self.heard = now
        self._pinged = -inf

    def due(self, now: float) -> bool:
        """Whether to send a ping now.

        Raises:
            ConnectionLostError: the other side has been silent for too long.
        """
        silent = now - self.heard
        if silent < self._interval:
            return False
        if self._pinged <= self.heard:
            self._pinged = now
            return True
        if now - self._pinged >= self._timeout:
            raise ConnectionLostError(f"the other side has been silent for {silent:.0f} s")
        return False

    def spare(self, now: float) -> bool:
        """In place of `due` while the other side is not read: what it says would not be heard.
        Whether to send a ping, so that it hears of this side."""
        self.heard = now
        if now - self._pinged < self._interval:
            return False
        self._pinged = now
        return True
