"""Servers and clients over each of the two engines of WebSockets."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from osmo_transport import (
    BackoffConfig,
    Client,
    ClientConfig,
    Server,
    ServerConfig,
    Transport,
    connect,
    listen,
)
from osmo_transport.testing import make_message
from osmo_transport.transports.websocket import over_picows, over_websockets
from osmo_transport.transports.websocket.transport import (
    FULL_BUFFERS_ARE_TOLD,
    Engine,
    WebSocketTransport,
)
from tests.helpers import eventually
from tests.transport.raw import RawPeer, raw_peer

picows_is_bounded = pytest.mark.skipif(
    not FULL_BUFFERS_ARE_TOLD, reason="this Python has CVE-2024-12254: picows is not used"
)
"""For tests of that engine alone."""

ENGINES: dict[str, Engine] = {"websockets": over_websockets}
if FULL_BUFFERS_ARE_TOLD:
    ENGINES["picows"] = over_picows
QUIET = ClientConfig(drain_timeout=0.0)
QUICK = ClientConfig(backoff=BackoffConfig(base=0.01, maximum=0.01), drain_timeout=0.0)


def engine_of(ws: Transport) -> Engine:
    """What the transport is made of."""
    assert isinstance(ws, WebSocketTransport)
    return ws._engine


def listening(
    ws: Transport, config: ServerConfig | None = None
) -> AbstractAsyncContextManager[Server]:
    """A server at a free port."""
    return listen("ws://127.0.0.1:0", config=config, transport=ws)


def connected(
    ws: Transport, url: str, config: ClientConfig = QUICK
) -> AbstractAsyncContextManager[Client]:
    """A client."""
    return connect(url, backend="bystander", config=config, transport=ws)


@asynccontextmanager
async def serving(ws: Transport, config: ServerConfig | None = None) -> AsyncIterator[Server]:
    """A server, and a well-behaved client that has to stay unharmed."""
    async with (
        listening(ws, config) as server,
        connected(ws, server.url, QUIET) as client,
    ):
        await client.epoch_after(0)
        yield server
        await client.send(make_message("still here"))
        await eventually(lambda: client.stats.in_flight)
        assert client.stats.connects == 1


@asynccontextmanager
async def upgraded(server: Server, headers: str = "") -> AsyncIterator[RawPeer]:
    """A peer that has shaken hands, and goes on by itself."""
    async with raw_peer(server.url) as peer:
        assert "101" in await peer.upgrade(headers)
        yield peer
