"""Until when somebody has to be let in, whatever he does meanwhile, and how many may be coming."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

import pytest

from osmo_transport import (
    Limits,
    Server,
    ServerConfig,
    SessionConfig,
    TlsConfig,
    Transport,
    connect,
    listen,
    transport_for,
)
from osmo_transport.testing.contracts.transport_suite import Recorder
from osmo_transport.transports import door
from osmo_transport.transports.abc import Connection, ConnectionConfig, FrameSink
from osmo_transport.transports.tls import client_context
from osmo_transport.transports.websocket.transport import WebSocketTransport
from tests.helpers import eventually
from tests.transport.certificates import Authority
from tests.transport.engines import ENGINES
from tests.transport.raw import PING, RawPeer, frame, raw_peer

pytestmark = pytest.mark.usefixtures("no_socket_left")

SOON = 0.3
"""Seconds of the one time limit."""

WAYS = {"grpc": transport_for("grpc://")} | {
    name: WebSocketTransport(engine) for name, engine in ENGINES.items()
}
WEBSOCKETS = [name for name in WAYS if name != "grpc"]


async def nothing(_: RawPeer) -> None:
    """Says nothing at all."""


async def half_a_request(peer: RawPeer) -> None:
    """Begins to ask for a WebSocket."""
    peer.write(b"GET /osmo/v1 HTTP/1.1\r\nHost: x\r\n")


async def an_upgrade(peer: RawPeer) -> None:
    """Is let in by HTTP, and does not say hello."""
    await peer.upgrade()


STAGES = [(nothing, b""), (half_a_request, b"X"), (an_upgrade, frame(PING, b""))]


@asynccontextmanager
async def serving(way: str, tls: TlsConfig | None = None) -> AsyncIterator[Server]:
    scheme = "grpc" if way == "grpc" else "ws"
    quick = SessionConfig(heartbeat_interval=SOON)
    config = ServerConfig(open_timeout=SOON, tls=tls or TlsConfig(), session=quick)
    url = f"{scheme}{'s' if tls else ''}://127.0.0.1:0"
    transport: Transport = WAYS[way]
    async with listen(url, transport=transport, config=config) as server:
        yield server


async def cut_off(peer: RawPeer, drip: bytes = b"") -> None:
    """Wait until the server hangs up on one who says this again and again."""

    async def dripping() -> None:
        while drip:
            peer.write(drip)
            await asyncio.sleep(SOON / 10)

    drips = asyncio.create_task(dripping())
    try:
        await peer.at_end()
    finally:
        drips.cancel()


@pytest.mark.parametrize(("stage", "drip"), STAGES, ids=["nothing", "a request", "no hello"])
@pytest.mark.parametrize("way", WEBSOCKETS)
async def test_who_does_not_say_hello_is_cut_off(
    way: str, stage: Callable[[RawPeer], Awaitable[None]], drip: bytes
) -> None:
    """At whatever stage he stops; that he says something meanwhile prolongs nothing."""
    async with serving(way) as server, raw_peer(server.url) as peer:
        await stage(peer)
        await cut_off(peer, drip)
        await eventually(lambda: not server.connections)


@pytest.mark.parametrize("way", WAYS)
async def test_tls_is_a_part_of_the_time(way: str, trusted: Authority) -> None:
    """Nobody gets another while for it: neither who does not begin, nor who drips."""
    async with serving(way, trusted.signed("server")) as server:
        for drip in (b"", b"\x16"):
            async with raw_peer(server.url) as peer:
                peer.write(b"\x16\x03\x01\x02\x00")
                await cut_off(peer, drip)


@pytest.mark.parametrize("way", WEBSOCKETS)
async def test_the_time_for_a_hello_begins_where_that_of_tls_began(
    way: str, trusted: Authority
) -> None:
    """Who is slow at every step has the time of one."""
    loop = asyncio.get_running_loop()
    accepted: list[Connection] = []

    def accept(connection: Connection) -> FrameSink:
        accepted.append(connection)
        return Recorder()

    config = ConnectionConfig(
        limits=Limits(), tls=trusted.signed("server"), open_timeout=20.0, max_connections=1
    )
    endpoint = await WAYS[way].listen("wss://127.0.0.1:0", accept, config)
    assert isinstance(endpoint, door.SocketEndpoint)
    place = urlsplit(endpoint.url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    await eventually(lambda: endpoint._door.coming)
    began = loop.time()
    context = client_context(TlsConfig(ca_file=trusted.ca_file))
    await writer.start_tls(context, server_hostname="127.0.0.1")
    await an_upgrade(RawPeer(reader, writer))
    await eventually(lambda: accepted)
    since = accepted[0].since
    assert since is not None
    assert since <= began
    await eventually(lambda: not endpoint._door.coming)
    writer.transport.abort()
    await endpoint.aclose()


@pytest.mark.parametrize("way", WEBSOCKETS)
async def test_who_says_nothing_keeps_nobody_out(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest of those who are coming goes, when there are too many."""
    monkeypatch.setattr(door, "MOST_COMING", 5)
    config = ServerConfig(open_timeout=3600.0)
    async with (
        listen("ws://127.0.0.1:0", transport=WAYS[way], config=config) as server,
        AsyncExitStack() as stack,
    ):
        silent = [await stack.enter_async_context(raw_peer(server.url)) for _ in range(12)]
        async with connect(server.url, backend="b") as client:
            assert await client.epoch_after(0)
        for peer in silent[:7]:
            await peer.at_end()
        (kept,) = silent[-1:]
        await kept.upgrade()
        assert server.connections == 1


@pytest.mark.parametrize("way", WEBSOCKETS)
async def test_who_is_let_in_has_all_the_time(way: str) -> None:
    """The limit is one of coming in."""
    async with serving(way) as server, connect(server.url, backend="b") as client:
        assert await client.epoch_after(0)
        await asyncio.sleep(2 * SOON)
        assert client.stats.connects == 1
        assert client.stats.connected
