"""What only the WebSocket transport has: HTTP, subprotocols, fragments, close codes, rude peers."""

import asyncio
import json
import random
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest

from osmo_transport import (
    BackoffConfig,
    ClientConfig,
    Limits,
    Server,
    ServerConfig,
    SessionConfig,
    connect,
    listen,
)
from osmo_transport.frames import MSGPACK, PROTOCOL, Batch, Hello, Ping, Pong, Welcome
from osmo_transport.testing import make_message
from tests.helpers import eventually
from tests.transport.raw import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, RawPeer, raw_peer

pytestmark = pytest.mark.usefixtures("no_socket_left")

SMALL = Limits(message_bytes=2000, batch_bytes=2000, window_bytes=20_000)
HELLO = Hello(PROTOCOL, "backend", "raw", "one", "", 0, 0, Limits())
NORMAL, PROTOCOL_ERROR, UNSUPPORTED, TOO_BIG = 1000, 1002, 1003, 1009


@asynccontextmanager
async def serving(config: ServerConfig | None = None) -> AsyncIterator[Server]:
    """A server, and a well-behaved client that has to stay unharmed."""
    async with listen("ws://127.0.0.1:0", config=config) as server:
        quiet = ClientConfig(drain_timeout=0.0)
        async with connect(server.url, backend="bystander", config=quiet) as client:
            await client.epoch_after(0)
            yield server
            await client.send(make_message("still here"))
            await eventually(lambda: client.stats.in_flight)
            assert client.stats.connects == 1


@asynccontextmanager
async def upgraded(server: Server, headers: str = "") -> AsyncIterator[RawPeer]:
    async with raw_peer(server.url) as peer:
        assert "101" in await peer.upgrade(headers)
        yield peer


# HTTP


@pytest.mark.parametrize(
    ("request_line", "answer"),
    [
        ("GET /elsewhere HTTP/1.1\r\nHost: x\r\n\r\n", "404"),
        ("GET /osmo/v1 HTTP/1.1\r\nHost: x\r\n\r\n", "400"),
        ("POST /osmo/v1 HTTP/1.1\r\nHost: x\r\n\r\n", "400"),
        ("nonsense\r\n\r\n", "400"),
    ],
)
async def test_what_is_no_upgrade_is_answered(request_line: str, answer: str) -> None:
    """With an HTTP status, and the end."""
    async with serving() as server, raw_peer(server.url) as peer:
        peer.write(request_line.encode())
        assert answer in (await peer.at_end()).split(b"\r\n")[0].decode()


async def test_random_bytes_are_no_http() -> None:
    """They end in a refusal, or in silence and the handshake's timeout; nobody else notices."""
    draw = random.Random(7)

    async def babble(url: str) -> None:
        async with raw_peer(url) as peer:
            peer.write(draw.randbytes(draw.randrange(1, 3000)))
            await peer.at_end()

    async with serving(ServerConfig(open_timeout=0.2)) as server:
        await asyncio.gather(*[babble(server.url) for _ in range(40)])
        assert server.connections == 1


async def test_a_slow_handshake_is_cut_off() -> None:
    """Whoever sends his request byte by byte loses the connection after `open_timeout`."""
    async with serving(ServerConfig(open_timeout=0.2)) as server, raw_peer(server.url) as peer:
        ended = asyncio.create_task(peer.at_end())
        for byte in b"GET /osmo/v1 HTTP/1.1\r\nHost: a-very-slow-client.example\r\n":
            peer.write(bytes([byte]))
            await asyncio.sleep(0.01)
            if ended.done():
                break
        assert ended.done()


async def test_connections_over_the_limit_are_refused() -> None:
    """With 503, which load balancers understand."""
    async with serving(ServerConfig(max_connections=1)) as server, raw_peer(server.url) as peer:
        assert "503" in await peer.upgrade()


async def test_an_unknown_subprotocol_is_refused() -> None:
    """With the names of those that are spoken."""
    async with serving() as server, raw_peer(server.url) as peer:
        assert "400" in await peer.upgrade("Sec-WebSocket-Protocol: mqtt\r\n")
        assert b"osmo.v1.msgpack, osmo.v1.json" in await peer.at_end()


# subprotocols


async def test_people_can_speak_json() -> None:
    """The JSON subprotocol carries the whole dialogue in text messages."""
    async with (
        serving() as server,
        upgraded(server, "Sec-WebSocket-Protocol: osmo.v1.json\r\n") as peer,
    ):
        limits = {"window_messages": 100}
        hello = ["hello", 1, "backend", "by hand", "me", "", 0, 0, limits]
        peer.message(TEXT, json.dumps(hello).encode())
        opcode, payload = await peer.read_message()
        welcome = json.loads(payload)
        assert (opcode, welcome[0]) == (TEXT, "welcome")
        assert welcome[4]["window_messages"] == 100
        message = ["id", "update_pod", "w/t/0", [welcome[2], 7], 1.5, "aGVsbG8="]
        peer.message(TEXT, json.dumps(["batch", 1, [message]]).encode())
        (incoming,) = await server.receive()
        (got,) = incoming.batch.messages
        assert got is not None
        assert (got.key, got.payload, got.version) == ("w/t/0", b"hello", (welcome[2], 7))
        incoming.acknowledge()
        assert json.loads((await peer.read_message())[1]) == ["ack", 1]


async def test_the_first_known_subprotocol_is_chosen() -> None:
    """In the client's order of preference; none at all means msgpack."""
    async with serving() as server:
        async with raw_peer(server.url) as peer:
            wish = "Sec-WebSocket-Protocol: mqtt, osmo.v1.json, osmo.v1.msgpack\r\n"
            assert "Sec-WebSocket-Protocol: osmo.v1.json" in await peer.upgrade(wish)
        async with upgraded(server) as peer:
            peer.message(BINARY, MSGPACK.encode(HELLO))
            assert isinstance(MSGPACK.decode((await peer.read_message())[1]), Welcome)


async def test_a_message_at_the_limit_passes_as_json() -> None:
    """Base64 takes a third more, and is not held against it."""
    config = ServerConfig(session=SessionConfig(limits=SMALL))
    async with (
        serving(config) as server,
        upgraded(server, "Sec-WebSocket-Protocol: osmo.v1.json\r\n") as peer,
    ):
        hello = ["hello", 1, "backend", "by hand", "me", "", 0, 0, {}]
        peer.message(TEXT, json.dumps(hello).encode())
        await peer.read_message()
        payload = "A" * (4 * (SMALL.message_bytes - 97) // 3 // 4 * 4)
        message = ["0" * 32, "update_pod", "k", [1, 1], 0.0, payload]
        peer.message(TEXT, json.dumps(["batch", 1, [message]]).encode())
        (incoming,) = await server.receive()
        (got,) = incoming.batch.messages
        assert got is not None
        assert got.size > SMALL.message_bytes - 4
        incoming.acknowledge()


# frames and fragments


async def test_a_message_may_come_in_fragments() -> None:
    """In any number of them, empty ones too, with a control frame in between."""
    async with serving() as server, upgraded(server) as peer:
        data = MSGPACK.encode(HELLO)
        peer.message(BINARY, b"", fin=False)
        for byte in data:
            peer.message(CONTINUATION, bytes([byte]), fin=False)
        peer.message(PING, b"are you there?")
        assert await peer.read_message() == (PONG, b"are you there?")
        peer.message(CONTINUATION, b"")
        assert isinstance(MSGPACK.decode((await peer.read_message())[1]), Welcome)
        peer.message(BINARY, MSGPACK.encode(Ping()))
        assert MSGPACK.decode((await peer.read_message())[1]) == Pong()


async def test_fragments_together_are_bounded() -> None:
    """As one frame would be, and the sender is told."""
    config = ServerConfig(session=SessionConfig(limits=SMALL))
    async with serving(config) as server, upgraded(server) as peer:
        for number in range(100):
            peer.message(CONTINUATION if number else BINARY, b"x" * 1000, fin=False)
        seen, code, reason = await peer.read_until_close()
        assert (code, len(seen)) == (UNSUPPORTED, 1)
        assert str(SMALL.frame_bytes) in reason


async def test_a_frame_over_the_limit_is_refused_by_its_header() -> None:
    """Before its bytes are taken in; the close frame says so."""
    config = ServerConfig(session=SessionConfig(limits=SMALL))
    async with serving(config) as server, upgraded(server) as peer:
        peer.write(bytes([128 | BINARY, 255]) + (2**40).to_bytes(8, "big") + b"mask")
        _, code, reason = await peer.read_until_close()
        assert code == TOO_BIG
        assert str(SMALL.frame_bytes) in reason
        await peer.at_end()


@pytest.mark.parametrize("payload", [b"", b"\xff", b"\x92\xa3ack", b"\x93\xa6reject\x01\xa1\xff"])
async def test_what_is_no_frame_is_refused(payload: bytes) -> None:
    """With a goodbye that says why, and a close code."""
    async with serving() as server, upgraded(server) as peer:
        peer.message(BINARY, payload)
        (goodbye,), code, reason = await peer.read_until_close()
        assert code == UNSUPPORTED
        assert "not a frame" in reason
        assert b"protocol" in goodbye
        peer.message(CLOSE, b"")
        await peer.at_end()
        await eventually(lambda: server.connections == 1)


async def test_a_reason_is_cut_between_characters() -> None:
    """A close frame holds 123 bytes, and the text of an error may be longer, and not ASCII."""
    async with (
        serving() as server,
        upgraded(server, "Sec-WebSocket-Protocol: osmo.v1.json\r\n") as peer,
    ):
        peer.message(TEXT, json.dumps(["goodbye", "é" * 200, ""], ensure_ascii=False).encode())
        _, code, reason = await peer.read_until_close()
        assert code == UNSUPPORTED
        assert "not a frame" in reason


async def test_random_bytes_are_no_websocket_frames() -> None:
    """They end that connection, whatever they happen to mean; nobody else notices."""
    draw = random.Random(11)

    async def babble(server: Server) -> None:
        async with upgraded(server) as peer:
            peer.write(draw.randbytes(draw.randrange(1, 2000)))
            await peer.at_end()

    async with serving(ServerConfig(session=SessionConfig(heartbeat_timeout=0.2))) as server:
        await asyncio.gather(*[babble(server) for _ in range(60)])
        await eventually(lambda: server.connections == 1)


async def test_a_protocol_violation_is_told_with_its_reason() -> None:
    """A batch before the hello: goodbye, and a normal close."""
    async with serving() as server, upgraded(server) as peer:
        peer.message(BINARY, MSGPACK.encode(Batch(1, (make_message(),))))
        (goodbye,), code, _ = await peer.read_until_close()
        assert code == NORMAL
        assert b"a batch before the welcome" in goodbye


@pytest.mark.parametrize("payload", [b"", b"\x03\xe8", b"\x03\xe9going away", b"\x0f\xa0"])
async def test_a_close_is_answered(payload: bytes) -> None:
    """With a code that may stand on the wire, also when the peer gave none."""
    async with serving() as server, upgraded(server) as peer:
        peer.message(CLOSE, payload)
        _, code, _ = await peer.read_until_close()
        assert code == NORMAL
        assert await peer.at_end() == b""
        await eventually(lambda: server.connections == 1)


# peers that do not take part


async def test_who_says_nothing_is_cut_off() -> None:
    """A connection without a hello does not live for ever."""
    config = ServerConfig(session=SessionConfig(heartbeat_timeout=0.1))
    async with listen("ws://127.0.0.1:0", config=config) as server, upgraded(server) as peer:
        (goodbye,), *_ = await peer.read_until_close()
        assert b"no hello" in goodbye


async def test_who_never_reads_is_bounded_and_cut_off() -> None:
    """He is not acknowledged beyond what the buffers hold, so that his window stops him; his pings
    are not answered into memory; and the connection ends."""
    limits = Limits(window_messages=1000)
    config = ServerConfig(session=SessionConfig(limits=limits))
    async with (
        listen("ws://127.0.0.1:0", config=config) as server,
        raw_peer(server.url, receive_buffer=4096) as peer,
    ):
        await peer.upgrade()
        peer.message(BINARY, MSGPACK.encode(HELLO))
        await peer.read_message()
        peer.reader._transport.pause_reading()  # type: ignore[attr-defined]
        (connection,) = server._peers
        transport = connection._connection._transport.underlying_transport  # type: ignore[attr-defined]
        # What the kernel buffers takes time to fill, and is not what is tested.
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)

        async def acknowledge_all() -> None:
            while taken := await server.receive():
                for incoming in taken:
                    incoming.acknowledge()

        working = asyncio.create_task(acknowledge_all())
        most, sequence = 0, 0
        ping = MSGPACK.encode(Ping())
        while server.connections:
            for _ in range(20 if peer.writer.transport.get_write_buffer_size() < 100_000 else 0):
                sequence += 1
                batch = Batch(sequence, (make_message(payload=b""),))
                peer.message(BINARY, MSGPACK.encode(batch))
                peer.message(BINARY, ping)
            await asyncio.sleep(0)
            most = max(most, transport.get_write_buffer_size())
        assert sequence > limits.window_messages
        assert most < 2_000_000
        server.stop()
        await working


@contextmanager
def mute_server() -> Iterator[tuple[str, socket.socket]]:
    """A port that accepts and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"ws://127.0.0.1:{listening.getsockname()[1]}", listening


async def test_a_mute_server_is_given_up() -> None:
    """After `open_timeout`, again and again, and leaving does not wait for it."""
    quick = ClientConfig(
        open_timeout=0.05, backoff=BackoffConfig(base=0.01, maximum=0.01), drain_timeout=0.0
    )
    with mute_server() as (url, listening):
        listening.setblocking(False)
        async with connect(url, backend="b", config=quick) as client:
            loop = asyncio.get_running_loop()
            accepted = [await loop.sock_accept(listening) for _ in range(3)]
            assert client.stats.connects == 0
        for sock, _ in accepted:
            sock.close()


async def test_a_server_that_hangs_up_at_once_is_tried_again() -> None:
    """The end before the handshake is a connection that could not be made."""
    seen = 0

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        seen += 1
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    quick = ClientConfig(backoff=BackoffConfig(base=0.01, maximum=0.01), drain_timeout=0.0)
    async with server, connect(f"ws://127.0.0.1:{port}", backend="b", config=quick):
        await eventually(lambda: seen >= 3)


async def test_closing_does_not_wait_for_a_peer_that_is_gone() -> None:
    """It neither reads nor answers: it is cut off, and the server closes in time."""
    async with asyncio.timeout(5):
        async with listen("ws://127.0.0.1:0") as server, upgraded(server):
            await eventually(lambda: server.connections == 1)
