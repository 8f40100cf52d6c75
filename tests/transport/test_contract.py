"""Every transport keeps the contract."""

import pytest

from osmo_transport import TlsConfig
from osmo_transport.testing.transport_contract import TransportContract
from tests.transport.certificates import Authority

pytestmark = pytest.mark.usefixtures("no_socket_left")


class TestMemory(TransportContract):
    """Within one process."""

    url = "memory://"


class TestWebSocket(TransportContract):
    """Over loopback."""

    url = "ws://127.0.0.1:0"


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


@pytest.mark.usefixtures("_certificates")
class TestSecureGrpc(TransportContract):
    """Over loopback, encrypted."""

    url = "grpcs://127.0.0.1:0"
