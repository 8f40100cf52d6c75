"""Delivery without I/O: everything that makes a link reliable, and nothing that moves a byte.

The client's side keeps an ordered window of unacknowledged messages, bounded in count and bytes,
and sends it again, in order, on every new connection. The server's side takes batches that follow
each other without a gap and acknowledges them cumulatively when they are stored. Both sides watch
each other with pings. Neither knows a clock: `now` is any rising number of seconds.

What the client promises: messages are sent in the order of `put` (a coalesced message keeps the
place of the one it replaced); one leaves the window only when it is acknowledged or refused;
whatever the order of faults, it is sent again until then.

What the server promises: a batch reaches the application once for each connection, in order, with
the sequence numbers under which the queue stores it; nothing is acknowledged that the application
did not tell it to acknowledge.
"""

from osmo_transport.session.client import MAX_PUSHED_KINDS, ClientSession, PartedError, Refusal
from osmo_transport.session.config import SessionConfig
from osmo_transport.session.server import Arrival, Greeting, ServerSession

__all__ = (
    "MAX_PUSHED_KINDS",
    "Arrival",
    "ClientSession",
    "Greeting",
    "PartedError",
    "Refusal",
    "ServerSession",
    "SessionConfig",
)
