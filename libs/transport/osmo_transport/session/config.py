"""What both sides of a session share: limits and times."""

from dataclasses import asdict, field

from osmo_transport._polling import BUSY_POLL
from osmo_transport.bounds import Bytes, Count, Seconds, ShortWait
from osmo_transport.frames import Limits
from osmo_transport.lean import dataclass

LONGEST_TICK = 1.0
"""Seconds between two ticks of a session, at most."""


@dataclass(frozen=True, kw_only=True)
class OutboxConfig:
    """Bounds of an outbox."""

    max_entries: Count = 500_000
    """Entries of all kinds at which `send` waits: several times the live resources of the largest
    backends, so that it is met only by a mistake."""
    max_bytes: Bytes = 512 * 1024 * 1024
    """Bytes at which `send` waits."""
    max_every_entries: Count = 50_000
    """Entries of `every` kinds beyond which the oldest of them is dropped: hours of events."""
    max_every_bytes: Bytes = 64 * 1024 * 1024
    """Bytes of `every` kinds beyond which the oldest of them is dropped."""


@dataclass(frozen=True, kw_only=True)
class SessionConfig:
    """Limits and times of one side."""

    limits: Limits = field(default_factory=Limits)
    """What this side can take; the smaller of both sides' holds."""
    heartbeat_interval: Seconds = 5.0
    """Seconds of silence after which a ping is sent: often enough within `ServerConfig.lease`, and
    below the idle timeouts of load balancers, of which 60 s is common."""
    heartbeat_timeout: Seconds = 10.0
    """Seconds that the answer may take; then the connection counts as dead."""
    ack_timeout: Seconds = 60.0
    """Seconds that a server may take to acknowledge anything while messages are in flight, pings
    answered or not; then the client connects again, maybe to a server that is in better health
    (client only). Longer than a store's restart, which the server waits for."""
    busy_poll: ShortWait = BUSY_POLL
    """Seconds for which the event loop does not sleep because an answer may come any moment: to a
    client while somebody waits in `flush`, and to a server the next message of one that waited for
    its acknowledgement. Where they take longer it is hardly ever done; 0: never."""
    outbox: OutboxConfig = field(default_factory=OutboxConfig)
    """Bounds of what waits to be sent (client only)."""

    def __post_init__(self) -> None:
        # Not by the types of the fields: frames carry the same class, and the other side is told
        # what is wrong with its limits.
        for name, limit in asdict(self.limits).items():
            if limit < 1:
                raise ValueError(f"limits.{name} is {limit}: it must be at least 1")

    @property
    def tick(self) -> float:
        """Seconds between two calls of a session's `tick`: at most one, and often enough for the
        times above."""
        return min(LONGEST_TICK, self.heartbeat_interval / 4, self.heartbeat_timeout / 4)
