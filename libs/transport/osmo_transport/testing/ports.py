"""Ports for servers that a test starts, kills and starts again."""

import secrets
import socket
from pathlib import Path

CLUSTER = 10_000
"""A clustered Redis also listens on the port that is so much higher."""
LOWEST = 10_000
_OUTGOING = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_port() -> int:
    """A port of the loopback interface that nobody listens on.

    Where the system tells, it is below those that it gives to outgoing connections, and so is that
    of a cluster beside it: so none of them takes it before its server listens, or while that is
    down.
    """
    ports = range(LOWEST, _first_outgoing() - CLUSTER)
    while True:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", secrets.choice(ports)))
            except OSError:
                continue
            port: int = probe.getsockname()[1]
            return port


def _first_outgoing() -> int:
    try:
        first = int(_OUTGOING.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 2**16
    return first if first > LOWEST + CLUSTER + 1000 else 2**16
