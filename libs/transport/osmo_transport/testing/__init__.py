"""Public test tools.

- `pair`: a client and a server in memory, connected.
- `FaultyTransport`: a transport that breaks on demand.
- `make_message`: a message with defaults for everything.
- `TransportContract`, `QueueContract`, `AuthenticatorContract`: the promises of a transport, of a
  queue and of a kind of credential as tests, to be subclassed for an implementation of one's own.
  They need pytest.
- The pytest plugin `osmo_transport.testing.plugin`, which is installed with the package: its
  fixtures `osmo_transport` and `osmo_queue` run a test over every installed implementation.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from osmo_transport.testing.faults import FaultyTransport, Way
from osmo_transport.testing.pair import make_message, pair

if TYPE_CHECKING:
    from osmo_transport.testing.contracts.credentials import AuthenticatorContract
    from osmo_transport.testing.contracts.queues import QueueContract
    from osmo_transport.testing.contracts.transports import TransportContract

__all__ = (
    "AuthenticatorContract",
    "FaultyTransport",
    "QueueContract",
    "TransportContract",
    "Way",
    "make_message",
    "pair",
)

_NEEDS_PYTEST = {
    "AuthenticatorContract": "osmo_transport.testing.contracts.credentials",
    "QueueContract": "osmo_transport.testing.contracts.queues",
    "TransportContract": "osmo_transport.testing.contracts.transports",
}


def __getattr__(name: str) -> Any:
    if name not in _NEEDS_PYTEST:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_NEEDS_PYTEST[name]), name)
