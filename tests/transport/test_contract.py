"""Every transport keeps the contract."""

import pytest

from osmo_transport import TlsConfig, Transport
from osmo_transport.testing.contracts.transports import TransportContract
from osmo_transport.transports.websocket import over_picows, over_websockets
from osmo_transport.transports.websocket.transport import WebSocketTransport
from tests.transport.certificates import Authority
from tests.transport.engines import picows_is_bounded

pytestmark = pytest.mark.usefixtures("no_socket_left")


class TestMemory(TransportContract):
    """Within one process."""

    url = "memory://"


class TestWebSocket(TransportContract):
    """Over loopback, by the engine that every installation has."""

    url = "ws://127.0.0.1:0"

    def transport(self) -> Transport:
        return WebSocketTransport(over_websockets)


@picows_is_bounded
class TestFastWebSocket(TransportContract):
    """Over loopback, by the engine of the extra `speed`."""

    url = "ws://127.0.0.1:0"

    def transport(self) -> Transport:
        return WebSocketTransport(over_picows)


class TestGrpc(TransportContract):
    """Over loopback."""

    url = "grpc://127.0.0.1:0"


@pytest.fixture(scope="class")
def _certificates(request: pytest.FixtureRequest, trusted: Authority) -> None:
    request.cls.server_tls = trusted.signed("server")
    request.cls.client_tls = TlsConfig(ca_file=trusted.ca_file)


@pytest.mark.usefixtures("_certificates")
class TestSecureWebSocket(TransportContract):
    """Over loopback, encrypted."""

    url = "wss://127.0.0.1:0"

    def transport(self) -> Transport:
        return WebSocketTransport(over_websockets)


@picows_is_bounded
@pytest.mark.usefixtures("_certificates")
class TestSecureFastWebSocket(TransportContract):
    """Over loopback, encrypted."""

    url = "wss://127.0.0.1:0"

    def transport(self) -> Transport:
        return WebSocketTransport(over_picows)


@pytest.mark.usefixtures("_certificates")
class TestSecureGrpc(TransportContract):
    """Over loopback, encrypted."""

    url = "grpcs://127.0.0.1:0"
