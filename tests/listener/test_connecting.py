"""Connections to the API server: addresses that are dead, proxies that do not let us through."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from osmo_listener.errors import KubeconfigError, ListenerError, UnreachableError, UntrustedError
from osmo_listener.kubernetes.config import HttpConfig
from osmo_listener.kubernetes.connecting import Connecting, Endpoint, connect
from osmo_listener.kubernetes.credentials import Credentials
from osmo_listener.kubernetes.http import HttpClient
from osmo_listener.kubernetes.proxies import parse_proxy
from osmo_transport.testing.ports import free_port
from tests.addresses import NAME, black_hole, two_addresses
from tests.helpers import eventually, stop_listening
from tests.listener.wire import Exchange, make_certificate, plain, serve

SECRET = "s3cr3t"
SHORT = HttpConfig(connect_timeout=0.05)


async def no_tls() -> None:
    return None


async def wary() -> ssl.SSLContext:
    return ssl.create_default_context()


async def hello(exchange: Exchange) -> None:
    await exchange.send(plain(b"hello"))


async def fetch(client: HttpClient) -> bytes:
    response = await client.get("/", {})
    try:
        await response.head()
        return bytes(await response.read())
    finally:
        response.close()


async def test_a_dead_first_address_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one gets its turn beside it, long before the time is over."""
    async with serve(hello) as wire:
        client = HttpClient(replace(wire.endpoint, host=NAME), no_tls)
        with black_hole(wire.port), two_addresses(monkeypatch):
            assert await fetch(client) == b"hello"
        client.close()


Answer = Callable[[bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""What comes of the head of a request."""


@contextlib.asynccontextmanager
async def proxied(answer: Answer) -> AsyncIterator[Endpoint]:
    """A server behind a proxy that gives an answer."""
    connections: dict[asyncio.StreamWriter, asyncio.Task[object] | None] = {}

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections[writer] = asyncio.current_task()
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await answer(await reader.readuntil(b"\r\n\r\n"), reader, writer)
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    proxy = parse_proxy(f"http://u:{SECRET}@127.0.0.1:{port}", "proxy-url")
    try:
        yield Endpoint(host="api.test", port=6443, proxy=proxy)
    finally:
        await stop_listening(server)
        for writer in connections:
            writer.transport.abort()
        await asyncio.gather(*(task for task in connections.values() if task))


def saying(text: bytes) -> Answer:
    async def answer(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(text)
        await writer.drain()

    return answer


async def nothing(_: bytes, reader: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    await reader.read()


def connecting(port: int) -> Answer:
    """As a proxy should, but always to one port of this machine."""

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                sink.write(data)
        sink.close()

    async def answer(_: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind, before = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await asyncio.gather(pump(reader, before), pump(behind, writer))

    return answer


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Of the server behind the proxy."""
    return make_certificate(tmp_path_factory.mktemp("tls"), "server", "DNS:api.test")


def server_tls(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        (saying(b"HTTP/1.1 407 Who?\r\n\r\n"), KubeconfigError, r"asks for credentials, .*\(407\)"),
        (saying(b"HTTP/1.0 403 No\r\n\r\n"), KubeconfigError, "refuses the connection: 403 No"),
        (saying(b"HTTP/1.1 502 Away\r\n\r\n"), UnreachableError, "the connection: 502 Away"),
        (saying(b"SSH-2.0-OpenSSH\r\n\r\n"), UnreachableError, "the proxy does not speak HTTP"),
        (saying(b"x" * 100_000), UnreachableError, "the proxy does not speak HTTP"),
        (saying(b"HTTP/1.1 200 "), UnreachableError, "the proxy ended the connection"),
        (nothing, UnreachableError, "within 0.05 s"),
    ],
    ids=["407", "403", "502", "another protocol", "no end", "half an answer", "silence"],
)
async def test_a_proxy_that_gives_no_connection_is_named(
    answer: Answer, kind: type[ListenerError], text: str
) -> None:
    """With what it said, and without what it was told."""
    config = SHORT if answer is nothing else HttpConfig()
    async with proxied(answer) as end:
        with pytest.raises(kind, match=rf"the proxy {end.proxy}.*{text}") as error:
            await HttpClient(end, wary, config).get("/", {})
        assert SECRET not in str(error.value)


async def test_a_proxy_that_asks_for_credentials_instead_of_forwarding_is_named() -> None:
    """It is not the API server that says so."""
    text = b"HTTP/1.1 407 Who?\r\nContent-Length: 0\r\n\r\n"
    async with proxied(saying(text)) as end:
        client = HttpClient(end, no_tls)
        with pytest.raises(KubeconfigError, match=f"the proxy {end.proxy} asks for credentials"):
            await fetch(client)
        client.close()


@pytest.mark.parametrize("scheme", ["http", "https", "socks5"])
async def test_a_proxy_that_is_not_there_is_named(scheme: str) -> None:
    """Whatever it speaks."""
    proxy = parse_proxy(f"{scheme}://u:{SECRET}@127.0.0.1:{free_port()}", "proxy-url")
    client = HttpClient(Endpoint(host="api.test", port=6443, proxy=proxy), wary)
    with pytest.raises(UnreachableError, match=f"no connection to the proxy {proxy}: ") as error:
        await client.get("/", {})
    assert SECRET not in str(error.value)


async def test_a_socks_proxy_that_refuses_is_named() -> None:
    """With the reason that the protocol has for it."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(3)
        writer.write(b"\x05\x00")
        await reader.readexactly(5 + len("api.test") + 2)
        writer.write(b"\x05\x02\x00\x01" + bytes(6))
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    proxy = parse_proxy(f"socks5://127.0.0.1:{port}", "proxy-url")
    client = HttpClient(Endpoint(host="api.test", port=6443, proxy=proxy), wary)
    with pytest.raises(UnreachableError, match=f"{proxy} refuses the connection: .*not allowed"):
        await client.get("/", {})
    await stop_listening(server)


async def test_giving_up_anywhere_leaves_no_connection(certificate: tuple[Path, Path]) -> None:
    """To the proxy, or through it."""
    credentials = Credentials(endpoint=Endpoint(host="", port=0), ca=certificate[0])
    async with (
        serve(hello, server_tls(certificate)) as wire,
        proxied(connecting(wire.port)) as end,
    ):
        client = HttpClient(end, credentials.tls)
        for turns in range(30):
            task = asyncio.create_task(fetch(client))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            client.close()
            await eventually(lambda: wire.open == 0)
        assert await fetch(client) == b"hello"
        client.close()


class Impatient(Connecting):
    """Gives up in the turn in which its connection is made."""

    def __init__(self) -> None:
        self.lost = asyncio.Event()
        self.task: asyncio.Task[object] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.task is not None
        self.task.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()


async def test_giving_up_as_the_handshake_ends_leaves_no_transport(
    certificate: tuple[Path, Path],
) -> None:
    """It ends at once, and does not wait for a server that cannot answer any more."""
    credentials = Credentials(endpoint=Endpoint(host="", port=0), ca=certificate[0])
    async with serve(hello, server_tls(certificate)) as wire:
        end = Endpoint(host="127.0.0.1", port=wire.port, tls_server_name="api.test")
        protocol = Impatient()
        tls = await credentials.tls()
        protocol.task = asyncio.create_task(connect(end, tls, protocol, HttpConfig()))
        with pytest.raises(asyncio.CancelledError):
            await protocol.task
        async with asyncio.timeout(5):
            await protocol.lost.wait()


async def test_a_server_behind_a_proxy_that_is_not_trusted_is_named(
    certificate: tuple[Path, Path],
) -> None:
    """The server, and not the proxy."""
    async with (
        serve(hello, server_tls(certificate)) as wire,
        proxied(connecting(wire.port)) as end,
    ):
        with pytest.raises(UntrustedError, match=r"the certificate of api\.test:6443 is refused"):
            await HttpClient(end, wary).get("/", {})


@pytest.mark.parametrize("authority", ["", "api.test"])
async def test_a_proxy_that_forwards_is_asked_by_the_whole_url(authority: str) -> None:
    """With the host as the server's URL names it: gateways compare it."""
    heads: list[bytes] = []

    async def note(head: bytes, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(head)
        writer.write(plain(b"hello"))

    async with proxied(note) as end:
        client = HttpClient(replace(end, authority=authority), no_tls)
        assert await fetch(client) == b"hello"
        client.close()
    host = authority.encode() or b"api.test:6443"
    assert heads == [
        b"GET http://%b/ HTTP/1.1\r\nHost: %b\r\n" % (host, host)
        + b"Proxy-Authorization: Basic dTpzM2NyM3Q=\r\n\r\n"
    ]
