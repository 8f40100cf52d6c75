"""Adapters for systems that are already deployed: nothing behind them knows that these exist.

`service` is to their listeners what their operator was, on the gRPC port of ours: each of its
`calls` becomes a connection of our own, a `feed`, and its messages are read from `protobuf`.
`layout` is the queue of their operators and workers, in their JSON (`protojson`). Both translate
between `messages` as they have them, with their `times`, and ours.
"""

from osmo_deployed.companion import ListenerServiceCompanion
from osmo_deployed.config import DeployedConfig

__all__ = ("DeployedConfig", "ListenerServiceCompanion")
