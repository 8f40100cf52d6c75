"""Hostile clients: each keeps to the protocol for a while, then says what should not be said, and
expects to lose its connection and to be told why."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from itertools import count
from typing import Any

from grpc import aio

from osmo_transport import Limits, TlsConfig
from osmo_transport.frames import Welcome
from osmo_transport.transports.abc import ConnectionConfig
from osmo_transport.transports.grpc.transport import METHOD, SERVICE
from osmo_transport.transports.memory import MemoryTransport
from tests.transport.fuzz.frames import AS_JSON, AS_MSGPACK, AS_PROTOBUF, Hostile, Place, Shape
from tests.transport.fuzz.wires import (
    GONE,
    PATIENCE,
    CallWire,
    Damage,
    MemoryWire,
    Wire,
    WsWire,
    read_meanwhile,
    ws_frame,
    ws_garbage,
)
from tests.transport.raw import BINARY, PING, TEXT, raw_peer

AT_ONCE = 8
"""Hostile clients that are connected at a time."""

MASKED = 0x80

SUBPROTOCOLS = ("", "osmo.v1.msgpack", "osmo.v1.json", "osmo.v1.json, osmo.v1.msgpack")

Opened = AbstractAsyncContextManager[Wire]


# What they do once they are connected


async def greet(wire: Wire, draw: Hostile, place: Place, damage: Damage) -> bool:
    """Say hello; whether it is let in."""
    damage.frames += 1
    if draw.often(0.9):
        await wire.say(draw.hello())
    else:
        await wire.blurt([wire.encoding.encode(draw.spoilt(draw.hello()))])
    if draw.often(0.05):
        return False  # and goes on before the welcome
    await asyncio.wait_for(wire.answered.wait(), 1.0)
    welcome = wire.frames[0] if wire.frames else None
    if not isinstance(welcome, Welcome):
        return False
    damage.welcomed += 1
    place.queue_epoch, place.epoch = welcome.queue_epoch, welcome.epoch
    place.first = welcome.sequence + 1
    draw.memory.append((welcome.queue_epoch, welcome.epoch, welcome.sequence))
    place.room = draw.limits.window_messages
    return True


async def break_for_certain(wire: Wire, draw: Hostile, damage: Damage) -> None:
    """Say what a client never says; the server ends the connection, and says why."""
    with suppress(*GONE):
        damage.frames += 1
        await wire.say(["welcome", "", 1, 0, {}])
    await wire.expect_end(draw, damage)


async def talk(wire: Wire, draw: Hostile) -> Damage:
    """Keep to the protocol for some frames, then break it."""
    damage = Damage(connections=1)
    place = Place()
    with suppress(TimeoutError, *GONE):
        if draw.often(0.95) and await greet(wire, draw, place, damage):
            for _ in range(draw.choice((0, 1, 2, 5))):
                borne = [draw.borne_by_server(place) for _ in range(10)]
                damage.frames += len(borne)
                await wire.say(*borne)
        rude = [draw.rude(wire.encoding, place) for _ in range(draw.choice((1, 1, 2, 5)))]
        damage.frames += len(rude)
        await wire.blurt(rude)
        if draw.often(0.1):
            return damage  # and is gone
    await break_for_certain(wire, draw, damage)
    return damage


async def break_rules(wire: Wire, draw: Hostile) -> Damage:
    """Say what is no WebSocket frame, or hardly one."""
    assert isinstance(wire, WsWire)
    damage = Damage(connections=1)
    place = Place()
    wire.left = True  # a close frame may be among it
    with suppress(TimeoutError, *GONE):
        if draw.often(0.2) or await greet(wire, draw, place, damage):
            for _ in range(draw.choice((1, 5, 20))):
                frame = wire.encoding.encode(draw.borne_by_server(place))
                damage.frames += 1
                await wire.send_bytes(ws_garbage(draw, wire.opcode, frame, wire.masked))
    await break_for_certain(wire, draw, damage)
    return damage


UNREAD = 20_000
"""Questions of who never reads an answer."""


async def never_read(
    wire: Wire, draw: Hostile, ask: Callable[[list[bytes]], Awaitable[None]]
) -> Damage:
    """After the welcome: ask and ask, and never look at an answer."""
    damage = Damage(connections=1, welcomed=1)
    welcome = wire.frames[0]
    if not isinstance(welcome, Welcome):
        return damage
    first = welcome.sequence + 1
    pings = draw.often(0.5)
    with suppress(TimeoutError, *GONE):
        while damage.unread < UNREAD:
            shapes: list[Shape] = [["ping"]] * 100
            if not pings:
                shapes = [["batch", first + 3 * n, [b""] * 3] for n in range(100)]
                first += 300
            async with asyncio.timeout(0.2):
                await ask([wire.encoding.encode(shape) for shape in shapes])
            damage.unread += 100
    return damage


# How they connect


@asynccontextmanager
async def ws_wire(url: str, draw: Hostile) -> AsyncIterator[Wire]:
    """Over WebSocket, with one of the subprotocols or none."""
    wished = draw.choice(SUBPROTOCOLS)
    in_text = wished.startswith("osmo.v1.json")
    async with raw_peer(url) as peer:
        head = await peer.upgrade(f"Sec-WebSocket-Protocol: {wished}\r\n" if wished else "")
        if " 101 " not in head:
            raise ConnectionRefusedError(head)
        encoding = AS_JSON if in_text else AS_MSGPACK
        opcode = TEXT if in_text else BINARY
        wire = WsWire(peer.reader, peer.writer, encoding, opcode, MASKED)
        async with read_meanwhile(wire):
            yield wire


async def ws_never_reads(url: str, draw: Hostile) -> Damage:
    """It asks in frames of ours, or of WebSockets."""
    async with raw_peer(url, receive_buffer=4096) as peer:
        await peer.upgrade()
        wire = WsWire(peer.reader, peer.writer, AS_MSGPACK, BINARY, MASKED)
        await wire.say(draw.hello())
        _, answer = await peer.read_message()
        wire.heard(answer)
        transport: Any = peer.reader._transport  # type: ignore[attr-defined]
        transport.pause_reading()

        async def ping(frames: list[bytes]) -> None:
            await wire.send_bytes(ws_frame(PING, bytes(125), MASKED) * len(frames))

        return await never_read(wire, draw, ping if draw.often(0.5) else wire.send)


async def http_garbage(url: str, draw: Hostile) -> Damage:
    """A handshake that is none."""
    request = (
        b"GET /osmo/v1 HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    match draw.randrange(6):
        case 0:
            request = draw.randbytes(1000) + b"\r\n\r\n"
        case 1:
            request = request.replace(b"\r\n\r\n", b"\r\nX: " + b"y" * 100_000 + b"\r\n\r\n")
        case 2:
            header = draw.choice((b"X: \xff\xfe", b": x", b"no colon", b"X: y\r\n" * 1000, b"\0"))
            request = request.replace(b"\r\n\r\n", b"\r\n" + header + b"\r\n\r\n")
        case 3:
            path = draw.choice((b"/\xff", b"*", b"http://[::1", b"/osmo/v1?x=\xff", b"", b"/x"))
            request = request.replace(b"/osmo/v1", path)
        case _:
            for _ in range(5):
                request = draw.mutated(request)
            request += b"\r\n\r\n"
    async with raw_peer(url) as peer:
        await _say_and_leave(peer.reader, peer.writer, request + draw.garbage())
    return Damage(frames=1, connections=1)


async def http2_garbage(url: str, draw: Hostile) -> Damage:
    """Bytes to a port of gRPC, most of them in the form of HTTP/2 frames."""
    parts = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"]
    if draw.often(0.2):
        parts = [draw.randbytes(300)]
    for _ in range(draw.choice((1, 10, 50))):
        payload = draw.randbytes(draw.choice((0, 1, 8, 100)))
        kind, flags = draw.randrange(11), draw.choice((0, 1, 4, 5, 255))
        stream = draw.choice((0, 1, 1, 3, 2**31 - 1))
        head = len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4)
        parts.append(head + payload)
    async with raw_peer(url) as peer:
        await _say_and_leave(peer.reader, peer.writer, b"".join(parts))
    return Damage(frames=len(parts), connections=1)


async def _say_and_leave(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes
) -> None:
    with suppress(TimeoutError, *GONE):
        writer.write(data)
        await writer.drain()
        writer.write_eof()
        await asyncio.wait_for(reader.read(), 0.2)


class Channels:
    """Calls share a channel for a while, as it takes longer to make one than to use it."""

    CALLS = 40

    def __init__(self, url: str) -> None:
        self._target = url.removeprefix("grpc://")
        self._channels: list[aio.Channel] = []
        self._made = 0

    def call(self) -> Any:
        """A new call."""
        if self._made % self.CALLS == 0:
            options = [("grpc.use_local_subchannel_pool", 1)]
            self._channels.append(aio.insecure_channel(self._target, options))
        self._made += 1
        return self._channels[-1].stream_stream(f"/{SERVICE}/{METHOD}")()

    async def close(self, but: int = 0) -> None:
        """Close the channels, the last `but` so many aside."""
        while len(self._channels) > but:
            await self._channels.pop(0).close()

    @asynccontextmanager
    async def wire(self, _: Hostile) -> AsyncIterator[Wire]:
        """Over gRPC."""
        call = self.call()
        wire = CallWire(call)
        try:
            async with asyncio.timeout(PATIENCE), read_meanwhile(wire):
                yield wire
        finally:
            call.cancel()
            await self.close(but=2)

    async def never_reads(self, draw: Hostile) -> Damage:
        """It asks until it can write no more."""
        call = self.call()
        wire = CallWire(call)
        try:
            async with asyncio.timeout(PATIENCE):
                await wire.say(draw.hello())
                wire.heard(await call.read())
                return await never_read(wire, draw, wire.send)
        finally:
            call.cancel()


@asynccontextmanager
async def memory_wire(url: str, draw: Hostile) -> AsyncIterator[Wire]:
    """In memory, with what one of the codecs lets through."""
    wire = MemoryWire(draw.choice((AS_MSGPACK, AS_JSON, AS_PROTOBUF)))
    config = ConnectionConfig(
        limits=Limits(), tls=TlsConfig(), open_timeout=PATIENCE, max_connections=1
    )
    wire.connection = await MemoryTransport().dial(url, wire, config)
    try:
        async with asyncio.timeout(PATIENCE):
            yield wire
    finally:
        wire.connection.close()


# All of them


Attack = Callable[[Hostile], Awaitable[Damage]]


def _connected(
    opened: Callable[[Hostile], Opened], then: Callable[[Wire, Hostile], Awaitable[Damage]]
) -> Attack:
    async def attack_once(draw: Hostile) -> Damage:
        async with opened(draw) as wire:
            return await then(wire, draw)

    return attack_once


@asynccontextmanager
async def attacks(url: str) -> AsyncIterator[dict[Attack, int]]:
    """What clients do at this URL, each with how often."""
    if url.startswith("ws:"):
        yield {
            _connected(lambda draw: ws_wire(url, draw), talk): 80,
            _connected(lambda draw: ws_wire(url, draw), break_rules): 12,
            lambda draw: http_garbage(url, draw): 7,
            lambda draw: ws_never_reads(url, draw): 1,
        }
    elif url.startswith("grpc:"):
        channels = Channels(url)
        yield {
            _connected(channels.wire, talk): 92,
            lambda draw: http2_garbage(url, draw): 7,
            channels.never_reads: 1,
        }
        await channels.close()
    else:
        yield {_connected(lambda draw: memory_wire(url, draw), talk): 1}


async def attack(url: str, frames: int, seed: int, limits: Limits) -> Damage:
    """Say so many frames to the server at `url`, some clients at a time."""
    total = Damage()
    numbers = count()
    memory: deque[tuple[str, int, int]] = deque(maxlen=100)
    async with attacks(url) as choices:

        async def one_after_the_other() -> None:
            while total.frames < frames and total.failed <= 100 + total.connections // 2:
                draw = Hostile(f"{seed}/{next(numbers)}", limits, memory)
                (chosen,) = draw.choices(list(choices), list(choices.values()))
                try:
                    total.add(await chosen(draw))
                except (TimeoutError, *GONE):
                    total.failed += 1

        await asyncio.gather(*[one_after_the_other() for _ in range(AT_ONCE)])
    return total
