"""The server's session, rule by rule; the interplay is `test_session_machine`'s."""

import pytest

from osmo_transport import (
    Limits,
    PeerError,
    ProducerState,
    UsageError,
    Version,
    encode_message,
    new_message,
)
from osmo_transport._bucket import IDLE_BURST, IDLE_FRAMES
from osmo_transport.frames import (
    PROTOCOL,
    Batch,
    Credential,
    Frame,
    Hello,
    Ping,
    Pong,
    Refused,
    Stored,
    Welcome,
)
from osmo_transport.message import MAX_EPOCH, MAX_NAME, Unreadable
from osmo_transport.queues.leases import AT_ONCE, Claim
from osmo_transport.session import Arrival, ClientSession, Greeting, SessionConfig
from osmo_transport.testing.kinds import EVENT, STATE
from tests.transport.builders import (
    FRESH,
    PRODUCER,
    batch,
    client_session,
    event,
    greeted,
    introduce,
    nothing,
    server_session,
    size_of,
    state,
)


def test_the_greeting_holds_who_asks() -> None:
    """Identity, process and what the client knows: nothing, without an epoch."""
    client, server = client_session(), server_session()
    greeting = introduce(client, server, FRESH)
    assert (
        greeting
        == server.greeting
        == Greeting(PRODUCER, "one", ProducerState("", 0, 0), claim=Claim(waits=True))
    )
    assert server.state.epoch == 1
    client = ClientSession(PRODUCER, "one", SessionConfig(), b"what it says of itself")
    assert introduce(client, server_session(), FRESH).introduction == b"what it says of itself"
    client = ClientSession(PRODUCER, "one", SessionConfig(), takes_over=True)
    assert introduce(client, server_session(), FRESH).claim == AT_ONCE


@pytest.mark.parametrize(
    ("hello", "error"),
    [
        (Hello(PROTOCOL + 1, "b", "s", "l", "", 0, 0, Limits()), UsageError),
        (Hello(PROTOCOL, "", "s", "l", "", 0, 0, Limits()), UsageError),
        (Hello(PROTOCOL, "b" * (MAX_NAME + 1), "s", "l", "", 0, 0, Limits()), UsageError),
        (Hello(PROTOCOL, "b", "s", "l", "", 0, 0, Limits(window_bytes=0)), UsageError),
        (Hello(PROTOCOL, "b\ud800", "s", "l", "", 0, 0, Limits()), UsageError),
        (Hello(PROTOCOL, "b", "s", "l", "\udfff", 0, 0, Limits()), PeerError),
        (Hello(PROTOCOL, "b", "s", "l", "q" * (MAX_NAME + 1), 0, 0, Limits()), PeerError),
    ],
)
def test_a_hello_that_cannot_be_served_is_refused(hello: Hello, error: type[Exception]) -> None:
    """Another protocol, no name, an endless one, one that is no text, no room."""
    with pytest.raises(error):
        server_session().receive(hello, 0.0, nothing)


@pytest.mark.parametrize(
    "frame",
    [
        Hello(PROTOCOL, "b", "s", "l", "", 0, 0, Limits()),
        Welcome("q", 1, 0, Limits()),
        Stored(1),
        Refused(1, "no"),
        batch(2, state("a")),
        batch(0, state("a")),
        Batch(1, ()),
    ],
)
def test_a_client_that_breaks_the_protocol_is_told_apart(frame: Frame) -> None:
    """A second hello, a server's frames, a gap, a step back, an empty batch."""
    with pytest.raises(PeerError):
        greeted().receive(frame, 0.0, nothing)


@pytest.mark.parametrize("frame", [Ping(), Pong(), Credential("newer"), batch(1, state("a"))])
def test_nothing_comes_before_the_hello(frame: Frame) -> None:
    """Who says something else has nothing to say."""
    with pytest.raises(PeerError):
        server_session().receive(frame, 0.0, nothing)


def test_what_brings_no_message_is_bounded() -> None:
    """Also before the welcome, for who stands by; in time further ones may come, and messages are
    not concerned."""
    server, now = server_session(), 0.0
    server.receive(client_session().connect(now), now, nothing)
    for _ in range(int(IDLE_FRAMES * IDLE_BURST) - 1):
        server.receive(Credential("newer"), now, nothing)
    now += 1.0
    for _ in range(IDLE_FRAMES):
        server.receive(Ping(), now, nothing)
    server.welcome(ProducerState("q", 1, 0))
    assert server.receive(batch(1, state("a")), now, nothing)
    with pytest.raises(PeerError, match="frames without a message"):
        _ = [server.receive(Pong(), now, nothing) for _ in range(2)]


def test_a_batch_before_the_welcome_is_an_error() -> None:
    """Until then it could not be stored under a number."""
    server = server_session()
    server.receive(client_session().connect(0.0), 0.0, nothing)
    with pytest.raises(PeerError):
        server.receive(batch(1, state("a")), 0.0, nothing)


def test_a_bad_message_is_refused_alone() -> None:
    """It takes up its number, and the rest of the batch is handed over; whoever sent it is told
    what is wrong with it."""
    answers: list[Frame] = []
    good, last = encode_message(state("a")), encode_message(event("b"))
    large = encode_message(state("b", size=200))
    nameless = good.replace(b"\xa1a", b"\xa0")
    endless = encode_message(new_message("k" * MAX_NAME, "a", b"")).replace(b"\xa1a", b"\xa2aa")
    broken, unreadable = good[:5], Unreadable(b"what another encoding says")
    messages = (good, large, nameless, b"", broken, unreadable, endless, last)
    limits = Limits(message_bytes=200)
    got = greeted(limits).receive(Batch(1, messages), 0.0, answers.append)
    assert got == Arrival(
        1,
        (STATE, *[""] * 6, EVENT),
        (good, *[b""] * 6, last),
        sum(map(len, messages)),
    )
    refused = {a.sequence: a.reason for a in answers if isinstance(a, Refused)}
    assert list(refused) == [2, 3, 4, 5, 6, 7]
    assert f"{len(large)} bytes and the limit is 200" in refused[2]
    assert "`key`" in refused[3]
    assert refused[6] == "what another encoding says"
    assert f"{len(endless)} bytes" in refused[7]


def test_a_batch_is_handed_over_as_it_came() -> None:
    """The bytes are the sender's own, under their numbers, with the kinds that a queue needs."""
    server = greeted()
    sent = batch(1, state("a"), event("b", size=500))
    assert server.receive(sent, 0.0, nothing) == Arrival(
        1, (STATE, EVENT), sent.messages, sum(map(len, sent.messages))
    )
    following = batch(3, state("c"))
    got = server.receive(following, 0.0, nothing)
    assert isinstance(got, Arrival)
    assert (got.first, got.kinds, got.encoded) == (3, (STATE,), following.messages)


@pytest.mark.parametrize("where", ["alone", "among others"])
def test_an_epoch_that_was_not_given_is_refused_alone(where: str) -> None:
    """Or one message of a client that is wrong would outrank whatever follows it for ever."""
    message = new_message(STATE, "key", b"", version=Version(FRESH.epoch, 7))
    ahead = new_message(STATE, "key", b"", version=Version(FRESH.epoch + 1, 0))
    others = [message] if where == "among others" else []
    answers: list[Frame] = []
    sent = batch(1, *others, ahead, *others)
    got = greeted().receive(sent, 0.0, answers.append)
    assert isinstance(got, Arrival)
    place = len(others)
    assert [bool(data) for data in got.encoded] == [n != place for n in range(len(sent.messages))]
    (answer,) = answers
    assert isinstance(answer, Refused)
    assert answer.sequence == 1 + place
    assert f"epoch {FRESH.epoch + 1}" in answer.reason
    assert f"given is {FRESH.epoch}" in answer.reason


def test_who_is_vouched_for_may_have_any_epoch() -> None:
    """A part of this process, which makes versions of its clients' own times."""
    ahead = new_message(STATE, "key", b"", version=Version(MAX_EPOCH, 0))
    sent = batch(1, ahead)
    got = greeted(vouched=True).receive(sent, 0.0, nothing)
    assert isinstance(got, Arrival)
    assert got.encoded == sent.messages


def test_a_client_that_ignores_the_window_is_cut_off() -> None:
    """Count and bytes in flight are bounded whatever the client does."""
    server = greeted(Limits(window_messages=2))
    server.receive(batch(1, state("a"), state("b")), 0.0, nothing)
    with pytest.raises(PeerError, match="2 messages"):
        server.receive(batch(3, state("c")), 0.0, nothing)
    limits = Limits(window_bytes=1000, batch_bytes=1000, message_bytes=1000)
    server = greeted(limits)
    most = (limits.window_bytes + limits.frame_bytes) // size_of(state("a", size=900))
    for first in range(1, most + 1):
        server.receive(batch(first, state("a", size=900)), 0.0, nothing)
    with pytest.raises(PeerError, match="1000 bytes"):
        server.receive(batch(most + 1, state("a", size=900)), 0.0, nothing)


def test_acknowledging_makes_room() -> None:
    """An acknowledgement is said once, and frees what it covers."""
    server = greeted(Limits(window_messages=2))
    server.receive(batch(1, state("a"), state("b")), 0.0, nothing)
    assert server.acknowledge(2) == Stored(2)
    assert server.acknowledge(2) is None
    assert server.acknowledge(1) is None
    server.receive(batch(3, state("c"), state("d")), 0.0, nothing)
