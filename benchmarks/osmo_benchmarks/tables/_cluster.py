"""A Redis Cluster of plain redis-server processes, without replicas."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

from osmo_benchmarks.errors import WrongResultError
from osmo_transport.testing.redis_server import RedisServer

NODES = 3
SLOTS = 16_384
READY_TIMEOUT = 20.0
"""Seconds until the nodes know of each other; a fresh one also stays away from clients for 2 s."""
POLL = 0.05
"""Seconds between two questions whether they do."""


@asynccontextmanager
async def redis_cluster() -> AsyncIterator[list[RedisServer]]:
    """Its nodes, each with a third of the slots.

    Raises:
        WrongResultError: they do not come together.
    """
    with ExitStack() as stack:
        nodes = [stack.enter_context(RedisServer(cluster_enabled="yes")) for _ in range(NODES)]
        for number, node in enumerate(nodes):
            node.command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            node.command("CLUSTER", "ADDSLOTS", *range(number, SLOTS, NODES))
            node.command("CLUSTER", "MEET", "127.0.0.1", nodes[0].port)
        deadline = time.monotonic() + READY_TIMEOUT
        while not all(_is_ready(node) for node in nodes):
            if time.monotonic() > deadline:
                raise WrongResultError(f"the Redis Cluster is not ready in {READY_TIMEOUT:g} s")
            await asyncio.sleep(POLL)
        yield nodes


def owner(nodes: list[RedisServer], name: str) -> RedisServer:
    """The node that holds the keys of the queue `name`."""
    slot: int = nodes[0].command("CLUSTER", "KEYSLOT", name)
    return nodes[slot % NODES]


def _is_ready(node: RedisServer) -> bool:
    lines = node.command("CLUSTER", "INFO").split(b"\r\n")
    return {b"cluster_state:ok", b"cluster_known_nodes:%d" % NODES} <= set(lines)
