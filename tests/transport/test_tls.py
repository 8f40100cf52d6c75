"""Certificates: who trusts whom, and what is said when somebody does not."""

import asyncio
import gc
import ssl
from collections.abc import AsyncIterator
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    suppress,
)
from functools import partial
from pathlib import Path
from typing import NamedTuple

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
from osmo_transport import files as watched_files
from osmo_transport.testing import make_message
from osmo_transport.transports.tls import (
    TlsFiles,
    client_context,
    server_context,
    system_authorities,
    tls_files,
)
from osmo_transport.transports.websocket.transport import WebSocketTransport
from tests.helpers import eventually, stop_listening
from tests.transport.certificates import Authority, authority, encrypted
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


def put(source: TlsConfig, place: TlsConfig) -> None:
    """Replace a certificate and its key."""
    for name in ("cert_file", "key_file"):
        getattr(place, name).write_bytes(getattr(source, name).read_bytes())


@pytest.fixture
def mounted(tmp_path: Path, trusted: Authority) -> TlsConfig:
    """The files of one side, which somebody keeps fresh."""
    place = TlsConfig(
        ca_file=trusted.ca_file, cert_file=tmp_path / "tls.pem", key_file=tmp_path / "tls.key"
    )
    put(trusted.signed("first"), place)
    return place


@pytest.mark.parametrize("clients", [3])
async def test_a_certificate_that_is_replaced_is_used_from_then_on(
    way: Way,
    clients: int,
    trusted: Authority,
    stranger: Authority,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """By new handshakes; who is connected stays, and a broken new one changes nothing."""
    files = TlsConfig(cert_file=tmp_path / "tls.pem", key_file=tmp_path / "tls.key")

    put(trusted.signed("server"), files)
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
        put(stranger.signed("server"), files)
        async with way.connected(server.url, new, "after") as client:
            await client.epoch_after(0)
        assert [client.stats.connects for client in connected] == [1] * clients
        assert all(client.stats.connected for client in connected)
    assert caplog.text.count("what it was before stays in force") == 1


async def test_a_client_shows_its_newer_certificate(
    way: Way, mounted: TlsConfig, trusted: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Soon after it is there, over a new connection, and nothing is lost or told twice."""
    monkeypatch.setattr(watched_files, "LOOK_INTERVAL", 0.01)
    own = trusted.signed("server")
    asking = TlsConfig(ca_file=trusted.ca_file, cert_file=own.cert_file, key_file=own.key_file)
    async with way.serving(asking) as server, way.connected(server.url, mounted) as client:
        await client.epoch_after(0)
        assert shown(server) == [der(trusted.signed("first"))]
        await client.send(make_message("under way"))
        (unanswered,) = await server.receive()
        put(trusted.signed("second"), mounted)
        await eventually(lambda: client.stats.connects == 2)
        await eventually(lambda: shown(server) == [der(trusted.signed("second"))])
        (again,) = await server.receive()
        assert again.messages == unanswered.messages
        again.acknowledge()
        await client.flush()
        assert (client.stats.acknowledged, client.stats.resent) == (1, 1)


def shown(server: Server) -> list[bytes]:
    """The certificates of who is connected."""
    return [peer.presented.certificate for peer in server._hub.peers]


def der(tls: TlsConfig) -> bytes:
    """As the other side gets it."""
    assert tls.cert_file is not None
    return ssl.PEM_cert_to_DER_cert(tls.cert_file.read_text())


def _connected_again(client: Client, connects: int) -> bool:
    return client.stats.connects > connects


async def test_a_client_goes_on_with_the_certificate_that_it_had(
    way: Way,
    mounted: TlsConfig,
    trusted: Authority,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """While what is in its files by now cannot be used, which is told once."""
    own = trusted.signed("server")
    asking = TlsConfig(ca_file=trusted.ca_file, cert_file=own.cert_file, key_file=own.key_file)
    async with way.serving(asking) as server, way.connected(server.url, mounted) as client:
        await client.epoch_after(0)
        broken(mounted)
        for _ in range(2):
            before = client.stats.connects
            client._uplink.part(ConnectionLostError("cut by a test"))
            await eventually(partial(_connected_again, client, before))
        assert shown(server) == [der(trusted.signed("first"))]
    assert caplog.text.count("what it was before stays in force") == 1


def broken(place: TlsConfig) -> None:
    """Half of a certificate was written."""
    assert place.cert_file is not None
    place.cert_file.write_text("-----BEGIN CERTIFICATE-----\nMIIB")


def test_a_client_does_not_go_on_with_what_has_ended(
    mounted: TlsConfig, trusted: Authority
) -> None:
    """It tries again until there is something better."""
    now = 0.0
    certificates = TlsFiles(mounted, wall=lambda: now)
    first = certificates.of_client()
    broken(mounted)
    now = first.ends - 1.0
    assert certificates.of_client() is first
    now = first.ends
    with pytest.raises(ConnectionLostError, match=r"tls\.pem"):
        certificates.of_client()
    put(trusted.signed("second"), mounted)
    assert certificates.of_client() is not first


def test_a_key_has_to_fit(mounted: TlsConfig, stranger: Authority) -> None:
    """And an authority has to be there: on either side what was there before stays."""
    certificates = TlsFiles(mounted)
    server, client = certificates.of_server(), certificates.of_client()
    other = stranger.signed("server").key_file
    assert other is not None
    assert mounted.key_file is not None
    mounted.key_file.write_bytes(other.read_bytes())
    assert certificates.of_server() is server
    assert certificates.of_client() is client


@pytest.mark.parametrize("in_one", [False, True], ids=["apart", "in one file"])
def test_nobody_is_asked_for_a_passphrase(mounted: TlsConfig, in_one: bool) -> None:
    """Which would have a service wait for ever, on either side; where there was a key that is not
    encrypted it stays."""
    assert mounted.cert_file is not None
    assert mounted.key_file is not None
    certificates = TlsFiles(mounted)
    before = certificates.of_server()
    encrypted(mounted.key_file)
    config = mounted
    if in_one:
        with mounted.cert_file.open("ab") as file:
            file.write(mounted.key_file.read_bytes())
        config = TlsConfig(cert_file=mounted.cert_file)
    for make in (server_context, client_context):
        with pytest.raises(UsageError, match="the private key in it is encrypted"):
            make(config)
    assert certificates.of_server() is before


def test_what_a_process_knows_of_files_it_knows_once(mounted: TlsConfig) -> None:
    """For all endpoints and clients, as long as somebody uses it; and no key is shown."""
    known = tls_files(mounted)
    same = TlsConfig(
        ca_file=mounted.ca_file, cert_file=mounted.cert_file, key_file=mounted.key_file
    )
    assert tls_files(same) is known
    found = known.of_server()
    assert found.key is not None
    assert found.key.decode().splitlines()[1] not in repr(found)


async def test_without_an_authority_those_of_the_system_are_trusted(
    way: Way, trusted: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no others, such as those that a library brings along."""
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted.ca_file))
    monkeypatch.setenv("SSL_CERT_DIR", "/nowhere")
    gc.collect()  # what is known of the same configuration holds as long as somebody uses it
    async with way.serving(trusted.signed("server")) as server:
        async with way.connected(server.url, TlsConfig()) as client:
            assert await client.epoch_after(0)
        mine = trusted.signed("client")
        async with way.connected(server.url, mine) as client:
            assert await client.epoch_after(0)


OLD, NEW = ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
@pytest.mark.parametrize("newest", [OLD, NEW])
async def test_tls_1_2_is_the_least_of_a_server(
    way: Way, trusted: Authority, newest: ssl.TLSVersion
) -> None:
    """Whatever else the library would speak."""
    context = _speaking_up_to(newest, ssl.create_default_context(cafile=trusted.ca_file))
    async with way.serving(trusted.signed("server")) as server:
        host, _, port = server.url.rpartition("/")[2].rpartition(":")
        if newest is OLD:
            with pytest.raises((ssl.SSLError, ConnectionResetError)):
                await asyncio.open_connection(host, int(port), ssl=context)
        else:
            _, writer = await asyncio.open_connection(host, int(port), ssl=context)
            writer.transport.abort()


async def test_tls_1_2_is_the_least_of_a_client(way: Way, trusted: Authority) -> None:
    """It offers no less, whatever its library would speak."""
    hellos: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readexactly(5)
            hellos.append(await reader.readexactly(int.from_bytes(head[3:])))
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"{way.scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with way.connected(url, TlsConfig(ca_file=trusted.ca_file)):
        await eventually(lambda: hellos)
    await stop_listening(server)
    await server.wait_closed()
    # RFC 8446, 4.2.1: the extension supported_versions, its length, and that of its list.
    _, found, rest = hellos[0].partition(b"\x00\x2b\x00")
    assert found
    versions = rest[2 : 2 + rest[1]]
    assert {versions[at : at + 2] for at in range(0, len(versions), 2)} == {b"\3\3", b"\3\4"}


def _speaking_up_to(newest: ssl.TLSVersion, context: ssl.SSLContext) -> ssl.SSLContext:
    """With what OpenSSL by itself would not allow any more."""
    context.minimum_version = OLD
    context.maximum_version = newest
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context
