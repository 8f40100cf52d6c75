"""What a gRPC endpoint serves beside our own service: deployed listeners, health, reflection."""

from grpc import aio
from grpc_reflection.v1alpha import reflection

from osmo_transport.transports.abc import Accept, LinkConfig
from osmo_transport.transports.health import Health
from osmo_transport.transports.listener_service import ListenerService


class Companions:
    """The services, on one server."""

    def __init__(self, server: aio.Server, own: str, accept: Accept, config: LinkConfig) -> None:
        """Add them to a `server` that has our `own` service."""
        names = (own, ListenerService.name)
        self._deployed = ListenerService(accept, config)
        self._health = Health(names, config.ready)
        server.add_generic_rpc_handlers((self._deployed.handlers, self._health.handlers))
        reflection.enable_server_reflection((*names, Health.name, reflection.SERVICE_NAME), server)

    def close(self) -> None:
        """End every call."""
        self._deployed.close()
        self._health.close()
