"""Ports for servers that a test starts, kills and starts again."""

import secrets
import socket
from pathlib import Path

HIGHEST = 2**16 - 10_000
"""A clustered Redis also listens on the port that is so much higher."""
LOWEST = 10_000
_OUTGOING = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_port() -> int:
    """A port of the loopback interface that nobody listens on.

    Where the system tells, it is below those that it gives to outgoing connections: so none of
    them takes it before its server listens, or while that is down.
    """
    ports = range(LOWEST, min(HIGHEST, _first_outgoing()))
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
        return HIGHEST
    return first if first > LOWEST + 1000 else HIGHEST
