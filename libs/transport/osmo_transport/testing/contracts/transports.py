"""The contract of a transport as tests that any implementation can be put to.

Subclass `TransportContract`, say where to listen, and let pytest collect the subclass::

    class TestMyTransport(TransportContract):
        url = "my://127.0.0.1:0"

Needs pytest; the tests run under pytest-asyncio or under anyio's plugin.
"""

from osmo_transport.testing.contracts.transport_delivering import Delivering
from osmo_transport.testing.contracts.transport_enduring import Enduring
from osmo_transport.testing.contracts.transport_frames import Endpoints, Frames


class TransportContract(Frames, Endpoints, Delivering, Enduring):
    """One test for each promise, of the transport and of the client and the server over it.

    Override `url`, and `server_tls` and `client_tls` for a secure scheme. The transport is found by
    its scheme, as users find it.
    """
