"""Delays between tries: full jitter over an exponential cap.

After "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015): a delay is drawn evenly
between zero and the cap of its try, so that a thousand clients that fail together do not return
together.
"""

import random
from collections.abc import Callable

from osmo_transport.bounds import Seconds, SecondsOrZero
from osmo_transport.lean import dataclass


@dataclass(frozen=True, kw_only=True)
class BackoffConfig:
    """How long to wait between tries."""

    base: Seconds = 0.1
    """Cap of the first delay in seconds: short, because most losses are restarts of one process."""
    maximum: Seconds = 10.0
    """Cap of every delay in seconds: bounds how long a recovered peer waits for us."""
    healthy_after: SecondsOrZero = 10.0
    """A connection that lived this many seconds starts the count anew."""


class Backoff:
    """Counts the tries of one owner. `draw` is a source of numbers in [0, 1)."""

    def __init__(self, config: BackoffConfig, draw: Callable[[], float] = random.random) -> None:
        self._config = config
        self._draw = draw
        self._tries = 0

    def next_delay(self) -> float:
        """Seconds to wait before the next try."""
        # The exponent is bounded because 2**n overflows a float long before a peer gives up.
        cap = min(self._config.maximum, self._config.base * float(1 << min(self._tries, 32)))
        self._tries += 1
        return self._draw() * cap

    def healthy(self, lived: float) -> None:
        """Tell that a try succeeded and lasted `lived` seconds."""
        if lived >= self._config.healthy_after:
            self._tries = 0
