"""What a gRPC endpoint serves beside our own service."""

from typing import Protocol, cast

import grpc
from grpc import aio

from osmo_transport.transports.abc import Accept, ConnectionConfig
from osmo_transport.transports.grpc.health import Health
from osmo_transport.transports.grpc.reflection import Reflection


class Service(Protocol):
    """What a companion of the transport `grpc` opens."""

    @property
    def name(self) -> str:
        """Its full name, as reflection and health tell it."""

    @property
    def handlers(self) -> grpc.GenericRpcHandler:
        """What to add to the server."""

    def close(self) -> None:
        """End every call: the endpoint closes."""


class Services:
    """The companions' services, health and reflection, on one server."""

    def __init__(
        self, server: aio.Server, own: str, accept: Accept, config: ConnectionConfig
    ) -> None:
        """Add them to a `server` that has our `own` service."""
        self._services: list[Service] = [
            cast("Service", companion.open(accept, config))
            for companion in config.companions
            if companion.transport == "grpc"
        ]
        names = (own, *(service.name for service in self._services))
        self._services += [
            Health(names, config.ready),
            Reflection((*names, Health.name)),
        ]
        server.add_generic_rpc_handlers(tuple(service.handlers for service in self._services))

    def close(self) -> None:
        """End every call."""
        for service in self._services:
            service.close()
