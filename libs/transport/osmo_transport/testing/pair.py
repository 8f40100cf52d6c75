"""A link within one process, and something to send over it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from osmo_transport.backoff import BackoffConfig
from osmo_transport.client import Client, ClientConfig, connect
from osmo_transport.message import Message, Version, new_message
from osmo_transport.server import Server, ServerConfig, listen
from osmo_transport.testing.kinds import STATE
from osmo_transport.testing.patience import PATIENCE, describe_client, patience
from osmo_transport.transports.abc import Transport

IMPATIENT = ClientConfig(backoff=BackoffConfig(base=0.01, maximum=0.05), drain_timeout=0.0)
"""A client for tests: it connects again at once, and leaves without waiting."""


@asynccontextmanager
async def pair(
    *,
    transport: Transport | None = None,
    client: ClientConfig = IMPATIENT,
    server: ServerConfig | None = None,
    within: float = PATIENCE,
) -> AsyncIterator[tuple[Client, Server]]:
    """A client and a server, connected in memory::

        async with pair() as (client, server):
            await client.send(make_message())
            (incoming,) = await server.receive()
            incoming.acknowledge()

    `transport`, for example a `FaultyTransport`, is the client's way to the server. What is done
    with them takes `within` seconds at most.

    Raises:
        AssertionError: it took longer; the text says which line waited, and for what.
    """
    __tracebackhide__ = True
    async with (
        listen("memory://", config=server) as listening,
        connect(listening.url, backend="backend", config=client, transport=transport) as connected,
    ):

        async def stands() -> str:
            return f"messages: {describe_client(connected)}"

        async with patience(within, stands=stands):
            yield connected, listening


def make_message(
    key: str = "key",
    *,
    kind: str = STATE,
    payload: bytes = b"payload",
    version: Version = Version(0, 1),
    final: bool = False,
) -> Message:
    """A message, of which only what matters to a test has to be said. Its kind is of the policy
    `latest`: one that waits makes way for a newer one of its key."""
    return new_message(kind, key, payload, version=version, final=final)
