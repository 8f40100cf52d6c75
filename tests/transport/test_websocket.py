"""What only the WebSocket transport has: HTTP, subprotocols, fragments, close codes, rude peers.

Both engines have to hold it alike.
"""

import asyncio
import json
import random

import pytest

from osmo_transport import (
    Limits,
    Message,
    Server,
    ServerConfig,
    SessionConfig,
    Transport,
    Version,
    encode_message,
)
from osmo_transport.frames import MSGPACK, PROTOCOL, Hello, Ping, Pong, Welcome
from osmo_transport.testing import make_message
from osmo_transport.testing.kinds import STATE
from osmo_transport.transports.websocket import over_websockets
from osmo_transport.transports.websocket.transport import WebSocketTransport
from tests.helpers import eventually
from tests.transport.builders import batch
from tests.transport.engines import ENGINES, connected, engine_of, listening, serving, upgraded
from tests.transport.raw import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame, raw_peer

pytestmark = pytest.mark.usefixtures("no_socket_left")

SMALL = Limits(message_bytes=2000, batch_bytes=2000, window_bytes=20_000)
HELLO = Hello(PROTOCOL, "backend", "raw", "one", "", 0, 0, Limits())
NORMAL, INVALID, TOO_BIG = 1000, 1007, 1009
AS_JSON = "Sec-WebSocket-Protocol: osmo.v1.json\r\n"

# HTTP


@pytest.mark.parametrize(
    ("request_line", "by_websockets", "by_picows"),
    [
        ("GET /elsewhere HTTP/1.1\r\nHost: x\r\n\r\n", "404", "404"),
        ("GET /osmo/v1 HTTP/1.1\r\nHost: x\r\n\r\n", "426", "400"),
        ("POST /osmo/v1 HTTP/1.1\r\nHost: x\r\n\r\n", "405", "400"),
        ("nonsense\r\n\r\n", "", "400"),
    ],
)
async def test_what_is_no_upgrade_is_answered(
    ws: Transport, request_line: str, by_websockets: str, by_picows: str
) -> None:
    """With an HTTP status, and the end; one engine answers what is no HTTP with the end alone."""
    async with serving(ws) as server, raw_peer(server.url) as peer:
        peer.write(request_line.encode())
        status = (await peer.at_end()).split(b"\r\n")[0].decode()
        answer = by_websockets if engine_of(ws) is over_websockets else by_picows
        assert answer in status
        assert bool(answer) is bool(status)


async def test_an_upgrade_elsewhere_is_refused(ws: Transport) -> None:
    """With where to connect; a query changes nothing."""
    async with serving(ws) as server:
        async with raw_peer(server.url) as peer:
            assert "404" in await peer.upgrade(path="/elsewhere")
            assert b"connect to /osmo/v1" in await peer.at_end()
        for path in ("/", "/osmo/v1?by=hand"):
            async with raw_peer(server.url) as peer:
                assert "101" in await peer.upgrade(path=path)


async def test_random_bytes_are_no_http(ws: Transport) -> None:
    """They end in a refusal, or in silence and the handshake's timeout; nobody else notices."""
    draw = random.Random(7)

    async def babble(url: str) -> None:
        async with raw_peer(url) as peer:
            peer.write(draw.randbytes(draw.randrange(1, 3000)))
            await peer.at_end()

    async with serving(ws, ServerConfig(open_timeout=0.2)) as server:
        await asyncio.gather(*[babble(server.url) for _ in range(40)])
        assert server.connections == 1


async def test_a_handshake_may_come_in_pieces(ws: Transport) -> None:
    """On either side, as from a proxy that hands on what it has; what follows is heard."""

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(50):
            writer.write(piece)
            await asyncio.sleep(0.001)
        writer.close()

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with raw_peer(server.url) as behind, asyncio.TaskGroup() as both_ways:
            both_ways.create_task(pass_on(reader, behind.writer))
            both_ways.create_task(pass_on(behind.reader, writer))

    async with listening(ws) as server, await asyncio.start_server(proxy, "127.0.0.1", 0) as front:
        url = f"ws://127.0.0.1:{front.sockets[0].getsockname()[1]}"
        async with connected(ws, url) as client:
            await client.send(make_message())
            (incoming,) = await server.receive()
            incoming.acknowledge()
            await client.flush()
            assert client.stats.connects == 1


async def test_a_slow_handshake_is_cut_off(ws: Transport) -> None:
    """Whoever sends his request byte by byte loses the connection after `open_timeout`."""
    async with (
        serving(ws, ServerConfig(open_timeout=0.2)) as server,
        raw_peer(server.url) as peer,
    ):
        ended = asyncio.create_task(peer.at_end())
        for byte in b"GET /osmo/v1 HTTP/1.1\r\nHost: a-very-slow-client.example\r\n":
            peer.write(bytes([byte]))
            await asyncio.sleep(0.01)
            if ended.done():
                break
        assert ended.done()


async def test_connections_over_the_limit_are_refused(ws: Transport) -> None:
    """With 503, which load balancers understand."""
    async with (
        serving(ws, ServerConfig(max_connections=1)) as server,
        raw_peer(server.url) as peer,
    ):
        assert "503" in await peer.upgrade()


async def test_an_unknown_subprotocol_is_refused(ws: Transport) -> None:
    """With the names of those that are spoken."""
    async with serving(ws) as server, raw_peer(server.url) as peer:
        assert "400" in await peer.upgrade("Sec-WebSocket-Protocol: mqtt\r\n")
        assert b"osmo.v1.msgpack, osmo.v1.json" in await peer.at_end()


async def test_nothing_is_compressed(ws: Transport) -> None:
    """Who asks for it is let in without: a few bytes could stand for more than there is memory. Who
    does it all the same loses his connection."""
    wish = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
    async with serving(ws) as server, raw_peer(server.url) as peer:
        assert "sec-websocket-extensions" not in (await peer.upgrade(wish)).lower()
        compressed = bytearray(frame(BINARY, b"\x62\x60\x00\x00"))
        compressed[0] |= 0x40
        peer.write(bytes(compressed))
        await peer.at_end()


# subprotocols


async def test_people_can_speak_json(ws: Transport) -> None:
    """The JSON subprotocol carries the whole dialogue in text messages."""
    async with (
        serving(ws) as server,
        upgraded(server, AS_JSON) as peer,
    ):
        limits = {"window_messages": 100}
        hello = ["hello", 1, "backend", "by hand", "me", "", 0, 0, limits]
        peer.message(TEXT, json.dumps(hello).encode())
        opcode, payload = await peer.read_message()
        welcome = json.loads(payload)
        assert (opcode, welcome[0]) == (TEXT, "welcome")
        assert welcome[4]["window_messages"] == 100
        message = [STATE, "w/t/0", [welcome[2], 7], "id", 1.5, "aGVsbG8="]
        peer.message(TEXT, json.dumps(["batch", 1, [message]]).encode())
        (incoming,) = await server.receive()
        (got,) = incoming.messages
        assert (got.key, got.payload, got.version) == ("w/t/0", b"hello", Version(welcome[2], 7))
        incoming.acknowledge()
        assert json.loads((await peer.read_message())[1]) == ["stored", 1]
        peer.message(TEXT, json.dumps(["batch", 2, [message[:3]]]).encode())
        refused = json.loads((await peer.read_message())[1])
        assert refused[:2] == ["refused", 2]
        assert "length" in refused[2]


async def test_the_first_known_subprotocol_is_chosen(ws: Transport) -> None:
    """In the client's order of preference; none at all means msgpack."""
    async with serving(ws) as server:
        async with raw_peer(server.url) as peer:
            wish = "Sec-WebSocket-Protocol: mqtt, osmo.v1.json, osmo.v1.msgpack\r\n"
            assert "Sec-WebSocket-Protocol: osmo.v1.json" in await peer.upgrade(wish)
        async with upgraded(server) as peer:
            peer.message(BINARY, MSGPACK.encode(HELLO))
            assert isinstance(MSGPACK.decode((await peer.read_message())[1]), Welcome)


async def test_a_message_at_the_limit_passes_as_json(ws: Transport) -> None:
    """Base64 takes a third more, and is not held against it."""
    config = ServerConfig(session=SessionConfig(limits=SMALL))
    async with (
        serving(ws, config) as server,
        upgraded(server, AS_JSON) as peer,
    ):
        hello = ["hello", 1, "backend", "by hand", "me", "", 0, 0, {}]
        peer.message(TEXT, json.dumps(hello).encode())
        await peer.read_message()
        payload = "AAAA" * ((SMALL.message_bytes - 70) // 3)
        message = [STATE, "k", [1, 1], "0" * 32, 0.0, payload]
        peer.message(TEXT, json.dumps(["batch", 1, [message]]).encode())
        (incoming,) = await server.receive()
        (got,) = incoming.messages
        assert len(encode_message(got)) > SMALL.message_bytes - 4
        incoming.acknowledge()


# frames and fragments


async def test_a_message_may_come_in_fragments(ws: Transport) -> None:
    """In any number of them, empty ones too, with a control frame in between."""
    async with serving(ws) as server, upgraded(server) as peer:
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


async def test_fragments_together_are_bounded(ws: Transport) -> None:
    """As one frame would be, and the sender is told."""
    config = ServerConfig(session=SessionConfig(limits=SMALL))
    async with serving(ws, config) as server, upgraded(server) as peer:
        for number in range(100):
            peer.message(CONTINUATION if number else BINARY, b"x" * 1000, fin=False)
        seen, code, reason = await peer.read_until_close()
        # One engine counts the fragments of a message by itself, and has a code of its own for it.
        by_itself = engine_of(ws) is over_websockets
        assert (code, len(seen)) == ((TOO_BIG, 0) if by_itself else (INVALID, 1))
        assert str(SMALL.frame_bytes) in reason


async def test_a_frame_over_the_limit_is_refused_by_its_header(ws: Transport) -> None:
    """Before its bytes are taken in; the close frame says so."""
    config = ServerConfig(session=SessionConfig(limits=SMALL))
    async with serving(ws, config) as server, upgraded(server) as peer:
        peer.write(bytes([128 | BINARY, 255]) + (2**40).to_bytes(8, "big") + b"mask")
        _, code, reason = await peer.read_until_close()
        assert code == TOO_BIG
        assert str(SMALL.frame_bytes) in reason
        await peer.at_end()


@pytest.mark.parametrize(
    "payload", [b"", b"\xff", b"\x92\xa6stored", b"\x93\xa7refused\x01\xa1\xff"]
)
async def test_what_is_no_frame_is_refused(ws: Transport, payload: bytes) -> None:
    """With a goodbye that says why, and a close code."""
    async with serving(ws) as server, upgraded(server) as peer:
        peer.message(BINARY, payload)
        (goodbye,), code, reason = await peer.read_until_close()
        assert code == INVALID
        assert "not a frame" in reason
        assert b"protocol" in goodbye
        peer.message(CLOSE, b"")
        await peer.at_end()
        await eventually(lambda: server.connections == 1)


@pytest.mark.parametrize("ahead", ["", "x"])
async def test_a_reason_is_cut_between_characters(ws: Transport, ahead: str) -> None:
    """A close frame holds 123 bytes, and the text of an error may be longer, and not ASCII."""
    async with serving(ws) as server, upgraded(server, AS_JSON) as peer:
        frame = ["goodbye", ahead + "é" * 200, ""]
        peer.message(TEXT, json.dumps(frame, ensure_ascii=False).encode())
        _, code, reason = await peer.read_until_close()
        assert code == INVALID
        assert "not a frame" in reason
        assert reason.endswith("é")


async def test_random_bytes_are_no_websocket_frames(ws: Transport) -> None:
    """They end that connection, whatever they happen to mean; nobody else notices."""
    draw = random.Random(11)

    async def babble(server: Server) -> None:
        async with upgraded(server) as peer:
            peer.write(draw.randbytes(draw.randrange(1, 2000)))
            await peer.at_end()

    quick = SessionConfig(heartbeat_interval=0.2, heartbeat_timeout=0.2)
    async with serving(ws, ServerConfig(session=quick)) as server:
        await asyncio.gather(*[babble(server) for _ in range(60)])
        await eventually(lambda: server.connections == 1)


async def test_a_protocol_violation_is_told_with_its_reason(ws: Transport) -> None:
    """A batch before the hello: goodbye, and a normal close."""
    async with serving(ws) as server, upgraded(server) as peer:
        peer.message(BINARY, MSGPACK.encode(batch(1, make_message())))
        (goodbye,), code, _ = await peer.read_until_close()
        assert code == NORMAL
        assert b"a batch before the welcome" in goodbye


@pytest.mark.parametrize("payload", [b"", b"\x03\xe8", b"\x03\xe9going away", b"\x0f\xa0"])
async def test_a_close_is_answered(ws: Transport, payload: bytes) -> None:
    """With the peer's own code, or one that may stand on the wire."""
    async with serving(ws) as server, upgraded(server) as peer:
        peer.message(CLOSE, payload)
        _, code, _ = await peer.read_until_close()
        assert code in (NORMAL, int.from_bytes(payload[:2]))
        assert await peer.at_end() == b""
        await eventually(lambda: server.connections == 1)


@pytest.mark.parametrize("dialling", ENGINES)
@pytest.mark.parametrize("accepting", ENGINES)
async def test_the_engines_understand_each_other(dialling: str, accepting: str) -> None:
    """Whatever is installed at either end."""
    server_side, client_side = (WebSocketTransport(ENGINES[e]) for e in (accepting, dialling))
    async with (
        listening(server_side) as server,
        connected(client_side, server.url) as client,
    ):
        messages = [make_message(str(size), payload=b"x" * size) for size in (0, 125, 126, 70_000)]
        for message in messages:
            await client.send(message)
        arrived: list[Message] = []
        while len(arrived) < len(messages):
            for incoming in await server.receive():
                arrived += incoming.messages
                incoming.acknowledge()
        await client.flush()
        assert arrived == messages
