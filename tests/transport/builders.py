"""Frames, messages and sessions for the tests of this folder."""

from itertools import count

from hypothesis import strategies as st

from osmo_transport import Limits, Message, SessionConfig, Version
from osmo_transport.bodies import Registration
from osmo_transport.delivery import Producer, ProducerState
from osmo_transport.frames import (
    Ack,
    Batch,
    Frame,
    Goodbye,
    GoodbyeCode,
    Hello,
    Ping,
    Pong,
    Push,
    Reject,
    Welcome,
)
from osmo_transport.session import ClientSession, Greeting, ServerSession

PRODUCER = Producer("backend", "listener")

NUMBERS = st.integers(0, 2**53)
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)

MESSAGES = st.builds(
    Message,
    id=TEXT,
    kind=TEXT,
    key=TEXT,
    version=st.builds(Version, NUMBERS, NUMBERS),
    timestamp=st.floats(0, 1e12, allow_nan=False),
    payload=st.binary(max_size=50),
    final=st.booleans(),
    traceparent=st.none() | st.just("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
)
LIMITS = st.builds(Limits, NUMBERS, NUMBERS, NUMBERS, NUMBERS)
REGISTRATIONS = st.builds(Registration, TEXT, TEXT, TEXT, TEXT)
HELLOS = st.builds(
    Hello,
    protocol=st.integers(0, 2**31),
    backend=TEXT,
    source=TEXT,
    listener=TEXT,
    queue_epoch=TEXT,
    epoch=NUMBERS,
    sequence=NUMBERS,
    limits=LIMITS,
    registration=st.none() | REGISTRATIONS,
)
FRAMES: st.SearchStrategy[Frame] = st.one_of(
    HELLOS,
    st.builds(Welcome, TEXT, NUMBERS, NUMBERS, LIMITS),
    st.builds(Batch, NUMBERS, st.lists(MESSAGES, max_size=4).map(tuple)),
    st.builds(Ack, NUMBERS),
    st.builds(Reject, NUMBERS, TEXT),
    st.builds(Push, TEXT, NUMBERS, st.binary(max_size=50)),
    st.just(Ping()),
    st.just(Pong()),
    st.builds(Goodbye, st.sampled_from(GoodbyeCode), TEXT, st.floats(0, 1e6)),
)


_numbers = count(1)


def pod(key: str, *, rv: int = 1, size: int = 10, final: bool = False) -> Message:
    """A report of a `latest` kind."""
    return _report("update_pod", key, rv, size, final=final)


def event(key: str, *, size: int = 10) -> Message:
    """A report of an `every` kind."""
    return _report("pod_event", key, 1, size)


def _report(kind: str, key: str, rv: int, size: int, *, final: bool = False) -> Message:
    # Not `new_message`: hypothesis forbids a strategy to draw from `random`.
    return Message(f"{next(_numbers):032x}", kind, key, Version(0, rv), 0.0, b"x" * size, final)


def client_session(limits: Limits | None = None) -> ClientSession:
    """A client's session with some limits."""
    return ClientSession(PRODUCER, "one", SessionConfig(limits=limits or Limits()))


def server_session(limits: Limits | None = None) -> ServerSession:
    """A server's session with some limits."""
    return ServerSession(SessionConfig(limits=limits or Limits()), 0.0)


def introduce(
    client: ClientSession, server: ServerSession, state: ProducerState, now: float = 0.0
) -> Greeting:
    """Hello and welcome."""
    greeting = server.receive(client.connect(now), now, lambda _: None)
    assert isinstance(greeting, Greeting)
    client.receive(server.welcome(state), now)
    return greeting


def batches(client: ClientSession) -> list[Batch]:
    """Everything that the client sends now."""
    return list(iter(client.next_batch, None))


FRESH = ProducerState("q", 1, 0)
"""What a first welcome says."""


def greeted(limits: Limits | None = None) -> ServerSession:
    """A server's session that has welcomed a client."""
    server = server_session(limits)
    introduce(client_session(), server, FRESH)
    return server


def nothing(_: Frame) -> None:
    """For answers that nobody reads."""
