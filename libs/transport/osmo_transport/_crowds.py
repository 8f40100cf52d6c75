"""How many connections come from one address, and report for one backend."""

import ipaddress
import re
from collections import Counter

HOST_BITS_OF_IPV6 = 64
"""What of an address whoever has one chooses as he likes."""

_PEER = re.compile(r"(?:ipv[46]:)?(?:\[|%5B)?([0-9a-fA-F:.]+?)(?:%[^\]%:]*)?(?:\]|%5D)?:\d+")


def address_of(peer: str) -> str:
    """The address, or of IPv6 the network, of a `Connection.peer`, as sockets and as gRPC write it;
    empty: it has none."""
    found = _PEER.fullmatch(peer)
    try:
        address = ipaddress.ip_address(found[1] if found else "")
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 128 - HOST_BITS_OF_IPV6), strict=False))
    return str(address)


class Crowd:
    """How many there are of each name, and how many may be."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._inside: Counter[str] = Counter()

    def enter(self, name: str) -> str:
        """Count one more; why that is one too many, which is counted all the same, or nothing."""
        self._inside[name] += 1
        return f"{self._most} connections, the limit" if self._inside[name] > self._most else ""

    def leave(self, name: str) -> None:
        """One of those that entered has gone."""
        self._inside[name] -= 1
        if not self._inside[name]:
            del self._inside[name]
