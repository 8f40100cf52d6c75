"""The client's session, rule by rule; the interplay is `test_session_machine`'s."""

import pytest

from osmo_transport import (
    FencedError,
    Limits,
    MessageTooLargeError,
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
    Goodbye,
    GoodbyeCode,
    Hello,
    Reject,
    Welcome,
)
from osmo_transport.message import FIXED_SIZE, MAX_NAME, new_message
from osmo_transport.session import PartedError
from tests.transport.builders import (
    FRESH,
    batches,
    client_session,
    event,
    introduce,
    nothing,
    pod,
    server_session,
)


def sizes(batch: Batch) -> list[int]:
    """The payloads of a batch."""
    return [len(message.payload) for message in batch.messages]


def test_what_waits_leaves_in_one_batch() -> None:
    """Idle: one message a batch; what has collected leaves together."""
    client = client_session()
    introduce(client, server_session(), FRESH)
    client.put(pod("a"))
    assert [b.first for b in batches(client)] == [1]
    for key in "bcd":
        client.put(pod(key))
    (batch,) = batches(client)
    assert (batch.first, [m.key for m in batch.messages]) == (2, ["b", "c", "d"])


def test_nothing_is_sent_before_the_welcome() -> None:
    """Until the operator says where to begin, a message has no number."""
    client = client_session()
    client.put(pod("a"))
    assert client.next_batch() is None
    client.connect(0.0)
    assert client.next_batch() is None


def test_the_window_is_bounded_in_count() -> None:
    """Beyond the window, messages wait in the outbox."""
    client = client_session(Limits(window_messages=2))
    introduce(client, server_session(), FRESH)
    for key in "abc":
        client.put(event(key))
    assert sum(len(b.messages) for b in batches(client)) == 2
    client.receive(Ack(1), 0.0)
    assert [m.key for b in batches(client) for m in b.messages] == ["c"]


def test_the_window_is_bounded_in_bytes() -> None:
    """A message may overshoot the bytes by itself, no second one follows it."""
    client = client_session(Limits(window_bytes=1000, message_bytes=5000))
    introduce(client, server_session(), FRESH)
    for size in (100, 4000, 10):
        client.put(event("a", size=size))
    assert [n for b in batches(client) for n in sizes(b)] == [100, 4000]
    client.receive(Ack(2), 0.0)
    assert [n for b in batches(client) for n in sizes(b)] == [10]


def test_a_reconnect_resends_the_window_in_order() -> None:
    """What is not acknowledged comes again under the same numbers, then what is new."""
    client = client_session()
    introduce(client, server_session(), FRESH)
    for key in "abc":
        client.put(event(key))
    (first,) = batches(client)
    client.receive(Ack(1), 0.0)
    client.disconnect()
    client.put(event("d"))
    introduce(client, server_session(), ProducerState("q", 1, 1))
    again, new = batches(client)
    assert (again.first, again.messages) == (2, first.messages[1:])
    assert (new.first, [m.key for m in new.messages]) == (4, ["d"])
    assert client.resent == 2


def test_the_welcome_settles_what_was_stored() -> None:
    """A stored message whose acknowledgement was lost is not sent again."""
    client = client_session()
    introduce(client, server_session(), FRESH)
    client.put(event("a"))
    batches(client)
    client.disconnect()
    introduce(client, server_session(), ProducerState("q", 1, 1))
    assert batches(client) == []
    assert (client.settled, client.unsettled) == (1, 0)


def test_a_resend_keeps_the_limits_of_the_new_server() -> None:
    """A restarted operator with a smaller window is not overrun by what is resent."""
    client = client_session()
    introduce(client, server_session(), FRESH)
    for number in range(10):
        client.put(event(str(number), size=400))
    batches(client)
    client.disconnect()
    narrow = Limits(window_messages=4, window_bytes=1200)
    server = server_session(narrow)
    introduce(client, server, FRESH)
    seen = []
    while sent := batches(client):
        last = client.sequence
        for batch in sent:
            got = server.receive(batch, 0.0, nothing)
            assert isinstance(got, ProducerBatch)
            seen += [m.key for m in batch.messages]
            last = got.last
        assert last - client.sequence <= 4
        ack = server.acknowledge(last)
        assert ack is not None
        client.receive(ack, 0.0)
    assert seen == [str(number) for number in range(10)]


def test_a_new_epoch_numbers_anew_and_coalesces_the_window() -> None:
    """After the queue lost its memory, the window goes out again, newest reports only."""
    client = client_session()
    introduce(client, server_session(), FRESH)
    for rv in (1, 2):
        client.put(pod("a", rv=rv))
        batches(client)
    client.put(pod("b", rv=3))
    client.disconnect()
    introduce(client, server_session(), ProducerState("r", 2, 0))
    assert client.epoch == 2
    (batch,) = batches(client)
    assert (batch.first, [m.version.resource_version for m in batch.messages]) == (1, [2, 3])
    assert client.settled + client.unsettled == 3


def test_a_renewed_epoch_is_asked_for_as_if_the_memory_had_changed() -> None:
    """The hello claims no queue epoch, so that every queue hands out a higher epoch."""
    client = client_session()
    introduce(client, server_session(), FRESH)
    client.renew_epoch()
    client.disconnect()
    hello = client.connect(0.0)
    assert (hello.queue_epoch, hello.epoch) == ("", 1)


@pytest.mark.parametrize(
    "frame",
    [
        Ack(3),
        Reject(3, "no"),
        Reject(0, "no"),
        Welcome("q", 1, 0, Limits()),
        Hello(PROTOCOL, "b", "s", "l", "", 0, 0, Limits()),
        Batch(1, (pod("a"),)),
    ],
)
def test_a_server_that_breaks_the_protocol_is_told_apart(frame: Frame) -> None:
    """Acknowledging what was not sent, a second welcome, a client's frames."""
    client = client_session()
    introduce(client, server_session(), FRESH)
    client.put(event("a"))
    client.put(event("b"))
    batches(client)
    with pytest.raises(PeerError):
        client.receive(frame, 0.0)


@pytest.mark.parametrize("frame", [Ack(1), Reject(1, "no")])
def test_an_answer_before_the_welcome_is_an_error(frame: Frame) -> None:
    """The window of the last connection cannot be acknowledged by a server that has not seen it."""
    client = client_session()
    introduce(client, server_session(), FRESH)
    client.put(event("a"))
    batches(client)
    client.disconnect()
    client.connect(0.0)
    with pytest.raises(PeerError):
        client.receive(frame, 0.0)


def test_acknowledging_what_was_not_resent_yet_is_an_error() -> None:
    """The window may hold it, but this connection has not carried it."""
    client = client_session(Limits(batch_bytes=1))
    introduce(client, server_session(), FRESH)
    for key in "abc":
        client.put(event(key))
    batches(client)
    client.disconnect()
    introduce(client, server_session(), FRESH)
    client.next_batch()
    with pytest.raises(PeerError):
        client.receive(Ack(2), 0.0)


@pytest.mark.parametrize(
    "welcome",
    [
        Welcome("q", 1, 5, Limits()),
        Welcome("q", 0, 0, Limits()),
        Welcome("other", 1, 0, Limits()),
        Welcome("q", 1, 0, Limits(window_messages=0)),
    ],
)
def test_a_welcome_that_cannot_be_is_an_error(welcome: Welcome) -> None:
    """A position never reached, an epoch that does not rise, limits under which nothing can go."""
    client = client_session()
    introduce(client, server_session(), FRESH)
    client.disconnect()
    client.connect(0.0)
    with pytest.raises(PeerError):
        client.receive(welcome, 0.0)


def test_a_message_over_the_limit_is_refused_alone() -> None:
    """The error names size and limit; the next message is not affected."""
    client = client_session(Limits(message_bytes=200))
    client.put(event("a", size=200 - FIXED_SIZE - 1))
    with pytest.raises(MessageTooLargeError) as info:
        client.put(event("a", size=200 - FIXED_SIZE))
    assert (info.value.size, info.value.limit) == (201, 200)
    client.put(event("b"))
    assert client.unsettled == 2


@pytest.mark.parametrize(
    ("kind", "key"), [("", "a"), ("k", ""), ("k" * MAX_NAME, "a"), ("k", "é" * MAX_NAME)]
)
def test_a_message_without_a_proper_name_is_refused(kind: str, key: str) -> None:
    """An empty name cannot be stored; an endless one would pass under the limits."""
    client = client_session()
    with pytest.raises(UsageError, match="needs a key and a kind"):
        client.put(new_message(kind, key, b""))
    assert client.unsettled == 0


def test_what_is_over_a_smaller_limit_of_the_server_is_withdrawn() -> None:
    """A message taken before the server said how little it takes is refused without being sent, and
    counted; its neighbours arrive."""
    client = client_session(Limits(message_bytes=10_000))
    for size in (10, 5000, 20):
        client.put(event("a", size=size))
    server = server_session(Limits(message_bytes=1000))
    introduce(client, server, FRESH)
    answers: list[Frame] = []
    (batch,) = batches(client)
    assert sum(m.size for m in batch.messages) < 1000
    got = server.receive(batch, 0.0, answers.append)
    assert isinstance(got, ProducerBatch)
    assert [m and len(m.payload) for m in got.messages] == [10, None, 20]
    for answer in [*answers, Ack(3)]:
        client.receive(answer, 0.0)
    assert (client.rejections, client.settled) == (1, 3)
    assert len(client.rejected[0].message.payload) == 5000
    assert "5097 bytes" in client.rejected[0].reason


def test_a_rejection_is_counted_once() -> None:
    """A message that is refused again on the next connection is the same refusal."""
    client = client_session()
    introduce(client, server_session(), FRESH)
    client.put(event("a"))
    batches(client)
    client.receive(Reject(1, "no"), 0.0)
    client.disconnect()
    introduce(client, server_session(), FRESH)
    batches(client)
    client.receive(Reject(1, "no"), 0.0)
    assert (client.rejections, len(client.rejected), client.settled) == (1, 1, 0)
    client.receive(Ack(1), 0.0)
    assert (client.settled, client.acknowledged) == (1, 1)


def test_a_refused_message_is_not_sent_in_a_new_epoch() -> None:
    """It is settled instead."""
    client = client_session()
    introduce(client, server_session(), FRESH)
    client.put(event("a"))
    client.put(event("b"))
    batches(client)
    client.receive(Reject(1, "no"), 0.0)
    client.disconnect()
    introduce(client, server_session(), ProducerState("r", 2, 0))
    (batch,) = batches(client)
    assert [m.key for m in batch.messages] == ["b"]
    assert (client.settled, client.unsettled) == (1, 1)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (GoodbyeCode.FENCED, FencedError),
        (GoodbyeCode.REFUSED, UsageError),
        (GoodbyeCode.PROTOCOL, PeerError),
        (GoodbyeCode.CLOSING, PartedError),
        (GoodbyeCode.UNAVAILABLE, PartedError),
        (GoodbyeCode.RESYNC, PartedError),
        (GoodbyeCode.REPLACED, PartedError),
    ],
)
def test_a_goodbye_says_what_to_do(code: GoodbyeCode, error: type[Exception]) -> None:
    """Each code of a goodbye is one error for the caller, with its reason."""
    client = client_session()
    introduce(client, server_session(), FRESH)
    with pytest.raises(error, match="because"):
        client.receive(Goodbye(code, "because", 3.0), 0.0)
