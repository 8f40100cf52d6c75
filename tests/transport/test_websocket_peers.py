"""Peers that do not take part in the WebSocket transport as they should, at either end.

Both engines have to hold it alike.
"""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import replace
from urllib.parse import urlsplit

import pytest

from osmo_transport import (
    ConnectionLostError,
    Limits,
    ServerConfig,
    SessionConfig,
    TlsConfig,
    Transport,
)
from osmo_transport._bucket import IDLE_BURST, IDLE_FRAMES
from osmo_transport.frames import MSGPACK, PROTOCOL, Credential, GoodbyeCode, Hello, Ping
from osmo_transport.testing import make_message
from osmo_transport.testing.contracts.transport_suite import Recorder
from osmo_transport.transports.abc import WRITE_BUFFER, Connection, ConnectionConfig
from osmo_transport.transports.connection import WireConnection
from tests.helpers import eventually
from tests.transport.builders import batch
from tests.transport.engines import (
    QUICK,
    connected,
    listening,
    upgraded,
)
from tests.transport.raw import BINARY, CONTINUATION, PING, PONG, frame, raw_peer

pytestmark = pytest.mark.usefixtures("no_socket_left")

HELLO = Hello(PROTOCOL, "backend", "raw", "one", "", 0, 0, Limits())


def wire_of(connection: Connection) -> asyncio.Transport:
    """What a server's connection writes to."""
    assert isinstance(connection, WireConnection)
    assert connection._wire is not None
    return connection._wire


async def test_who_says_nothing_is_cut_off(ws: Transport) -> None:
    """A connection without a hello does not live for ever."""
    config = ServerConfig(open_timeout=0.1)
    async with listening(ws, config) as server, upgraded(server) as peer:
        (goodbye,), *_ = await peer.read_until_close()
        assert b"no hello" in goodbye


async def test_who_never_reads_is_bounded_and_cut_off(ws: Transport) -> None:
    """He is not acknowledged beyond what the buffers hold, so that his window stops him, and the
    connection ends."""
    limits = Limits(window_messages=1000)
    config = ServerConfig(session=SessionConfig(limits=limits))
    async with (
        listening(ws, config) as server,
        raw_peer(server.url, receive_buffer=4096) as peer,
    ):
        await peer.upgrade()
        peer.message(BINARY, MSGPACK.encode(HELLO))
        await peer.read_message()
        peer.reader._transport.pause_reading()  # type: ignore[attr-defined]
        (connection,) = server._hub.peers
        wire = wire_of(connection._connection)
        # What the kernel buffers takes time to fill, and is not what is tested.
        sock = wire.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)

        async def acknowledge_all() -> None:
            while taken := await server.receive():
                for incoming in taken:
                    incoming.acknowledge()

        working = asyncio.create_task(acknowledge_all())
        most, sequence = 0, 0
        while server.connections:
            for _ in range(20 if peer.writer.transport.get_write_buffer_size() < 100_000 else 0):
                sequence += 1
                sent = batch(sequence, make_message(payload=b""))
                peer.message(BINARY, MSGPACK.encode(sent))
            await asyncio.sleep(0)
            most = max(most, wire.get_write_buffer_size())
        assert sequence > limits.window_messages
        assert most < 2_000_000
        server.stop()
        await working


@pytest.mark.parametrize("ping", ["of our own", "of WebSockets"])
async def test_who_only_asks_and_never_reads_is_not_answered_into_memory(
    ws: Transport, ping: str
) -> None:
    """One answers all that he asks at a time, those beyond what the write buffer holds are left
    out, or he is read no more."""
    data = (
        frame(BINARY, MSGPACK.encode(Ping())) if ping == "of our own" else frame(PING, bytes(125))
    )
    limits = Limits(message_bytes=2000, batch_bytes=2000, window_bytes=20_000)
    # The answers of an engine go on until it reads no more, and until what it has read is done.
    over = 1000 if ping == "of our own" else limits.frame_bytes + 100_000
    async with (
        listening(ws, ServerConfig(session=SessionConfig(limits=limits))) as server,
        raw_peer(server.url, receive_buffer=4096) as peer,
    ):
        await peer.upgrade()
        peer.message(BINARY, MSGPACK.encode(HELLO))
        await peer.read_message()
        peer.reader._transport.pause_reading()  # type: ignore[attr-defined]
        (each,) = server._hub.peers
        wire = wire_of(each._connection)
        wire.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        most, written, enough = 0, 0, 4 * WRITE_BUFFER
        mine = peer.writer.transport
        while written < enough and mine.get_write_buffer_size() < WRITE_BUFFER:
            peer.write(data * (10_000 // len(data)))
            written += 10_000
            for _ in range(3):
                await asyncio.sleep(0)
            most = max(most, wire.get_write_buffer_size())
        assert written >= enough or not each._connection.writable
        assert most < WRITE_BUFFER + over


PIECE = frame(CONTINUATION, b"", fin=False)
IDLE = {
    "pings": frame(PING, b""),
    "pongs": frame(PONG, b""),
    "pings of our own": frame(BINARY, MSGPACK.encode(Ping())),
    "newer credentials": frame(BINARY, MSGPACK.encode(Credential("newer"))),
    "pieces of a message": PIECE,
}
"""What brings no message."""


@pytest.mark.parametrize("idle", IDLE.values(), ids=IDLE)
async def test_what_brings_no_message_is_bounded(ws: Transport, idle: bytes) -> None:
    """By a rate, which nobody who means well comes near; who goes over it is told, and counted."""
    few = int(IDLE_FRAMES * IDLE_BURST) // 2
    async with listening(ws) as server, upgraded(server) as peer:
        peer.message(BINARY, MSGPACK.encode(HELLO))
        await peer.read_message()
        begin, end = BINARY, BINARY
        if idle == PIECE:
            peer.message(begin, b"", fin=False)
            end = CONTINUATION
        peer.write(idle * few)
        peer.message(end, MSGPACK.encode(batch(1, make_message("a"))))
        (incoming,) = await server.receive()
        assert [message.key for message in incoming.messages] == ["a"]
        if idle == PIECE:
            peer.message(begin, b"", fin=False)
        peer.write(idle * 20_000)
        seen, *_ = await peer.read_until_close()
        assert b"frames without a message" in seen[-1]
        await eventually(lambda: server.stats.refused["protocol"] == 1)


WORDS = {
    "pings": frame(PING, bytes(100)) * 2_000,
    "a frame without an end": frame(BINARY, bytes(300_000))[:200_000],
    "a message without an end": frame(BINARY, b"", fin=False)
    + frame(CONTINUATION, bytes(8_000), fin=False) * 20,
    "a frame": frame(BINARY, bytes(100_000)),
    "a ping of our own": frame(BINARY, MSGPACK.encode(Ping())),
}


@pytest.mark.parametrize("words", WORDS.values(), ids=WORDS)
async def test_who_says_something_else_than_hello_is_shut_out(
    ws: Transport, words: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """At once, and told so; all of one address make the same line in the log, and are counted."""
    async with listening(ws) as server:
        for _ in range(3):
            async with upgraded(server) as peer:
                peer.write(words)
                seen, *_ = await peer.read_until_close()
                assert GoodbyeCode.PROTOCOL.value.encode() in seen[-1]
                peer.writer.transport.abort()
        await eventually(lambda: server.stats.refused["protocol"] == 3)
        told = [each for each in caplog.messages if "stranger" in each]
        assert len(told) == 3
        assert len(set(told)) == 1


@contextmanager
def mute_server() -> Iterator[tuple[str, socket.socket]]:
    """A port that accepts and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"ws://127.0.0.1:{listening.getsockname()[1]}", listening


async def test_all_clients_may_come_at_once(ws: Transport) -> None:
    """While the server is busy with something else: whoever does not fit is dropped by the kernel,
    and tries again a second later."""
    async with listening(ws) as server:
        parts = urlsplit(server.url)
        with ExitStack() as come:
            for _ in range(300):
                place = (parts.hostname, parts.port)
                come.enter_context(socket.create_connection(place, timeout=0.5))


async def test_a_mute_server_is_given_up(ws: Transport) -> None:
    """After `open_timeout`, again and again, and leaving does not wait for it."""
    with mute_server() as (url, mute):
        mute.setblocking(False)
        async with connected(ws, url, replace(QUICK, open_timeout=0.05)) as client:
            loop = asyncio.get_running_loop()
            accepted = [await loop.sock_accept(mute) for _ in range(3)]
            assert client.stats.connects == 0
        for sock, _ in accepted:
            sock.close()


async def test_a_server_that_hangs_up_at_once_is_tried_again(ws: Transport) -> None:
    """The end before the handshake is a connection that could not be made."""
    seen = 0

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        seen += 1
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, connected(ws, f"ws://127.0.0.1:{port}"):
        await eventually(lambda: seen >= 3)


ANSWERS = {
    "nothing": b"",
    "no HTTP": b"nonsense\r\n\r\n",
    "zeros": bytes(100),
    "a page": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    "elsewhere": b"HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:1/\r\n\r\n",
    "odd bytes": b"HTTP/1.1 503 Service Unavailable\r\nX: \x1b[31m\xff\r\n\r\n",
    "no headers": b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    "a wrong key": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n",
    "many headers": b"HTTP/1.1 101 Switching Protocols\r\n" + b"X: y\r\n" * 100_000 + b"\r\n",
    "a long line": b"HTTP/1.1 101 " + b"x" * 1_000_000,
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_what_is_no_server_of_ours_is_a_lost_connection(ws: Transport, name: str) -> None:
    """It may be one soon. What it says is told in one line of printable text."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ANSWERS[name])
        writer.close()

    server = await asyncio.start_server(say, "127.0.0.1", 0)
    url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    recorder = Recorder()
    config = ConnectionConfig(
        limits=Limits(), tls=TlsConfig(), open_timeout=10.0, max_connections=1
    )
    async with server:
        with pytest.raises(ConnectionLostError, match="cannot connect to") as lost:
            await ws.dial(url, recorder, config)
    assert str(lost.value).isprintable()
    assert len(str(lost.value)) < 500
    assert not recorder.frames
    assert not recorder.ends


async def test_closing_does_not_wait_for_a_peer_that_does_not_answer(ws: Transport) -> None:
    """It neither reads nor closes: it is cut off, and the server closes in time."""
    async with (
        AsyncExitStack() as outlives_the_server,
        asyncio.timeout(10),
        listening(ws) as server,
    ):
        await outlives_the_server.enter_async_context(upgraded(server))
        await eventually(lambda: server.connections == 1)
