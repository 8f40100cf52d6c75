"""What lets an operator's endpoints serve deployed listeners; to make one takes no gRPC."""

from osmo_deployed.config import DeployedConfig
from osmo_transport.transports.abc import Accept, ConnectionConfig


class ListenerServiceCompanion:
    """Lets gRPC endpoints serve deployed listeners; see `osmo_transport.Companion`."""

    transport = "grpc"

    def __init__(self, config: DeployedConfig) -> None:
        self._config = config

    def open(self, accept: Accept, config: ConnectionConfig) -> object:
        """The service, for one endpoint."""
        # Only a gRPC endpoint asks for it, and where there is one the library is installed.
        from osmo_deployed.service import ListenerService  # noqa: PLC0415

        return ListenerService(accept, config, self._config)
