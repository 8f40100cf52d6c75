"""The HTTP client: limits, broken answers, reuse, back pressure, TLS."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest

from osmo_listener.errors import (
    KubernetesError,
    MalformedError,
    SilentError,
    TruncatedError,
    UnreachableError,
    UntrustedError,
)
from osmo_listener.kubernetes.config import HttpConfig
from osmo_listener.kubernetes.connecting import Endpoint
from osmo_listener.kubernetes.http import HttpClient
from tests.helpers import eventually
from tests.listener.wire import (
    CHUNKED,
    LAST_CHUNK,
    Exchange,
    Respond,
    Wire,
    chunk,
    make_certificate,
    plain,
    serve,
)

SHORT = HttpConfig(connect_timeout=0.05, head_timeout=0.05, body_timeout=0.05)


async def no_tls() -> None:
    return None


@contextlib.asynccontextmanager
async def client_of(
    respond: Respond, config: HttpConfig | None = None
) -> AsyncIterator[tuple[HttpClient, Wire]]:
    async with serve(respond) as wire:
        client = HttpClient(wire.endpoint, no_tls, config)
        try:
            yield client, wire
        finally:
            client.close()


async def fetch(client: HttpClient, target: str = "/") -> bytes:
    response = await client.get(target, {})
    try:
        await response.head()
        return bytes(await response.read())
    finally:
        response.close()


@pytest.mark.parametrize(
    "answer",
    [
        plain(b"hello"),
        CHUNKED + chunk(b"hel") + chunk(b"lo") + LAST_CHUNK,
        CHUNKED + b"5;name=value\r\nhello\r\n" + LAST_CHUNK,
    ],
    ids=["length", "chunked", "chunk-extension"],
)
async def test_bodies(answer: bytes) -> None:
    """A body is read to its end however its length is told, even byte by byte."""

    async def respond(exchange: Exchange) -> None:
        step = 1 if exchange.target == "/slow" else len(answer)
        for start in range(0, len(answer), step):
            await exchange.send(answer[start : start + step])
            await asyncio.sleep(0)

    async with client_of(respond) as (client, wire):
        assert await fetch(client) == b"hello"
        assert await fetch(client, "/slow") == b"hello"
        assert wire.connections == 1


async def test_request_as_sent() -> None:
    """The request carries the server's prefix, its host and the caller's headers."""
    heads: list[str] = []

    async def respond(exchange: Exchange) -> None:
        heads.append(exchange.head)
        await exchange.send(plain(b"", headers="Retry-After: 7\r\n"))

    async with serve(respond) as wire:
        client = HttpClient(replace(wire.endpoint, base_path="/k8s/one"), no_tls)
        response = await client.get("/api?x=1", {"Accept": "application/json"})
        assert await response.head() == 200
        assert response.headers["retry-after"] == "7"
        response.close()
        client.close()
        assert heads == [
            "GET /k8s/one/api?x=1 HTTP/1.1\r\n"
            f"Host: 127.0.0.1:{wire.port}\r\nAccept: application/json\r\n\r\n"
        ]


async def test_request_with_a_body() -> None:
    """A body goes with its length and the connection is ready for the next request, of any kind."""
    got: list[tuple[str, bytes]] = []

    async def respond(exchange: Exchange) -> None:
        got.append((exchange.head.split("\r\n")[0], exchange.body))
        await exchange.send(plain(b"ok"))

    async with client_of(respond) as (client, wire):
        for body in (b'{"a": "\xc3\xbc"}', b"x" * 1_000_000):
            response = await client.request("PATCH", "/a", {"Content-Type": "b"}, body)
            assert await response.head() == 200
            assert await response.read() == b"ok"
            response.close()
            assert await fetch(client) == b"ok"
            assert got[-2:] == [("PATCH /a HTTP/1.1", body), ("GET / HTTP/1.1", b"")]
        assert wire.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
        CHUNKED,
        CHUNKED + b"5\r\nhel",
        CHUNKED + chunk(b"hello"),
        CHUNKED + chunk(b"hello") + b"0\r\n",
    ],
)
@pytest.mark.parametrize("broken", [False, True], ids=["ended", "reset"])
async def test_truncated_answer_is_no_answer(answer: bytes, broken: bool) -> None:
    """An answer that ends anywhere before its end is an error, never a short body."""

    async def respond(exchange: Exchange) -> None:
        await exchange.send(answer)
        if broken:
            exchange.reset()
        else:
            exchange.cut()

    async with client_of(respond) as (client, _):
        with pytest.raises(TruncatedError, match="the connection ended"):
            await fetch(client)


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        CHUNKED + b"xyz\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000,
    ],
    ids=["protocol", "chunk", "head"],
)
async def test_malformed_answer(answer: bytes) -> None:
    """What is no HTTP, or has an endless head, is refused."""

    async def respond(exchange: Exchange) -> None:
        await exchange.send(answer)

    async with client_of(respond) as (client, _):
        with pytest.raises(MalformedError):
            await fetch(client)


async def test_body_over_the_limit() -> None:
    """A body that is read whole has a bound."""

    async def respond(exchange: Exchange) -> None:
        await exchange.send(plain(b"x" * 1001))

    async with client_of(respond, HttpConfig(max_body_bytes=1000)) as (client, _):
        with pytest.raises(MalformedError, match="over 1000 bytes"):
            await fetch(client)


async def test_pieces_of_a_body() -> None:
    """The first one is given as soon as it is there, and later ones are larger; together they have
    the body's bound."""
    began = asyncio.Event()

    async def respond(exchange: Exchange) -> None:
        await exchange.send(CHUNKED + chunk(b"begin"))
        await began.wait()
        for _ in range(40):
            await exchange.send(chunk(b"x" * 20_000))
        await exchange.send(LAST_CHUNK)

    for most, whole in ((800_005, True), (800_004, False)):
        async with client_of(respond, HttpConfig(max_body_bytes=most)) as (client, _):
            response = await client.get("/", {})
            sizes: list[int] = []
            with contextlib.nullcontext() if whole else pytest.raises(MalformedError, match="over"):
                async for piece in response.pieces():
                    sizes.append(len(piece))
                    began.set()
            assert sizes[0] == 5
            assert len(sizes) <= 5
            assert sum(sizes) == 800_005 or not whole
            response.close()
            began.clear()


async def test_what_was_read_ahead_comes_in_pieces() -> None:
    """However much has come before anybody asks, a piece of it is no larger than others: what is
    made of a piece takes its memory twice."""

    async def respond(exchange: Exchange) -> None:
        await exchange.send(CHUNKED + chunk(b"x" * 20_000) * 50 + LAST_CHUNK)

    config = HttpConfig(buffer_bytes=2_000_000)
    async with client_of(respond, config) as (client, _):
        response = await client.get("/", {})
        await response.head()
        await eventually(lambda: response._connection.complete)
        sizes = [len(piece) async for piece in response.pieces()]
        assert sum(sizes) == 1_000_000
        assert max(sizes) < 300_000
        assert len(sizes) == 4
        response.close()


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\n", CHUNKED, CHUNKED + chunk(b"hel")])
async def test_silent_server(sent: bytes) -> None:
    """Neither the head nor a pause in the body is waited for without end."""

    async def respond(exchange: Exchange) -> None:
        await exchange.send(sent)

    async with client_of(respond, SHORT) as (client, wire):
        with pytest.raises(SilentError, match=r"within|for 0\.05 s"):
            await fetch(client)
        await eventually(lambda: wire.open == 0)


async def test_unreachable_server() -> None:
    """A port on which nobody listens is named."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    client = HttpClient(Endpoint(host="127.0.0.1", port=port), no_tls)
    with pytest.raises(UnreachableError, match=rf"no connection to 127\.0\.0\.1:{port}"):
        await client.get("/", {})


async def test_unknown_host() -> None:
    """A name that does not exist is an error of the same kind."""
    client = HttpClient(Endpoint(host="no-such-host.invalid", port=1), no_tls)
    with pytest.raises(UnreachableError, match="no-such-host"):
        await client.get("/", {})


async def test_finished_connection_is_reused() -> None:
    """Requests one after the other go over one connection, and closing an answer again does not
    harm the one that came after it."""

    async def respond(exchange: Exchange) -> None:
        await exchange.send(plain(str(exchange.connection).encode()))

    async with client_of(respond) as (client, wire):
        assert [await fetch(client) for _ in range(3)] == [b"0"] * 3
        first = await client.get("/", {})
        assert await first.read() == b"0"
        first.close()
        second = await client.get("/", {})
        first.close()
        assert await second.read() == b"0"
        second.close()
        assert wire.connections == 1


async def test_unfinished_connection_is_not_reused() -> None:
    """A connection whose answer was not read to its end is closed."""

    async def respond(exchange: Exchange) -> None:
        await exchange.send(CHUNKED + chunk(b"more comes"))

    async with client_of(respond) as (client, wire):
        for number in range(3):
            response = await client.get("/", {})
            await response.head()
            response.close()
            assert wire.connections == number + 1
        await eventually(lambda: wire.open == 0)


async def test_closed_connection_is_not_reused() -> None:
    """A connection that the server closed, at once or while idle, is not used again."""

    async def respond(exchange: Exchange) -> None:
        close = "Connection: close\r\n" if exchange.target == "/announced" else ""
        await exchange.send(plain(b"x", headers=close))
        exchange.cut()

    async with client_of(respond) as (client, wire):
        await fetch(client, "/announced")
        await fetch(client, "/")
        await eventually(lambda: client._idle[0].closed)
        await fetch(client, "/")
        assert wire.connections == 3


@pytest.mark.parametrize("together", [True, False])
async def test_unasked_data_closes_the_connection(together: bool) -> None:
    """A second answer to one request is not taken for the answer to the next one."""

    async def respond(exchange: Exchange) -> None:
        await exchange.send(plain(b"one") + (plain(b"forged") if together else b""))
        if not together and exchange.connection == 0:
            await eventually(lambda: client._idle)
            await exchange.send(plain(b"forged"))

    async with client_of(respond) as (client, wire):
        assert await fetch(client) == b"one"
        await eventually(lambda: all(each.closed for each in client._idle))
        assert await fetch(client) == b"one"
        assert wire.connections == 2


async def test_slow_reader_slows_the_server() -> None:
    """What is not taken is not read: the server's writes stop far below what it wants to send."""
    sent = 0

    async def respond(exchange: Exchange) -> None:
        nonlocal sent
        await exchange.send(CHUNKED)
        for _ in range(1000):
            await exchange.send(chunk(b"x" * 65536))
            sent += 65536
        await exchange.send(LAST_CHUNK)

    async with client_of(respond) as (client, _):
        response = await client.get("/", {})
        await response.head()
        before = -1
        while sent != before:
            before = sent
            await asyncio.sleep(0.02)
        assert sent < 32 * 1024 * 1024
        total = 0
        while part := await response.more(5.0):
            total += len(part)
        assert total == 1000 * 65536
        response.close()


async def test_what_completes_nothing_wakes_nobody() -> None:
    """What has come is given when it is enough, with all that came before."""
    go_on = asyncio.Event()
    asked: list[list[bytes]] = []

    async def respond(exchange: Exchange) -> None:
        await exchange.send(CHUNKED + chunk(b"a") + chunk(b"b"))
        await go_on.wait()
        await exchange.send(chunk(b"c"))

    def completes(pieces: Sequence[bytes]) -> bool:
        asked.append([*pieces])
        return b"c" in pieces

    async with client_of(respond) as (client, _):
        response = await client.get("/", {})
        waiting = asyncio.create_task(response.more(100, completes))
        await eventually(lambda: [b"a", b"b"] in asked)
        looked = len(asked)
        for _ in range(3):
            await asyncio.sleep(0)
        # Whoever was woken up would look again.
        assert len(asked) == looked
        go_on.set()
        assert await waiting == b"abc"
        response.close()


async def test_more_than_is_kept_is_given_at_once() -> None:
    """Whatever completes it: or what is larger than the buffer would never be complete."""

    async def respond(exchange: Exchange) -> None:
        await exchange.send(CHUNKED + chunk(b"a" * 3000))

    async with client_of(respond, HttpConfig(buffer_bytes=1000)) as (client, _):
        response = await client.get("/", {})
        assert await response.more(100, lambda _: False)
        response.close()


async def test_a_shorter_pause_after_a_longer_one() -> None:
    """Is noticed in its own time, though one timer watches over both."""

    async def respond(exchange: Exchange) -> None:
        await exchange.send(CHUNKED + chunk(b"a"))

    async with client_of(respond) as (client, _):
        response = await client.get("/", {})
        assert await response.more(100) == b"a"
        async with asyncio.timeout(50):
            with pytest.raises(SilentError, match=r"no more of the answer for 0\.05 s"):
                await response.more(0.05)
        response.close()


async def test_a_pause_is_measured_from_the_last_bytes() -> None:
    """What came early does not count for the pause after it."""
    go_on = asyncio.Event()

    async def respond(exchange: Exchange) -> None:
        await exchange.send(CHUNKED + chunk(b"a"))
        await go_on.wait()
        await exchange.send(chunk(b"b"))

    async with client_of(respond) as (client, _):
        response = await client.get("/", {})
        assert await response.more(100) == b"a"
        first = asyncio.get_running_loop().time() + 100
        waiting = asyncio.create_task(response.more(200))
        await asyncio.sleep(0)
        # The timer of the first pause, which is still set.
        connection = response._connection
        connection._look(Mock(time=lambda: first))
        go_on.set()
        assert await waiting == b"b"
        waiting = asyncio.create_task(response.more(200))
        await asyncio.sleep(0)
        connection._look(Mock(time=lambda: first + 200))
        with pytest.raises(SilentError):
            await waiting
        response.close()
        assert connection._watchdog is None


async def test_cancel_anywhere_leaves_no_connection() -> None:
    """A fetch that is cancelled at any step closes its connection or gives it back intact."""

    async def respond(exchange: Exchange) -> None:
        await exchange.send(CHUNKED + chunk(b"hel"))
        await asyncio.sleep(0)
        await exchange.send(chunk(b"lo") + LAST_CHUNK)

    async with client_of(respond) as (client, wire):
        for steps in range(12):
            task = asyncio.create_task(fetch(client))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            assert await fetch(client) == b"hello"
            await eventually(lambda: wire.open <= 1)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1."""
    return make_certificate(tmp_path_factory.mktemp("tls"), "server", "IP:127.0.0.1")


async def hello(exchange: Exchange) -> None:
    await exchange.send(plain(b"hello"))


def server_tls(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


async def test_tls(certificate: tuple[Path, Path]) -> None:
    """A trusted server is talked to; another CA or another name is refused and named."""

    async def trusting() -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(certificate[0]))

    async def wary() -> ssl.SSLContext:
        return ssl.create_default_context()

    async with serve(hello, server_tls(certificate)) as wire:
        client = HttpClient(wire.endpoint, trusting)
        assert await fetch(client) == b"hello"
        client.close()
        with pytest.raises(UntrustedError, match="self-signed"):
            await fetch(HttpClient(wire.endpoint, wary))
        elsewhere = replace(wire.endpoint, tls_server_name="api.example")
        with pytest.raises(UntrustedError, match="check certificate-authority and server"):
            await fetch(HttpClient(elsewhere, trusting))


async def test_tls_handshake_that_hangs() -> None:
    """A server that accepts and says nothing is given up within the time to connect."""

    async def wary() -> ssl.SSLContext:
        return ssl.create_default_context()

    with socket.create_server(("127.0.0.1", 0)) as mute:
        client = HttpClient(Endpoint(host="127.0.0.1", port=mute.getsockname()[1]), wary, SHORT)
        with pytest.raises(UnreachableError, match=r"within 0\.05 s"):
            await client.get("/", {})


async def test_plain_answer_to_tls(certificate: tuple[Path, Path]) -> None:
    """A server that does not speak TLS is an error of ours, not of `ssl`."""

    async def trusting() -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(certificate[0]))

    async with serve(hello) as wire:
        with pytest.raises(KubernetesError):
            await fetch(HttpClient(wire.endpoint, trusting, SHORT))
