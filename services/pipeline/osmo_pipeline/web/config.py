"""What the page is told."""

from dataclasses import field

from osmo_pipeline.config import PatienceConfig, StorePasswordConfig
from osmo_transport import QueueConfig
from osmo_transport.bounds import Count
from osmo_transport.lean import dataclass


@dataclass(frozen=True, kw_only=True)
class WebConfig(PatienceConfig, StorePasswordConfig):
    """Serves a page that shows the fleet, what flows, workflows, nodes and dead letters. Whoever
    reaches the address sees all of it: let nobody but this machine, or put something in front of it
    that knows its users."""

    listen: str = "127.0.0.1:8090"
    """Address to serve the page at; port 0: a free one."""
    store: str = field(repr=False)
    """URL of the workers' state store (sqlite, postgresql)."""
    operations: tuple[str, ...] = field(default=(), repr=False)
    """Operations ports of the workers, host:port or http://host:port: they tell how long a change
    takes until its row is written."""
    hosts: tuple[str, ...] = ()
    """Names by which browsers reach the page, besides localhost and addresses in numbers; a request
    by another name is refused, so that no page of others gets at this one."""
    allow_replay: bool = False
    """Let whoever sees the page replay and drop dead letters."""
    max_viewers: Count = 100
    """Pages that may be open at a time."""
    max_entries: Count = QueueConfig.max_entries
    """Entries that the queue may hold, as the operators are told; beyond it nothing is replayed."""
