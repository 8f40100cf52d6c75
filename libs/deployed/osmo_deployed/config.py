"""Limits and times for listeners that are already deployed."""

from osmo_transport.bounds import Count, Seconds
from osmo_transport.lean import dataclass


@dataclass(frozen=True, kw_only=True)
class DeployedConfig:
    """What their calls may take up (on `grpc://` and `grpcs://`)."""

    max_streams: Count = 64
    """Calls of one backend with one credential, or without any, at once, all of
    `SendListenerMessage` from one address counting as one: a listener has five, and while its
    network breaks again and again some that are not known to be gone yet."""
    window_messages: Count = 1_024
    """Reports of one stream, or single ones of one backend, that may wait to be stored and
    acknowledged: a listener sends 100 before it waits for an acknowledgement."""
    heartbeat_interval: Seconds = 20.0
    """Seconds between two signs of life in a stream of node conditions."""
    unary_idle: Seconds = 60.0
    """Seconds without use after which the connection of a backend's single reports is closed."""
