"""A URL that leads to a server of another kind: what answers is named, at the first try."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

import pytest
from grpc import aio

from osmo_transport import (
    ConnectionLostError,
    HandshakeError,
    ServerConfig,
    TlsConfig,
    Transport,
    TransportError,
    WrongServerError,
    listen,
    transport_for,
)
from osmo_transport.frames import Frame, Limits
from osmo_transport.testing.redis_server import RedisServer
from osmo_transport.transports import strangers
from osmo_transport.transports.abc import ConnectionConfig, FrameSink
from osmo_transport.transports.tls import server_context
from osmo_transport.transports.websocket.transport import WebSocketTransport
from tests.transport.certificates import Authority, authority
from tests.transport.engines import ENGINES

pytestmark = pytest.mark.usefixtures("no_socket_left")


class Way(NamedTuple):
    """A scheme, and what serves it."""

    scheme: str
    transport: Transport

    @property
    def secure(self) -> bool:
        return self.scheme in ("wss", "grpcs")


WAYS = {
    **{f"ws, {name}": ("ws", name) for name in ENGINES},
    **{f"wss, {name}": ("wss", name) for name in ENGINES},
    "grpc": ("grpc", None),
    "grpcs": ("grpcs", None),
}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Way:
    """Each scheme, those of WebSockets over each of the engines."""
    scheme, engine = WAYS[request.param]
    transport = WebSocketTransport(ENGINES[engine]) if engine else transport_for(f"{scheme}://")
    return Way(scheme, transport)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """What every server with TLS has, and every client trusts."""
    return authority(tmp_path_factory.mktemp("certificates"))


SILENCE = 0.2
"""Seconds for which a test waits where nothing can come."""

PATIENCE = 60.0
"""Seconds for what does come, on however slow a machine."""


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever answers has his time."""
    monkeypatch.setattr(strangers, "ASK_TIMEOUT", PATIENCE)
    monkeypatch.setattr(strangers, "TLS_TIMEOUT", PATIENCE)


@pytest.fixture
def without_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody speaks TLS, whoever asks for it waits in vain."""
    monkeypatch.setattr(strangers, "TLS_TIMEOUT", SILENCE)


# The servers

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def http(status: str, *headers: str, body: str = "") -> Handler:
    """A server of HTTP/1.1 that has one answer, to whatever begins with a line."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", body]
        writer.write("\r\n".join(lines).encode())
        await writer.drain()

    return answer


async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """Reads, and says nothing."""
    while await reader.read(1024):
        pass


async def closing(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    """Says nothing, and ends."""


async def greeting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Speaks first, as servers for mail and shells do."""
    writer.write(b"SSH-2.0-OpenSSH_9.6\r\n")
    await silent(reader, writer)


@asynccontextmanager
async def plain(handler: Handler, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """The port of a server, over TLS if there is a context."""
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await handler(reader, writer)
        finally:
            serving.discard(task)
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in set(serving):
            task.cancel()
        if serving:
            await asyncio.wait(serving, timeout=5)


@asynccontextmanager
async def grpc_server() -> AsyncIterator[int]:
    """The port of a gRPC server that has no service."""
    server = aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


@asynccontextmanager
async def ours(scheme: str, tls: TlsConfig | None = None) -> AsyncIterator[int]:
    """The port of a server of ours."""
    config = ServerConfig(tls=tls or TlsConfig())
    async with listen(f"{scheme}://127.0.0.1:0", config=config) as server:
        yield int(server.url.rpartition(":")[2])


class Ignoring(FrameSink):
    """Waits for the end of a connection that could be opened."""

    def __init__(self) -> None:
        self.ended: asyncio.Future[TransportError] = asyncio.get_running_loop().create_future()

    def frame_received(self, frame: Frame) -> None:
        raise AssertionError(f"a stranger sent {frame}")

    def writing_resumed(self) -> None:
        pass

    def connection_lost(self, error: TransportError) -> None:
        self.ended.set_result(error)


async def failure(
    way: Way, port: int, tls: TlsConfig, open_timeout: float = PATIENCE
) -> TransportError:
    """Why one try to connect fails, at once or when the connection is open. The `open_timeout` is
    short where the other side waits silently for more."""
    config = ConnectionConfig(
        limits=Limits(), tls=tls, open_timeout=open_timeout, max_connections=1
    )
    sink = Ignoring()
    url = f"{way.scheme}://127.0.0.1:{port}"
    try:
        connection = await way.transport.dial(url, sink, config)
    except HandshakeError as exc:
        return await way.transport.why(url, exc, config)
    except TransportError as exc:
        return exc
    try:
        async with asyncio.timeout(PATIENCE):
            return await sink.ended
    finally:
        connection.close()
        await connection.wait_closed()


def says(error: TransportError, *words: str) -> None:
    """Fail unless the error has these words."""
    text = str(error)
    assert all(word in text for word in words), text
    assert "\n" not in text
    assert len(text) < 500


HTTP_ANSWERS = {
    "200": (http("200 OK", body="<html>welcome</html>"), "200 OK: <html>welcome</html>"),
    "404": (http("404 Not Found"), "404 Not Found"),
    "426": (http("426 Upgrade Required", "Upgrade: h2c"), "426 Upgrade Required"),
    "302": (http("302 Found", "Location: https://login/x"), "302 Found, to https://login/x"),
    "502": (http("502 Bad Gateway", "Server: nginx"), "502 Bad Gateway"),
    "503": (http("503 Service Unavailable", body="no upstream"), "Unavailable: no upstream"),
}


@pytest.mark.parametrize("answer", HTTP_ANSWERS)
async def test_an_http_server(way: Way, answer: str, certificates: Authority) -> None:
    """Its status is told, with what it says. It may pass, as a proxy's while it starts."""
    handler, said = HTTP_ANSWERS[answer]
    tls = TlsConfig(ca_file=certificates.ca_file)
    context = server_context(certificates.signed("http")) if way.secure else None
    async with plain(handler, context) as port:
        error = await failure(way, port, tls)
    assert type(error) is ConnectionLostError
    says(error, "an HTTP server answers there", said, f"{way.scheme}://127.0.0.1:{port}")
    says(error, "look at the host, the port and the path of the URL")


async def test_a_grpc_server(way: Way, certificates: Authority) -> None:
    """Without our service: that is told over gRPC, and over others that it is one."""
    async with grpc_server() as port:
        error = await failure(way, port, TlsConfig(ca_file=certificates.ca_file))
    if way.scheme == "grpc":
        assert type(error) is ConnectionLostError
        says(error, "without our service osmo.transport.v1.Transport", "look at the host and the")
    else:
        assert type(error) is WrongServerError
        says(error, "a server for HTTP/2, as gRPC servers are, answers there")
        says(error, "without TLS" if way.secure else "look at the scheme")


@pytest.mark.usefixtures("without_tls")
async def test_a_websocket_server(way: Way, certificates: Authority) -> None:
    """One of ours: a client of another scheme is told which one to look at."""
    if way.scheme == "ws":
        return
    async with ours("ws") as port:
        error = await failure(way, port, TlsConfig(ca_file=certificates.ca_file), SILENCE)
    assert type(error) is WrongServerError
    says(error, "a WebSocket server answers there", "without TLS" if way.secure else "the scheme")


@pytest.mark.parametrize("scheme", ["wss", "grpcs"])
async def test_a_server_with_tls(way: Way, scheme: str, certificates: Authority) -> None:
    """In the clear, TLS is named; over it, what is spoken there."""
    if way.scheme == scheme:
        return
    async with ours(scheme, certificates.signed("server")) as port:
        error = await failure(way, port, TlsConfig(ca_file=certificates.ca_file))
    assert type(error) is WrongServerError
    if way.secure:
        answers = {"wss": "a WebSocket server", "grpcs": "a server for HTTP/2"}
        says(error, answers[scheme], "look at the scheme, the host and the port of the URL")
    else:
        says(error, "a server that speaks TLS answers there", f"{way.scheme}s://")


@pytest.mark.usefixtures("without_tls")
async def test_an_https_server_that_says_so(way: Way, certificates: Authority) -> None:
    """In words of HTTP, as nginx and Go do."""
    if way.secure:
        return
    body = "Client sent an HTTP request to an HTTPS server.\n"
    async with plain(http("400 Bad Request", body=body)) as port:
        error = await failure(way, port, TlsConfig(), SILENCE)
    assert type(error) is WrongServerError
    says(error, "a server that speaks TLS", f"{way.scheme}s://")


@pytest.mark.usefixtures("without_tls")
async def test_redis(way: Way, redis_server: RedisServer, certificates: Authority) -> None:
    """The queue's address in the place of the server's."""
    error = await failure(way, redis_server.port, TlsConfig(ca_file=certificates.ca_file), SILENCE)
    assert type(error) is WrongServerError
    says(error, "Redis answers there")


@pytest.mark.usefixtures("without_tls")
async def test_a_silent_server(
    way: Way, certificates: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is there, and says nothing."""
    monkeypatch.setattr(strangers, "ASK_TIMEOUT", SILENCE)
    async with plain(silent) as port:
        error = await failure(way, port, TlsConfig(ca_file=certificates.ca_file), SILENCE)
    assert type(error) is ConnectionLostError
    says(error, "a server that accepts the connection and says nothing")


async def test_a_server_that_ends_every_connection(way: Way, certificates: Authority) -> None:
    """As a proxy that has nobody behind it."""
    async with plain(closing) as port:
        error = await failure(way, port, TlsConfig(ca_file=certificates.ca_file))
    assert isinstance(error, ConnectionLostError)
    says(error, f"127.0.0.1:{port}")
    if not way.secure:
        says(error, "a server that closes the connection without a word")


async def test_a_server_of_another_kind(way: Way, certificates: Authority) -> None:
    """What it says is told."""
    async with plain(greeting) as port:
        error = await failure(way, port, TlsConfig(ca_file=certificates.ca_file), SILENCE)
    says(error, "a server of another kind answers there with 'SSH-2.0-OpenSSH_9.6'")


async def test_nobody(way: Way, certificates: Authority) -> None:
    """Is no stranger."""
    async with plain(silent) as port:
        pass
    error = await failure(way, port, TlsConfig(ca_file=certificates.ca_file))
    assert type(error) is ConnectionLostError
    assert "answers there" not in str(error)
