"""Where the other side of a connection is: written in one way, whatever told it.

A *peer* is an address with its port, `10.0.0.1:4242` or `[2001:db8::7]:4242`, or the name of
something that has none.
"""

import ipaddress
from urllib.parse import unquote

from osmo_transport.transports.urls import host_port

HOST_BITS_OF_IPV6 = 64
"""What of an address whoever has one chooses as he likes."""


def written(host: str, port: int | str) -> str:
    """The peer at this address, as sockets tell it: one of IPv4 within IPv6 as what it is."""
    return host_port(host.removeprefix("::ffff:") if "." in host else host, port)


def of_grpc(peer: str) -> str:
    """The peer that gRPC writes as a URI, `ipv6:%5B::1%5D:4242` for example."""
    family, _, rest = peer.partition(":")
    if family not in ("ipv4", "ipv6"):
        return peer
    host, _, port = unquote(rest).rpartition(":")
    return written(host.strip("[]"), port)


def host_of(peer: str) -> str:
    """A peer without its port, which is another one with each try."""
    return peer.rpartition(":")[0] or peer


def network_of(peer: str) -> str:
    """By what bounds for each address count a peer: its address, or of IPv6 the network; empty: it
    has none."""
    try:
        address = ipaddress.ip_address(host_of(peer).strip("[]").partition("%")[0])
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, 128 - HOST_BITS_OF_IPV6), strict=False))
    return str(address)
