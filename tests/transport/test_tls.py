"""Certificates: who trusts whom, and what is said when somebody does not."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    suppress,
)
from pathlib import Path
from typing import NamedTuple

import pytest

from osmo_transport import (
    BackoffConfig,
    Client,
    ClientConfig,
    Server,
    ServerConfig,
    TlsConfig,
    Transport,
    UsageError,
    connect,
    listen,
    transport_for,
)
from osmo_transport.testing import make_message
from osmo_transport.transports import tls
from osmo_transport.transports.tls import system_authorities
from osmo_transport.transports.websocket.transport import WebSocketTransport
from tests.transport.certificates import Authority, authority
from tests.transport.engines import ENGINES

pytestmark = pytest.mark.usefixtures("no_socket_left")

WAYS = {f"wss, {engine}": engine for engine in ENGINES} | {"grpcs": None}
"""Secure schemes, those of WebSockets over each of the engines."""


class Way(NamedTuple):
    """One secure scheme, and what serves it."""

    scheme: str
    transport: Transport

    @asynccontextmanager
    async def serving(self, tls: TlsConfig) -> AsyncIterator[Server]:
        """A server with these certificates."""
        url, config = f"{self.scheme}://127.0.0.1:0", ServerConfig(tls=tls)
        async with listen(url, config=config, transport=self.transport) as server:
            yield server

    def connected(
        self, url: str, tls: TlsConfig, backend: str = "b"
    ) -> AbstractAsyncContextManager[Client]:
        """A client with these certificates."""
        backoff = BackoffConfig(base=0.01, maximum=0.05)
        config = ClientConfig(tls=tls, backoff=backoff, drain_timeout=0.0)
        return connect(url, backend=backend, config=config, transport=self.transport)


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Way:
    """Each in turn."""
    engine = WAYS[request.param]
    if engine is None:
        return Way("grpcs", transport_for("grpcs://"))
    return Way("wss", WebSocketTransport(ENGINES[engine]))


async def test_a_server_may_ask_for_a_certificate(way: Way, trusted: Authority) -> None:
    """With a `ca_file`; those that it signed for are let in."""
    own, mine = trusted.signed("server"), trusted.signed("client")
    asking, known = (
        TlsConfig(ca_file=trusted.ca_file, cert_file=each.cert_file, key_file=each.key_file)
        for each in (own, mine)
    )
    async with way.serving(asking) as server, way.connected(server.url, known) as client:
        await client.send(make_message())
        (incoming,) = await server.receive()
        incoming.acknowledge()
        await client.flush()


@pytest.mark.parametrize("content", [None, "not a certificate"])
async def test_a_file_that_is_no_certificate_is_named(
    way: Way, content: str | None, tmp_path: Path
) -> None:
    """Absent or broken, on either side."""
    path = tmp_path / "broken.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageError, match=r"broken\.pem"):
        async with way.serving(TlsConfig(cert_file=path, key_file=path)):
            pass
    url = f"{way.scheme}://127.0.0.1:1"
    async with way.connected(url, TlsConfig(ca_file=path)) as client:
        with pytest.raises(UsageError, match=r"broken\.pem"):
            await client.epoch_after(0)


@pytest.mark.parametrize("plain", ["ws", "grpc"])
async def test_a_plain_server_is_no_secure_one(way: Way, plain: str, trusted: Authority) -> None:
    """The client does not fall back to talking in the clear; it keeps trying, as the server may
    yet be configured."""
    async with listen(f"{plain}://127.0.0.1:0") as server:
        url = server.url.replace(f"{plain}:", f"{way.scheme}:")
        async with way.connected(url, TlsConfig(ca_file=trusted.ca_file)) as client:
            await asyncio.sleep(0.1)
            assert client.stats.connects == 0


async def test_an_authority_that_does_not_say_what_it_is_for_is_trusted(
    way: Way, tmp_path: Path
) -> None:
    """As by every other program on the machine: many a company's was made before Python 3.13 asked
    for it."""
    old = authority(tmp_path, extensions=())
    async with (
        way.serving(old.signed("server")) as server,
        way.connected(server.url, TlsConfig(ca_file=old.ca_file)) as client,
    ):
        assert await client.epoch_after(0)


def test_the_authority_of_these_tests_is_one_for_every_python(trusted: Authority) -> None:
    """Python 3.13 asks more of it than those before; here it is asked for everywhere."""
    strict = ssl.create_default_context(cafile=trusted.ca_file)
    strict.verify_flags |= ssl.VERIFY_X509_STRICT
    server_tls = trusted.signed("server")
    assert server_tls.cert_file is not None
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    serving.load_cert_chain(server_tls.cert_file, server_tls.key_file)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = strict.wrap_bio(to_client, to_server, server_hostname="localhost")
    server = serving.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(3):
        for side in (client, server):
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
    assert client.version() is not None


async def test_who_begins_no_handshake_is_cut_off(way: Way, trusted: Authority) -> None:
    """After `open_timeout`, as whoever sends no request over a plain scheme."""
    config = ServerConfig(tls=trusted.signed("server"), open_timeout=0.1)
    url = f"{way.scheme}://127.0.0.1:0"
    async with listen(url, config=config, transport=way.transport) as server:
        host, _, port = server.url.rpartition("/")[2].rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        async with asyncio.timeout(10):
            with suppress(ConnectionResetError):
                assert not await reader.read()
        writer.close()
        await writer.wait_closed()


def test_an_authority_that_cannot_be_read_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trusted: Authority
) -> None:
    """A dangling link stands in many a folder of certificates; a file and a folder count both."""
    (tmp_path / "12345678.0").symlink_to(tmp_path / "nothing")
    (tmp_path / "23456789.0").write_bytes(b"one of a folder")
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted.ca_file))
    assert system_authorities() == trusted.ca_file.read_bytes() + b"\none of a folder"


async def test_files_that_go_away_are_named(
    way: Way, trusted: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever library reads them."""
    ca_file = tmp_path / "ca.pem"
    with pytest.raises(UsageError, match=r"ca\.pem"):
        async with way.connected(f"{way.scheme}://127.0.0.1:1", TlsConfig(ca_file=ca_file)) as c:
            await c.epoch_after(0)


@pytest.mark.parametrize("clients", [3])
async def test_a_certificate_that_is_replaced_is_used_from_then_on(
    way: Way,
    clients: int,
    trusted: Authority,
    stranger: Authority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """By new handshakes; who is connected stays, and a broken new one changes nothing."""
    monkeypatch.setattr(tls, "LOOK_INTERVAL", 0.0)
    files = TlsConfig(cert_file=tmp_path / "tls.pem", key_file=tmp_path / "tls.key")

    def put(source: TlsConfig) -> None:
        assert source.cert_file is not None
        assert source.key_file is not None
        (tmp_path / "tls.pem").write_bytes(source.cert_file.read_bytes())
        (tmp_path / "tls.key").write_bytes(source.key_file.read_bytes())

    put(trusted.signed("server"))
    old, new = TlsConfig(ca_file=trusted.ca_file), TlsConfig(ca_file=stranger.ca_file)
    async with way.serving(files) as server, AsyncExitStack() as stack:
        connected = [
            await stack.enter_async_context(way.connected(server.url, old, f"b{number}"))
            for number in range(clients)
        ]
        for client in connected:
            await client.epoch_after(0)
        (tmp_path / "tls.pem").write_text("half a certi")
        async with way.connected(server.url, old, "during") as client:
            await client.epoch_after(0)
        put(stranger.signed("server"))
        async with way.connected(server.url, new, "after") as client:
            await client.epoch_after(0)
        assert [client.stats.connects for client in connected] == [1] * clients
        assert all(client.stats.connected for client in connected)
    assert caplog.text.count("the certificates of before stay") == 1
