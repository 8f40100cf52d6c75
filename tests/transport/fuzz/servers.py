"""Hostile servers: each lets a client in, or nearly, says what should not be said, and expects the
client to end the connection and to come back."""

import asyncio
import base64
import hashlib
import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import asdict
from itertools import count
from typing import Any

import grpc
from grpc import aio

from osmo_transport import Limits, TlsConfig
from osmo_transport.frames import Hello
from osmo_transport.transports.abc import Connection, ConnectionConfig, Endpoint, FrameSink
from osmo_transport.transports.grpc.transport import METHOD, SERVICE
from osmo_transport.transports.memory import MemoryTransport
from tests.transport.fuzz.frames import (
    AS_JSON,
    AS_MSGPACK,
    AS_PROTOBUF,
    LIMIT_NAMES,
    Hostile,
    Place,
    Shape,
    lethal_to_client,
)
from tests.transport.fuzz.wires import (
    GONE,
    PATIENCE,
    CallWire,
    Damage,
    MemoryWire,
    Wire,
    WsWire,
    read_meanwhile,
    ws_garbage,
)
from tests.transport.raw import BINARY

UNMASKED = 0

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""What a WebSocket server adds to the key of a client."""


def believable(draw: Hostile, place: Place) -> Shape:
    """A welcome that a client takes, and that says something else than the last one."""
    limits = dict(zip(LIMIT_NAMES, (10_000, 2**24, 2**20, 2**18), strict=True))
    place.epoch += 1
    place.first, place.last = 1, 0
    return ["welcome", f"hostile-{draw.randrange(10**6)}", place.epoch, 0, limits]


async def receive(wire: Wire, draw: Hostile) -> Damage:
    """Answer a client that has connected."""
    damage = Damage(connections=1)
    with suppress(TimeoutError, *GONE):
        async with asyncio.timeout(PATIENCE):
            await _converse(wire, draw, damage)
    with suppress(*GONE):
        damage.frames += 1
        await wire.say(draw.hello())
    await wire.expect_end(draw, damage)
    return damage


async def _converse(wire: Wire, draw: Hostile, damage: Damage) -> None:
    if draw.often(0.95):
        await wire.answered.wait()
    hello = wire.frames[0] if wire.frames else None
    place = Place()
    if isinstance(hello, Hello):
        damage.welcomed += 1
        place = Place(hello.queue_epoch, hello.epoch, hello.sequence + 1, hello.sequence)
        if draw.often(0.6):
            await wire.say(believable(draw, place))
            await _be_borne(wire, draw, place, damage)
        elif draw.often(0.9):
            await wire.say(draw.welcome(place))
        damage.frames += 1
    rude = [draw.rude(wire.encoding, place) for _ in range(draw.choice((1, 1, 2, 5)))]
    if isinstance(wire, WsWire) and draw.often(0.2):
        wire.left = True  # a close frame may be among it
        await wire.send_bytes(
            b"".join(ws_garbage(draw, wire.opcode, data, wire.masked) for data in rude)
        )
    else:
        await wire.blurt(rude)
    damage.frames += len(rude)


async def _be_borne(wire: Wire, draw: Hostile, place: Place, damage: Damage) -> None:
    for _ in range(draw.choice((0, 1, 2, 5))):
        place.last = wire.last
        shapes = [draw.borne_by_client(place) for _ in range(10)]
        damage.frames += len(shapes)
        await wire.say(*shapes)


class HostileServer(ABC):
    """At one address, for one round after the other."""

    def __init__(self, limits: Limits, seed: str) -> None:
        self.damage = Damage()
        self._limits = limits
        self._seed = seed
        self.closing = False
        """Whether the round is over: what ends from then on has no reason."""
        self._numbers = count()
        self._tasks: set[asyncio.Task[None]] = set()
        self._lethal = False

    def draw(self) -> Hostile:
        """For the next connection."""
        return Hostile(f"{self._seed}/{next(self._numbers)}", self._limits)

    async def receive(self, wire: Wire, draw: Hostile) -> None:
        """Answer a client, and count what comes of it."""
        if self._lethal:
            with suppress(TimeoutError, *GONE):
                await asyncio.wait_for(wire.answered.wait(), PATIENCE)
                await wire.say(lethal_to_client(draw))
                await asyncio.wait_for(wire.ended.wait(), PATIENCE)
        else:
            damage = await receive(wire, draw)
            if not self.closing:
                self.damage.add(damage)

    def start(
        self, work: Coroutine[Any, Any, None], writer: asyncio.StreamWriter | None = None
    ) -> None:
        """Do it in a task, until the end of the round; then cut the connection, also where the
        round ended before the task began."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if writer is not None:
            task.add_done_callback(lambda _: _cut(writer))

    async def stop_tasks(self) -> None:
        """The end of the round."""
        self.closing = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def said(self) -> int:
        """Frames that it has sent so far."""
        return self.damage.frames

    async def be_lethal(self, lethal: bool) -> None:
        """Whether it tells clients to stop for good."""
        self._lethal = lethal

    @abstractmethod
    async def open(self, url: str) -> str:
        """Listen; where."""

    @abstractmethod
    async def close(self) -> None:
        """Listen no more, and end every connection."""


def _answer_to(request: bytes, draw: Hostile) -> tuple[bytes, bool]:
    """What a handshake is answered with, and whether it is right."""
    key = request.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
    accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
    good = (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Protocol: osmo.v1.msgpack\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
    if draw.often(0.9):
        return good, True
    extras = (
        b"Sec-WebSocket-Extensions: permessage-deflate\r\n",
        b"Sec-WebSocket-Extensions: \xff;;=\r\n",
        b"Sec-WebSocket-Protocol: osmo.v1.json\r\n",
        b"Content-Length: " + draw.choice((b"-1", b"x", b"9" * 5000, b"\xb2", b"0")) + b"\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"\xff\xfe: \xff\r\n",
        b"no colon\r\n",
        b"X: y\r\n" * draw.choice((100, 300, 5000)),
        b"X: " + b"y" * draw.choice((5_000, 100_000)) + b"\r\n",
        b" folded: x\r\n\r\n",
    )
    statuses = (b"000", b"200", b"301", b"401", b"999", b"99999", b"-1", b"x", b"\xff", b"")
    match draw.randrange(5):
        case 0:
            return good.replace(b"\r\n\r\n", b"\r\n" + draw.choice(extras) + b"\r\n"), False
        case 1:
            location = b"\r\nLocation: " + draw.choice((b"/", b"ws://[", b"\xff", b"x" * 5000))
            return good.replace(b" 101 ", b" " + draw.choice(statuses) + b" ").replace(
                b"\r\nUp", location + b"\r\nUp"
            ), False
        case 2:
            return draw.randbytes(draw.choice((10, 1000, 30_000))) + b"\r\n\r\n", False
        case _:
            for _ in range(draw.choice((1, 5))):
                good = draw.mutated(good)
            return good + b"\r\n\r\n", False


TURNS_TO_CONNECT = 4
"""Turns of an event loop from a connection that it has accepted to its protocol."""


def _cut(writer: asyncio.StreamWriter) -> None:
    # An AttributeError is all that asyncio says where the transport has closed by itself by now.
    with suppress(AttributeError):
        writer.transport.abort()


async def _close(server: asyncio.Server) -> None:
    """Close a server. asyncio forgets who has been accepted and is not connected yet, and leaves
    him waiting: accept no more, and let those come in first."""
    for each in server.sockets:
        asyncio.get_running_loop().remove_reader(each.fileno())
    for _ in range(TURNS_TO_CONNECT):
        await asyncio.sleep(0)
    server.close()


class HostileWs(HostileServer):
    """Over WebSocket, by hand."""

    _server: asyncio.Server

    async def open(self, url: str) -> str:
        self.closing = False
        port = int(url.rpartition(":")[2])
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", port)
        return f"ws://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.start(self._serve(reader, writer), writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        draw = self.draw()
        try:
            request = await reader.readuntil(b"\r\n\r\n")
            answer, right = _answer_to(request, draw)
            writer.write(answer)
            if right:
                wire = WsWire(reader, writer, AS_MSGPACK, BINARY, UNMASKED)
                async with read_meanwhile(wire):
                    await self.receive(wire, draw)
            else:
                self.damage.add(Damage(frames=1, connections=1))
                writer.write(draw.garbage())
                if draw.often(0.3):
                    # It may take it for a handshake, and wait for a welcome.
                    await asyncio.wait_for(reader.read(), 0.05)
        except (TimeoutError, *GONE):
            self.damage.failed += 1

    async def close(self) -> None:
        await _close(self._server)
        await self.stop_tasks()


class HostileGrpc(HostileServer):
    """Over gRPC, with messages of its own make; in some rounds no gRPC at all."""

    _server: aio.Server | None = None
    _babbling: asyncio.Server | None = None
    _rounds = 0

    async def open(self, url: str) -> str:
        self.closing = False
        port = int(url.rpartition(":")[2])
        self._rounds += 1
        draw = Hostile(f"{self._seed}/round/{self._rounds}", self._limits)
        if port and not self._lethal and draw.often(0.15):
            self._babbling = await asyncio.start_server(self._connected, "127.0.0.1", port)
            return url
        handler = grpc.stream_stream_rpc_method_handler(self._call)
        self._server = aio.server(options=[("grpc.so_reuseport", 0)])
        own = grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler})
        self._server.add_generic_rpc_handlers((own,))
        port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        await self._server.start()
        return f"grpc://127.0.0.1:{port}"

    async def _call(self, _: object, context: aio.ServicerContext[bytes, bytes]) -> None:
        draw = self.draw()
        wire = CallWire(context)
        async with read_meanwhile(wire):
            if draw.often(0.03):
                self.damage.add(Damage(frames=1, connections=1))
                code = draw.choice(list(grpc.StatusCode)[1:])
                await context.abort(code, draw.choice(("", "x" * 5000, "\x1b[31m\n", "é")))
            await self.receive(wire, draw)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.start(self._babble(reader, writer), writer)

    async def _babble(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        draw = self.draw()
        parts = [b"\0\0\0\x04\0\0\0\0\0"] if draw.often(0.8) else []
        for _ in range(draw.choice((1, 10))):
            payload = draw.randbytes(draw.choice((0, 1, 8, 100)))
            head = bytes((draw.randrange(11), draw.choice((0, 1, 4, 5, 255))))
            parts.append(
                len(payload).to_bytes(3) + head + draw.choice((0, 1, 3)).to_bytes(4) + payload
            )
        self.damage.add(Damage(frames=len(parts)))  # no connection that could let a client in
        with suppress(TimeoutError, *GONE):
            writer.write(b"".join(parts))
            await writer.drain()
            await asyncio.wait_for(reader.read(), 0.05)

    async def close(self) -> None:
        if self._babbling is not None:
            await _close(self._babbling)
            self._babbling = None
        await self.stop_tasks()
        if self._server is not None:
            await self._server.stop(None)
            self._server = None


class HostileMemory(HostileServer):
    """In memory, with what one of the codecs lets through."""

    _endpoint: Endpoint

    async def open(self, url: str) -> str:
        self.closing = False
        config = ConnectionConfig(
            limits=Limits(), tls=TlsConfig(), open_timeout=PATIENCE, max_connections=100
        )
        self._endpoint = await MemoryTransport().listen(url, self._accept, config)
        return self._endpoint.url

    def _accept(self, connection: Connection) -> FrameSink:
        draw = self.draw()
        wire = MemoryWire(draw.choice((AS_MSGPACK, AS_JSON, AS_PROTOBUF)))
        wire.connection = connection
        self.start(self._serve(wire, draw))
        return wire

    async def _serve(self, wire: MemoryWire, draw: Hostile) -> None:
        await self.receive(wire, draw)
        wire.connection.close()

    async def close(self) -> None:
        await self.stop_tasks()
        await self._endpoint.aclose()


def hostile_server(scheme: str, limits: Limits, seed: str) -> HostileServer:
    """One of them."""
    kinds: dict[str, Callable[[Limits, str], HostileServer]] = {
        "ws": HostileWs,
        "grpc": HostileGrpc,
        "memory": HostileMemory,
    }
    return kinds[scheme](limits, seed)


class DistantServer:
    """A hostile server in another process, so that this one's memory is its clients' alone."""

    def __init__(self, scheme: str, seed: str) -> None:
        self._arguments = ("--serve", scheme, "--seed", seed)
        self._process: asyncio.subprocess.Process | None = None
        self.damage = Damage()

    async def _tell(self, *command: object) -> Any:
        if self._process is None:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.transport.fuzz", *self._arguments),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps(command).encode() + b"\n")
        return json.loads(await stdout.readline())

    async def open(self, url: str) -> str:
        """As `HostileServer.open`, and all that follow."""
        return str(await self._tell("open", url))

    async def close(self) -> None:
        self.damage = Damage(**await self._tell("close"))

    async def said(self) -> int:
        return int(await self._tell("said"))

    async def be_lethal(self, lethal: bool) -> None:
        await self._tell("be_lethal", lethal)

    async def end(self) -> None:
        """End the process."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            await self._process.wait()


async def obey(hostile: HostileServer) -> None:
    """Do what a `DistantServer` tells at stdin."""
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        name, *arguments = json.loads(line)
        answer = await getattr(hostile, name)(*arguments)
        if name == "close":
            answer = asdict(hostile.damage)
        print(json.dumps(answer), flush=True)  # noqa: T201
