"""What only the gRPC transport has: HTTP/2, its status codes, and rude peers by its means."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import grpc
import msgspec
import pytest
from grpc import aio

from osmo_transport import (
    ClientConfig,
    Limits,
    Server,
    ServerConfig,
    SessionConfig,
    connect,
    listen,
)
from osmo_transport._bucket import IDLE_BURST, IDLE_FRAMES
from osmo_transport.frames import (
    HELLO_BYTES,
    PROTOCOL,
    Batch,
    Credential,
    Frame,
    Goodbye,
    GoodbyeCode,
    Hello,
    Ping,
    Welcome,
)
from osmo_transport.testing import make_message
from osmo_transport.transports.grpc.connection import BROKEN, END, GrpcConnection
from osmo_transport.transports.grpc.frames import PROTOBUF
from osmo_transport.transports.grpc.transport import METHOD, SERVICE
from tests.helpers import eventually
from tests.transport.raw import raw_peer

pytestmark = pytest.mark.usefixtures("no_socket_left")

SMALL = Limits(message_bytes=2000, batch_bytes=2000, window_bytes=20_000)
HELLO = Hello(PROTOCOL, "backend", "raw", "one", "", 0, 0, Limits())


@asynccontextmanager
async def serving(config: ServerConfig | None = None) -> AsyncIterator[Server]:
    """A server, and a well-behaved client that has to stay unharmed."""
    async with listen("grpc://127.0.0.1:0", config=config) as server:
        quiet = ClientConfig(drain_timeout=0.0)
        async with connect(server.url, backend="bystander", config=quiet) as client:
            await client.epoch_after(0)
            yield server
            await client.send(make_message("still here"))
            await eventually(lambda: client.stats.in_flight)
            assert client.stats.connects == 1


@asynccontextmanager
async def stream(server: Server, *options: tuple[str, int]) -> AsyncIterator[Any]:
    """A call of our own, that moves bytes."""
    target = server.url.removeprefix("grpc://")
    async with aio.insecure_channel(target, options) as channel, asyncio.timeout(30):
        yield channel.stream_stream(f"/{SERVICE}/{METHOD}")()


@pytest.mark.parametrize("size", [8 * 2**20, 64 * 2**20])
async def test_a_bomb_is_not_unpacked(size: int) -> None:
    """A message is as large as it is when it is unpacked, however little travels of it."""
    async with serving() as server, AsyncExitStack() as stack:
        channel = await stack.enter_async_context(
            aio.insecure_channel(
                server.url.removeprefix("grpc://"), compression=grpc.Compression.Gzip
            )
        )
        call = channel.stream_stream(f"/{SERVICE}/{METHOD}")()
        await call.write(bytes(size))
        assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_another_language_can_speak_it() -> None:
    """The protobuf contract is all that a client needs."""
    async with serving() as server, stream(server) as call:
        await call.write(PROTOBUF.encode(HELLO))
        assert isinstance(PROTOBUF.decode(await call.read()), Welcome)


@pytest.mark.parametrize("data", [b"\x00", b"\xff\xff\xff", b"\x0a\x05hello"])
async def test_what_is_no_frame_is_refused(data: bytes) -> None:
    """With a goodbye that says why; the call then ends in order."""
    async with serving() as server, stream(server) as call:
        await call.write(data)
        goodbye = PROTOBUF.decode(await call.read())
        assert isinstance(goodbye, Goodbye)
        assert goodbye.code is GoodbyeCode.PROTOCOL
        assert await call.read() == END
        await call.done_writing()
        assert await call.read() is aio.EOF
        assert await call.code() is grpc.StatusCode.OK
        await eventually(lambda: server.connections == 1)


async def test_random_messages_are_no_frames() -> None:
    """They end their call, whatever they happen to mean; nobody else notices."""
    draw = random.Random(3)
    async with serving() as server:
        for _ in range(30):
            async with stream(server) as call:
                await call.write(draw.randbytes(draw.randrange(1, 1000)))
                assert isinstance(PROTOBUF.decode(await call.read()), Goodbye)
        await eventually(lambda: server.connections == 1)


async def test_random_bytes_are_no_http2() -> None:
    """The connection ends; nobody else notices."""
    draw = random.Random(5)

    async def babble(url: str) -> None:
        async with raw_peer(url) as peer:
            peer.write(draw.randbytes(draw.randrange(100, 3000)))
            await peer.at_end()

    async with serving() as server:
        await asyncio.gather(*[babble(server.url) for _ in range(20)])


async def test_a_slow_handshake_is_cut_off() -> None:
    """Whoever opens a socket and says nothing loses it after `open_timeout`."""
    async with serving(ServerConfig(open_timeout=0.3)) as server, raw_peer(server.url) as peer:
        await peer.at_end()


async def test_a_channel_without_a_call_is_cut_off() -> None:
    """HTTP/2 that is spoken to no end does not hold a connection."""
    async with serving(ServerConfig(open_timeout=0.3)) as server, asyncio.timeout(10):
        target = server.url.removeprefix("grpc://")
        async with aio.insecure_channel(target) as channel:
            state = channel.get_state(try_to_connect=True)
            while state is not grpc.ChannelConnectivity.READY:
                await channel.wait_for_state_change(state)
                state = channel.get_state()
            await channel.wait_for_state_change(state)


async def test_a_message_over_the_limit_is_refused() -> None:
    """With words that say the limit."""
    config = ServerConfig(session=SessionConfig(limits=SMALL))
    async with serving(config) as server, stream(server) as call:
        await call.write(b"x" * (SMALL.frame_bytes + 1))
        goodbye = PROTOBUF.decode(await call.read())
        assert isinstance(goodbye, Goodbye)
        assert str(SMALL.frame_bytes) in goodbye.reason


async def test_a_message_far_over_the_limit_is_refused_unread() -> None:
    """By gRPC itself, with its status."""
    config = ServerConfig(session=SessionConfig(limits=SMALL))
    async with serving(config) as server, stream(server) as call:
        await call.write(b"x" * 20 * SMALL.frame_bytes)
        with pytest.raises(aio.AioRpcError, match=str(2 * SMALL.frame_bytes)) as info:
            await call.read()
        assert info.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_connections_over_the_limit_are_refused() -> None:
    """With a status that says how many there may be."""
    async with serving(ServerConfig(max_connections=1)) as server, stream(server) as call:
        with pytest.raises(aio.AioRpcError, match="1 connections, the limit"):
            await call.read()


async def test_an_unknown_method_is_refused() -> None:
    """With gRPC's own status."""
    async with serving() as server:
        target = server.url.removeprefix("grpc://")
        async with aio.insecure_channel(target) as channel:
            with pytest.raises(aio.AioRpcError) as info:
                await channel.unary_unary(f"/{SERVICE}/Nothing")(b"")
            assert info.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_call_that_is_cancelled_is_forgotten() -> None:
    """The other side's end may be rude."""
    async with serving() as server, stream(server) as call:
        await call.write(PROTOBUF.encode(HELLO))
        await call.read()
        call.cancel()
        await eventually(lambda: server.connections == 1)


async def test_who_never_reads_is_bounded_and_cut_off() -> None:
    """He is not acknowledged beyond what the buffers hold, so that his window stops him, and the
    connection ends."""
    limits = Limits(window_messages=1000)
    config = ServerConfig(session=SessionConfig(limits=limits))
    # The least that HTTP/2 buffers for one who does not read: more takes time to fill.
    small = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_535))
    async with (
        listen("grpc://127.0.0.1:0", config=config) as server,
        stream(server, *small) as call,
    ):
        await call.write(PROTOBUF.encode(HELLO))
        await call.read()
        (peer,) = server._hub.peers
        connection = peer._connection
        assert isinstance(connection, GrpcConnection)

        async def acknowledge_all() -> None:
            while taken := await server.receive():
                for incoming in taken:
                    incoming.acknowledge()

        working = asyncio.create_task(acknowledge_all())
        most = sequence = 0
        try:
            while server.connections:
                sequence += 1
                no_message = b"k" * 2000
                await call.write(PROTOBUF.encode(Batch(sequence, (no_message,))))
                most = max(most, connection._queued)
        except aio.AioRpcError:
            pass
        await eventually(lambda: not server.connections)
        assert sequence > limits.window_messages
        assert most < 2_000_000
        server.stop()
        await working


async def test_who_reads_nothing_of_the_welcome_is_cut_off_quietly(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Not even what a stopping server tells him gets through; the log holds no error for that."""
    unread = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1))
    async with AsyncExitStack() as outlives_the_server, listen("grpc://127.0.0.1:0") as server:
        call = await outlives_the_server.enter_async_context(stream(server, *unread))
        await call.write(PROTOBUF.encode(HELLO))
        await eventually(lambda: server.connections == 1)
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]


@pytest.mark.parametrize("words", [HELLO, Ping()])
async def test_what_brings_no_message_is_bounded(words: Frame) -> None:
    """Before the hello there is none of it, and then few: who goes over that is told, and
    counted."""
    async with serving() as server, stream(server) as call:
        if words is HELLO:
            await call.write(PROTOBUF.encode(HELLO))
            assert isinstance(PROTOBUF.decode(await call.read()), Welcome)
            with suppress(*BROKEN):
                for _ in range(2 * int(IDLE_FRAMES * IDLE_BURST)):
                    await call.write(PROTOBUF.encode(Credential("newer")))
        else:
            await call.write(PROTOBUF.encode(words))
        goodbye = PROTOBUF.decode(await call.read())
        assert isinstance(goodbye, Goodbye)
        assert goodbye.code is GoodbyeCode.PROTOCOL
        assert server.stats.refused["protocol"] == 1


async def test_a_long_hello_is_refused() -> None:
    """Whoever has not said who he is takes up little."""
    async with serving() as server, stream(server) as call:
        hello = msgspec.structs.replace(HELLO, queue_epoch="q" * HELLO_BYTES)
        await call.write(PROTOBUF.encode(hello))
        goodbye = PROTOBUF.decode(await call.read())
        assert isinstance(goodbye, Goodbye)
        assert f"{HELLO_BYTES} may be" in goodbye.reason
        await eventually(lambda: server.stats.refused["protocol"] == 1)


async def test_who_pings_often_is_cut_off() -> None:
    """By HTTP/2's own pings, with or without a call: after the third one."""
    settings, ping = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]), bytes([0, 0, 8, 6]) + bytes(13)
    async with serving() as server, raw_peer(server.url) as peer:
        peer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings + ping * 1_000)
        assert b"too_many_pings" in await peer.at_end()


async def test_closing_does_not_wait_for_a_peer_that_does_not_answer() -> None:
    """It is cut off, and the server closes in time."""
    async with (
        AsyncExitStack() as outlives_the_server,
        asyncio.timeout(8),
        listen("grpc://127.0.0.1:0") as server,
    ):
        call = await outlives_the_server.enter_async_context(stream(server))
        await call.write(PROTOBUF.encode(HELLO))
        await eventually(lambda: server.connections == 1)
