"""Where the other side of a connection is, and how that is written."""

import pytest

from osmo_transport import ConnectionLostError, listen, transport_for
from osmo_transport.frames import Limits
from osmo_transport.peers import host_of, network_of, of_grpc, written
from osmo_transport.testing.contracts.transport_suite import Recorder
from osmo_transport.transports.abc import ConnectionConfig, TlsConfig
from tests.helpers import eventually


@pytest.mark.parametrize(
    ("host", "peer"),
    [
        ("10.1.2.3", "10.1.2.3:4567"),
        ("::ffff:10.1.2.3", "10.1.2.3:4567"),
        ("::1", "[::1]:4567"),
        ("fe80::1%eth0", "[fe80::1%eth0]:4567"),
    ],
)
def test_a_peer_is_written_in_one_way(host: str, peer: str) -> None:
    """Whether a socket tells it or gRPC."""
    assert written(host, 4567) == peer
    of_ipv6 = "ipv6:%5B" + host.replace("%", "%25") + "%5D:4567"
    assert of_grpc(of_ipv6 if ":" in host else f"ipv4:{host}:4567") == peer


@pytest.mark.parametrize("peer", ["unix:/run/socket", "unix:", ""])
def test_what_has_no_address_is_left_as_it_is(peer: str) -> None:
    """It is a name."""
    assert of_grpc(peer) == peer


@pytest.mark.parametrize(
    ("peer", "host", "network"),
    [
        ("10.1.2.3:4567", "10.1.2.3", "10.1.2.3"),
        ("[2001:db8:1:2:3:4:5:6]:4567", "[2001:db8:1:2:3:4:5:6]", "2001:db8:1:2::/64"),
        ("[fe80::1%eth0]:4567", "[fe80::1%eth0]", "fe80::/64"),
        ("[::1]:4567", "[::1]", "::/64"),
        ("?", "?", ""),
        ("memory", "memory", ""),
        ("unix:/run/socket", "unix", ""),
        ("1.2.3.4.5:6", "1.2.3.4.5", ""),
        ("", "", ""),
    ],
)
def test_a_host_and_its_network_are_known(peer: str, host: str, network: str) -> None:
    """Of IPv6 the network counts; what has no address has none."""
    assert host_of(peer) == host
    assert network_of(peer) == network


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "[::]"])
@pytest.mark.parametrize("scheme", ["ws", "grpc"])
async def test_a_peer_is_told_alike_over_every_transport(scheme: str, host: str) -> None:
    """An address, and its port behind it; one of IPv4 also where both families come."""
    config = ConnectionConfig(limits=Limits(), tls=TlsConfig(), open_timeout=5.0, max_connections=1)
    async with listen(f"{scheme}://{host}:0") as server:
        url = server.url.replace("[::]", "127.0.0.1")
        try:
            client = await transport_for(url).dial(url, Recorder(), config)
        except ConnectionLostError as exc:
            pytest.skip(f"no IPv6 here: {exc}")
        await eventually(lambda: server.connections)
        (peer,) = server._hub.peers
        name, _, port = peer.address.rpartition(":")
        assert name == host.replace("[::]", "127.0.0.1")
        assert port.isdigit()
        assert peer.presented.address == peer.address
        client.close()
        await client.wait_closed()
