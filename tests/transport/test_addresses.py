"""What a URL may say and where it leads: the same on every scheme."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest

from osmo_transport import (
    BackoffConfig,
    Client,
    ClientConfig,
    ConnectionLostError,
    Server,
    ServerConfig,
    TlsConfig,
    Transport,
    UsageError,
    connect,
    listen,
    transport_for,
)
from osmo_transport.frames import Limits
from osmo_transport.testing.contracts.transport_suite import Recorder
from osmo_transport.testing.ports import free_port
from osmo_transport.transports.abc import ConnectionConfig
from osmo_transport.transports.websocket import over_picows, over_websockets
from osmo_transport.transports.websocket.transport import WebSocketTransport
from tests.addresses import NAME, black_hole, two_addresses
from tests.helpers import eventually

SOON = 20.0
QUICK = ClientConfig(backoff=BackoffConfig(base=0.01, maximum=0.01), drain_timeout=0.0)

over_sockets = pytest.mark.parametrize("scheme", ["ws", "wss", "grpc", "grpcs"])


@pytest.fixture(params=["picows", "websockets", "grpc"])
def transport(request: pytest.FixtureRequest) -> tuple[str, Transport]:
    """A scheme without certificates, and who serves it."""
    match request.param:
        case "picows":
            return "ws", WebSocketTransport(over_picows)
        case "websockets":
            return "ws", WebSocketTransport(over_websockets)
    return "grpc", transport_for("grpc://")


def config(open_timeout: float = SOON) -> ConnectionConfig:
    return ConnectionConfig(
        limits=Limits(), tls=TlsConfig(), open_timeout=open_timeout, max_connections=1
    )


@over_sockets
@pytest.mark.parametrize(
    ("place", "said"),
    [
        (f"{'a' * 70}.test:1", "no valid host and port"),
        (f"{'a' * 300}:1", "no valid host and port"),
        ("user:secret@127.0.0.1:1", "takes no user and no password"),
        ("user@127.0.0.1:1", "takes no user and no password"),
        ("127.0.0.1:1?x=1", "has a query"),
        ("127.0.0.1:1#x", "has a fragment"),
        ("127.0.0.1", "needs a host and a port"),
        (":8001", "needs a host and a port"),
        ("127.0.0.1:http", "no valid host and port"),
        ("127.0.0.1:65536", "no valid host and port"),
        ("[::1:1", "not a valid URL"),
    ],
)
async def test_what_a_url_may_not_say_is_refused(scheme: str, place: str, said: str) -> None:
    """By whoever listens and whoever connects, and a password is not shown."""
    url = f"{scheme}://{place}"
    with pytest.raises(UsageError, match=said) as dialled:
        await transport_for(url).dial(url, Recorder(), config())
    with pytest.raises(UsageError, match=said) as listened:
        await transport_for(url).listen(url, lambda _: Recorder(), config())
    assert "secret" not in f"{dialled.value}{listened.value}"


async def test_a_path_is_used_or_refused() -> None:
    """It says which of the services behind a gateway is meant; gRPC has none to say it with."""
    for url in ("grpc://127.0.0.1:1/a", "grpcs://127.0.0.1:1/a"):
        with pytest.raises(UsageError, match="has a path"):
            await transport_for(url).dial(url, Recorder(), config())
    for url in ("grpc://127.0.0.1:0/a", "ws://127.0.0.1:0/a"):
        with pytest.raises(UsageError, match="has a path"):
            await transport_for(url).listen(url, lambda _: Recorder(), config())


@asynccontextmanager
async def reached(
    transport: tuple[str, Transport], server: Server, host: str
) -> AsyncIterator[None]:
    """The server lets in who connects to `host`."""
    scheme, opened = transport
    url = f"{scheme}://{host}:{urlsplit(server.url).port}"
    async with (
        asyncio.timeout(SOON),
        connect(url, backend="b", config=QUICK, transport=opened) as c,
    ):
        assert await c.epoch_after(0)
        yield


async def test_every_address_of_the_machine_is_both_families(
    transport: tuple[str, Transport],
) -> None:
    """`[::]` takes IPv4 as well, whatever the scheme."""
    scheme, opened = transport
    async with listen(f"{scheme}://[::]:0", transport=opened) as server:
        for host in ("127.0.0.1", "[::1]"):
            async with reached(transport, server, host):
                pass


async def test_a_name_of_two_addresses_is_listened_at_on_both(
    transport: tuple[str, Transport], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one port."""
    scheme, opened = transport
    with two_addresses(monkeypatch):
        async with listen(f"{scheme}://{NAME}:0", transport=opened) as server:
            for host in ("127.0.0.1", "[::1]"):
                async with reached(transport, server, host):
                    pass


async def test_a_dead_first_address_holds_up_nobody(
    transport: tuple[str, Transport], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one gets its turn beside it, as after the loss of a node or of a route."""
    scheme, opened = transport
    async with listen(f"{scheme}://127.0.0.1:0", transport=opened) as server:
        port = urlsplit(server.url).port or 0
        with black_hole(port), two_addresses(monkeypatch):
            async with reached(transport, server, NAME):
                pass


async def test_who_answers_nothing_is_given_up(transport: tuple[str, Transport]) -> None:
    """In the time that a handshake may take, whatever the scheme."""
    scheme, opened = transport
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"{scheme}://127.0.0.1:{mute.getsockname()[1]}"
        async with asyncio.timeout(SOON):
            with pytest.raises(ConnectionLostError, match="did not answer"):
                await opened.dial(url, Recorder(), config(open_timeout=0.1))


async def test_nobody_there_is_tried_again(transport: tuple[str, Transport]) -> None:
    """And found once it is."""
    scheme, opened = transport
    port = free_port()
    url = f"{scheme}://127.0.0.1:{port}"
    async with (
        asyncio.timeout(SOON),
        connect(url, backend="b", config=QUICK, transport=opened) as c,
    ):
        client: Client = c
        async with listen(url, config=ServerConfig(), transport=opened):
            assert await client.epoch_after(0)
        await eventually(lambda: not client.stats.connected)
