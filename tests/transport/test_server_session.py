"""The server's session, rule by rule; the interplay is `test_session_machine`'s."""

import pytest

from osmo_transport import (
    Limits,
    PeerError,
    ProducerBatch,
    ProducerState,
    UsageError,
)
from osmo_transport.frames import (
    PROTOCOL,
    Ack,
    Batch,
    Frame,
    Hello,
    Reject,
    Welcome,
)
from osmo_transport.message import MAX_NAME, new_message
from osmo_transport.session import Greeting
from tests.transport.builders import (
    FRESH,
    PRODUCER,
    client_session,
    greeted,
    introduce,
    nothing,
    pod,
    server_session,
)


def test_the_greeting_holds_who_asks() -> None:
    """Identity, process and what the client knows: nothing, without an epoch."""
    client, server = client_session(), server_session()
    greeting = introduce(client, server, FRESH)
    assert greeting == Greeting(PRODUCER, "one", ProducerState("", 0, 0))
    assert server.state.epoch == 1


@pytest.mark.parametrize(
    ("hello", "error"),
    [
        (Hello(PROTOCOL + 1, "b", "s", "l", "", 0, 0, Limits()), UsageError),
        (Hello(PROTOCOL, "", "s", "l", "", 0, 0, Limits()), UsageError),
        (Hello(PROTOCOL, "b" * (MAX_NAME + 1), "s", "l", "", 0, 0, Limits()), UsageError),
        (Hello(PROTOCOL, "b", "s", "l", "", 0, 0, Limits(window_bytes=0)), UsageError),
        (Hello(PROTOCOL, "b", "s", "l", "", 2**64 - 1, 0, Limits()), PeerError),
        (Hello(PROTOCOL, "b", "s", "l", "", -1, 0, Limits()), PeerError),
        (Hello(PROTOCOL, "b", "s", "l", "", 0, -1, Limits()), PeerError),
    ],
)
def test_a_hello_that_cannot_be_served_is_refused(hello: Hello, error: type[Exception]) -> None:
    """Another protocol, no name, no room, numbers that nothing can count on from."""
    with pytest.raises(error):
        server_session().receive(hello, 0.0, nothing)


@pytest.mark.parametrize(
    "frame",
    [
        Hello(PROTOCOL, "b", "s", "l", "", 0, 0, Limits()),
        Welcome("q", 1, 0, Limits()),
        Ack(1),
        Reject(1, "no"),
        Batch(2, (pod("a"),)),
        Batch(0, (pod("a"),)),
        Batch(1, ()),
    ],
)
def test_a_client_that_breaks_the_protocol_is_told_apart(frame: Frame) -> None:
    """A second hello, a server's frames, a gap, a step back, an empty batch."""
    with pytest.raises(PeerError):
        greeted().receive(frame, 0.0, nothing)


def test_a_batch_before_the_welcome_is_an_error() -> None:
    """Until then it could not be stored under a number."""
    server = server_session()
    server.receive(client_session().connect(0.0), 0.0, nothing)
    with pytest.raises(PeerError):
        server.receive(Batch(1, (pod("a"),)), 0.0, nothing)


def test_a_bad_message_is_rejected_alone() -> None:
    """It takes up its number, and the rest of the batch is handed over."""
    answers: list[Frame] = []
    good, large = pod("a"), pod("b", size=200)
    nameless, endless = new_message("update_pod", "", b""), new_message("k" * MAX_NAME, "a", b"")
    batch = Batch(1, (good, large, nameless, endless))
    got = greeted(Limits(message_bytes=200)).receive(batch, 0.0, answers.append)
    assert isinstance(got, ProducerBatch)
    assert got.messages == (good, None, None, None)
    assert [a.sequence for a in answers if isinstance(a, Reject)] == [2, 3, 4]


def test_a_client_that_ignores_the_window_is_cut_off() -> None:
    """Count and bytes in flight are bounded whatever the client does."""
    server = greeted(Limits(window_messages=2))
    server.receive(Batch(1, (pod("a"), pod("b"))), 0.0, nothing)
    with pytest.raises(PeerError, match="2 messages"):
        server.receive(Batch(3, (pod("c"),)), 0.0, nothing)
    limits = Limits(window_bytes=1000, batch_bytes=1000, message_bytes=1000)
    server = greeted(limits)
    most = (limits.window_bytes + limits.frame_bytes) // pod("a", size=900).size
    for first in range(1, most + 1):
        server.receive(Batch(first, (pod("a", size=900),)), 0.0, nothing)
    with pytest.raises(PeerError, match="1000 bytes"):
        server.receive(Batch(most + 1, (pod("a", size=900),)), 0.0, nothing)


def test_acknowledging_makes_room() -> None:
    """An acknowledgement is said once, and frees what it covers."""
    server = greeted(Limits(window_messages=2))
    server.receive(Batch(1, (pod("a"), pod("b"))), 0.0, nothing)
    assert server.acknowledge(2) == Ack(2)
    assert server.acknowledge(2) is None
    assert server.acknowledge(1) is None
    server.receive(Batch(3, (pod("c"), pod("d"))), 0.0, nothing)
