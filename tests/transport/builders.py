"""Frames, messages and sessions for the tests of this folder."""

from collections.abc import Iterable
from dataclasses import fields
from itertools import count

from hypothesis import strategies as st

from osmo_transport import Limits, Message, SessionConfig, Version, encode_message, read_message
from osmo_transport.frames import (
    MAX_INTRODUCTION,
    Batch,
    Frame,
    Goodbye,
    GoodbyeCode,
    Hello,
    Occupied,
    Ping,
    Pong,
    Push,
    Refused,
    Stored,
    Welcome,
)
from osmo_transport.message import MAX_EPOCH, MAX_NAME, MAX_REVISION
from osmo_transport.queues.delivery import Producer, ProducerState
from osmo_transport.session import ClientSession, Greeting, ServerSession
from osmo_transport.testing.kinds import EVENT, STATE

PRODUCER = Producer("backend", "listener")

SEQUENCES = st.integers(0, MAX_EPOCH)
SIZES = st.integers(0, MAX_REVISION)
CHARACTERS = st.characters(codec="utf-8")
TEXT = st.text(CHARACTERS, max_size=20)
NAMES = st.text(CHARACTERS, min_size=1, max_size=20) | st.just("é" * MAX_NAME)

MESSAGES = st.builds(
    Message,
    kind=NAMES,
    key=NAMES,
    version=st.builds(Version, SEQUENCES, SIZES),
    id=TEXT,
    timestamp=st.floats(0, 1e12, allow_nan=False),
    payload=st.binary(max_size=50),
    final=st.booleans(),
    traceparent=st.none() | st.just("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
)
LIMITS = st.builds(Limits, **{each.name: SIZES for each in fields(Limits)})
HELLOS = st.builds(
    Hello,
    protocol=st.integers(0, 2**31),
    backend=TEXT,
    source=TEXT,
    instance=TEXT,
    queue_epoch=TEXT,
    epoch=SEQUENCES,
    sequence=SEQUENCES,
    limits=LIMITS,
    introduction=st.binary(max_size=50) | st.just(b"\xff" * MAX_INTRODUCTION),
)
ENCODED = st.just(b"") | MESSAGES.map(encode_message)
"""What a batch holds: encoded messages, and an empty one for each that was withdrawn."""
FRAMES: st.SearchStrategy[Frame] = st.one_of(
    HELLOS,
    st.builds(Occupied, TEXT, TEXT, st.floats(0, 1e12)),
    st.builds(Welcome, TEXT, SEQUENCES, SEQUENCES, LIMITS),
    st.builds(Batch, SEQUENCES, st.lists(ENCODED, max_size=4).map(tuple)),
    st.builds(Stored, SEQUENCES),
    st.builds(Refused, SEQUENCES, TEXT),
    st.builds(Push, TEXT, SIZES, st.binary(max_size=50)),
    st.just(Ping()),
    st.just(Pong()),
    st.builds(Goodbye, st.sampled_from(GoodbyeCode), TEXT, st.floats(0, 1e6)),
)


_numbers = count(1)


def state(key: str, *, revision: int = 1, size: int = 10, final: bool = False) -> Message:
    """A report of a `latest` kind."""
    return _report(STATE, key, revision, size, final=final)


def event(key: str, *, size: int = 10) -> Message:
    """A report of an `every` kind."""
    return _report(EVENT, key, 1, size)


def _report(kind: str, key: str, revision: int, size: int, *, final: bool = False) -> Message:
    # Not `new_message`: hypothesis forbids a strategy to draw from `random`.
    name = f"{next(_numbers):032x}"
    return Message(kind, key, Version(0, revision), name, 0.0, b"x" * size, final)


def size_of(message: Message) -> int:
    """What a message counts against every limit in bytes."""
    return len(encode_message(message))


def batch(first: int, *messages: Message) -> Batch:
    """Messages with the sequence numbers from `first` on, as they travel."""
    return Batch(first, tuple(map(encode_message, messages)))


def read(encoded: Iterable[bytes]) -> list[Message | None]:
    """The messages of a batch; None for one that takes up its number and nothing else."""
    return [read_message(data) if data else None for data in encoded]


def keys(encoded: Iterable[bytes]) -> list[str]:
    """Of the messages of a batch."""
    return [message.key for message in read(encoded) if message is not None]


def client_session(limits: Limits | None = None) -> ClientSession:
    """A client's session with some limits."""
    return ClientSession(PRODUCER, "one", SessionConfig(limits=limits or Limits()))


def server_session(limits: Limits | None = None, *, vouched: bool = False) -> ServerSession:
    """A server's session with some limits."""
    return ServerSession(SessionConfig(limits=limits or Limits()), 0.0, vouched=vouched)


def introduce(
    client: ClientSession, server: ServerSession, place: ProducerState, now: float = 0.0
) -> Greeting:
    """Hello and welcome."""
    greeting = server.receive(client.connect(now), now, lambda _: None)
    assert isinstance(greeting, Greeting)
    client.receive(server.welcome(place), now)
    return greeting


def batches(client: ClientSession) -> list[Batch]:
    """Everything that the client sends now."""
    return list(iter(client.next_batch, None))


FRESH = ProducerState("q", 1, 0)
"""What a first welcome says."""


def greeted(limits: Limits | None = None, *, vouched: bool = False) -> ServerSession:
    """A server's session that has welcomed a client."""
    server = server_session(limits, vouched=vouched)
    introduce(client_session(), server, FRESH)
    return server


def nothing(_: Frame) -> None:
    """For answers that nobody reads."""
