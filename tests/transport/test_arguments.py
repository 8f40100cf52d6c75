"""What a caller hands in is looked at here, before it goes anywhere: on every transport alike."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from osmo_protos import transport_pb2 as pb
from osmo_transport import (
    ClientConfig,
    Limits,
    MessageTooLargeError,
    PeerError,
    Policy,
    Push,
    ServerConfig,
    SessionConfig,
    TlsConfig,
    UnsendableError,
    UsageError,
    connect,
    encode_message,
    listen,
    new_message,
    open_queue,
    publish,
    register_kind,
    register_stream,
    transport_for,
)
from osmo_transport.frames import MSGPACK, Batch, Frame, Goodbye, GoodbyeCode, Refused
from osmo_transport.testing.contracts.transport_suite import Recorder, until
from osmo_transport.transports.abc import ConnectionConfig
from osmo_transport.transports.connection import BaseConnection
from osmo_transport.transports.grpc.frames import PROTOBUF
from osmo_transport.transports.memory import MemoryTransport

URLS = ("memory://somewhere", "ws://127.0.0.1:1", "grpc://127.0.0.1:1")
NO_NAMES: tuple[Any, ...] = (3, "", None, "\ud800", "x" * 1025, b"bytes")


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("name", NO_NAMES)
@pytest.mark.parametrize("what", ["backend", "source"])
async def test_a_client_needs_names(url: str, name: Any, what: str) -> None:
    """Not only the transports that encode them notice what is none."""
    names = {"backend": "b", "source": "s", what: name}
    with pytest.raises(UsageError, match=f"the {what} is .* it must be Unicode text of 1 to 1024"):
        async with connect(url, **names):
            pass


@pytest.mark.parametrize("url", URLS)
async def test_an_introduction_is_bytes(url: str) -> None:
    """Text is not encoded by one transport and refused by the next."""
    text: Any = "text"
    with pytest.raises(UsageError, match="of type str: it must be bytes"):
        async with connect(url, backend="b", introduction=text):
            pass


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("ws://127.0.0.1", "needs a host and a port"),
        ("wss://", "needs a host and a port"),
        ("grpc://127.0.0.1", "needs a host and a port"),
        ("ws://127.0.0.1:99999", "no valid host and port"),
        ("grpc://127.0.0.1:1/path", "leave it out"),
        ("memory://name/path", "leave it out"),
        ("ws://127.0.0.1:1/a b", "special characters"),
        ("ws://127.0.0.1:1/\udc80", "special characters"),
    ],
)
async def test_a_url_that_leads_nowhere_is_refused_at_once(url: str, advice: str) -> None:
    """And not in the log of a client that tries it for ever."""
    with pytest.raises(UsageError, match=advice):
        async with connect(url, backend="b"):
            pass


async def test_a_server_needs_a_url() -> None:
    """It would listen nowhere."""
    with pytest.raises(UsageError, match="needs a URL"):
        async with listen():
            pass


def test_a_lease_outlasts_heartbeats_and_nothing_else() -> None:
    """Who has nothing to say would lose its place between two of them."""
    with pytest.raises(ValueError, match="at least twice the heartbeat_interval, which is 5"):
        ServerConfig(lease=9.0)
    with pytest.raises(ValueError, match="it must be at most 60"):
        ServerConfig(lease=61.0)


async def test_what_is_published_keeps_to_the_rules_of_clients() -> None:
    """Names and sizes."""
    async with await open_queue("memory://") as queue:
        with pytest.raises(UsageError, match="the backend is 5"):
            await publish(queue, [], backend=5)  # type: ignore[arg-type]
        with pytest.raises(MessageTooLargeError):
            await publish(queue, [new_message("kind", "key", bytes(2_000_000))], backend="b")
        assert not sum((await queue.status()).waiting.values())


REGISTRATIONS: dict[str, Callable[[Any], None]] = {
    "kind": lambda name: register_kind(name, Policy.EVERY),
    "stream": lambda name: register_stream(name, 1),
}


@pytest.mark.parametrize("name", NO_NAMES)
@pytest.mark.parametrize("what", REGISTRATIONS)
def test_a_kind_and_a_stream_need_names(what: str, name: Any) -> None:
    """As whatever travels."""
    with pytest.raises(UsageError, match=f"name of a {what} is"):
        REGISTRATIONS[what](name)


def test_a_policy_is_no_text() -> None:
    """It was taken for the other policy."""
    with pytest.raises(UsageError, match=r"it must be Policy.LATEST or Policy.EVERY"):
        register_kind("some kind", "latest")  # type: ignore[arg-type]


@pytest.mark.parametrize("weight", [0, -1, "a", 1.5, None])
def test_a_weight_is_a_number(weight: Any) -> None:
    """Of at least one read."""
    with pytest.raises(UsageError, match="weight of stream"):
        register_stream("some stream", weight)


def test_a_path_may_be_text() -> None:
    """For those who check no types, over every transport."""
    text: Any = "certificate.pem"
    assert TlsConfig(cert_file=text).cert_file == Path(text)
    assert TlsConfig().cert_file is None


@pytest.mark.parametrize("other", [{"a": 1}, [1, 2], None, b"bytes"])
def test_only_messages_are_sent(other: Any) -> None:
    """The error names what it got as Python does."""
    with pytest.raises(UnsendableError, match=f"`Message`, got `{type(other).__name__}`"):
        encode_message(other)


def test_a_version_is_named_as_such() -> None:
    """And not by the shape that it has in the bytes."""
    wrong: Any = 3
    with pytest.raises(UnsendableError, match="Expected `Version`, got `int` - at `version`"):
        encode_message(new_message("kind", "key", b"", version=wrong))


async def test_a_push_that_no_client_takes_is_refused() -> None:
    """It would be told at each welcome, and end each connection."""
    async with listen("memory://") as server:
        limits = ServerConfig().session.limits
        server.push("b", Push("kind", 1, bytes(limits.push_bytes)))
        with pytest.raises(UsageError, match=r"a push of \d+ bytes"):
            server.push("b", Push("kind", 2, bytes(limits.push_bytes + 1)))
        with pytest.raises(UsageError, match="the kind of a push"):
            server.push("b", Push("", 1, b""))
        for number in range(15):
            server.push("b", Push(f"kind-{number}", 1, b""))
        with pytest.raises(UsageError, match="told of 16 kinds"):
            server.push("b", Push("kind-15", 1, b""))
        async with connect(server.url, backend="b") as client:
            assert (await client.push_after("kind-14", 0)).version == 1


async def test_who_takes_less_is_not_told_more(caplog: pytest.LogCaptureFixture) -> None:
    """A client with narrower limits goes on without it; the server's log says so."""
    narrow = SessionConfig(limits=Limits(message_bytes=100, batch_bytes=100))
    async with listen("memory://") as server:
        server.push("b", Push("large", 1, bytes(201)))
        server.push("b", Push("small", 1, bytes(200)))
        async with connect(server.url, backend="b", config=ClientConfig(session=narrow)) as client:
            assert (await client.push_after("small", 0)).version == 1
            assert client.stats.connects == 1
    assert "not told of large: 201 bytes, and it takes 200" in caplog.text


FRAMES: dict[str, Callable[[int], Frame]] = {
    "push": lambda size: Push("k", 1, bytes(size)),
    "goodbye": lambda size: Goodbye(GoodbyeCode.CLOSING, "r" * size),
    "refused": lambda size: Refused(1, "r" * size),
    "batch": lambda size: Batch(1, (b"",) * (size // 64)),
}


@pytest.mark.parametrize("name", FRAMES)
async def test_in_memory_every_byte_counts(name: str) -> None:
    """A frame over the limit ends its connection there too, whatever it is."""
    limits = Limits(message_bytes=1, batch_bytes=1)
    config = ConnectionConfig(limits=limits, tls=TlsConfig(), open_timeout=1.0, max_connections=1)
    transport, here, there = MemoryTransport(), Recorder(), Recorder()
    endpoint = await transport.listen("memory://", lambda _: there, config)
    connection = await transport.dial(endpoint.url, here, config)
    connection.send(FRAMES[name](limits.frame_bytes - 200))
    await until(lambda: there.frames)
    connection.send(FRAMES[name](limits.frame_bytes))
    await until(lambda: there.ended)
    assert isinstance(there.ends[0], PeerError)
    await connection.wait_closed()
    await endpoint.aclose()


@pytest.mark.parametrize("url", ["ws://127.0.0.1:0", "grpc://127.0.0.1:0"])
async def test_what_a_stranger_says_is_not_logged_in_full(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Not even what is no frame, and says so with a megabyte."""
    caplog.set_level("INFO")
    long = "x" * 1_000_000
    async with listen(url) as server:
        for codec in (MSGPACK, PROTOBUF):
            before = len(caplog.records)
            sink = Recorder()
            config = ConnectionConfig(
                limits=Limits(), tls=TlsConfig(), open_timeout=5.0, max_connections=1
            )
            connection = await transport_for(url).dial(server.url, sink, config)
            assert isinstance(connection, BaseConnection)
            message = msgspec.msgpack.encode(["goodbye", long, "r"])
            other = pb.Frame(goodbye=pb.Goodbye(code=long)).SerializeToString()
            connection._write(message if codec is MSGPACK else other)
            await until(lambda sink=sink: sink.ended)  # type: ignore[misc]
            await until(lambda before=before: len(caplog.records) > before)  # type: ignore[misc]
            connection.close()
            await connection.wait_closed()
    assert max(len(record.getMessage()) for record in caplog.records) < 1000
