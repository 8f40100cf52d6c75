"""The client's session, rule by rule; the interplay is `test_session_machine`'s."""

from collections.abc import Iterable

import pytest

from osmo_transport import (
    FencedError,
    Limits,
    MessageTooLargeError,
    PeerError,
    ProducerState,
    Push,
    UsageError,
)
from osmo_transport.frames import (
    PROTOCOL,
    Frame,
    Goodbye,
    GoodbyeCode,
    Hello,
    Refused,
    Stored,
    Welcome,
)
from osmo_transport.session import Arrival, PartedError
from osmo_transport.session.client import (
    MAX_PUSHED_KINDS,
)
from tests.transport.builders import (
    FRESH,
    batch,
    batches,
    client_session,
    event,
    introduce,
    keys,
    nothing,
    read,
    server_session,
    state,
)


def sizes(encoded: Iterable[bytes]) -> list[int]:
    """The payloads of a batch's messages."""
    return [len(message.payload) for message in read(encoded) if message is not None]


def test_what_waits_leaves_in_one_batch() -> None:
    """Idle: one message a batch; what has collected leaves together."""
    client = client_session()
    introduce(client, server_session(), FRESH)
    client.put(state("a"))
    assert [b.first for b in batches(client)] == [1]
    for key in "bcd":
        client.put(state(key))
    (sent,) = batches(client)
    assert (sent.first, keys(sent.messages)) == (2, ["b", "c", "d"])


def test_a_message_that_waits_for_nothing_leaves_at_once() -> None:
    """It takes the next number and its place in the window, and comes again after a lost
    connection."""
    client = client_session()
    introduce(client, server_session(), FRESH)
    batch = client.put(state("a"), True)
    assert batch is not None
    assert (batch.first, keys(batch.messages)) == (1, ["a"])
    assert (client.in_flight, client.unsettled) == (1, 1)
    client.receive(Stored(1), 0.0)
    assert (client.acknowledged, client.settled) == (1, 1)
    with pytest.raises(MessageTooLargeError):
        client.put(state("b", size=2 * Limits().message_bytes), True)
    batch = client.put(state("b"), True)
    assert batch is not None
    assert batch.first == 2
    client.disconnect()
    introduce(client, server_session(), ProducerState("q", client.epoch, 1))
    assert [(b.first, keys(b.messages)) for b in batches(client)] == [(2, ["b"])]
    assert client.resent == 1


def test_what_left_at_once_can_be_taken_back() -> None:
    """When nothing took it: it waits, makes way for a newer one, and gives its number to it."""
    client = client_session(Limits(window_bytes=1000))
    introduce(client, server_session(), FRESH)
    assert client.put(state("a", size=900), True) is not None
    client.take_back()
    assert (client.in_flight, client.unsettled) == (0, 1)
    client.put(state("a", revision=2, size=900))
    assert (client.unsettled, client.settled) == (1, 1)
    (sent,) = batches(client)
    assert (sent.first, keys(sent.messages)) == (1, ["a"])
    assert client.resent == 0


def test_what_left_at_once_counts_in_the_window() -> None:
    """And no more when it is taken back."""
    client = client_session(Limits(window_bytes=1000))
    introduce(client, server_session(), FRESH)
    assert client.put(state("a", size=900), True) is not None
    client.put(state("b"))
    client.put(state("c"))
    assert [keys(b.messages) for b in batches(client)] == [["b"]]
    client.receive(Stored(2), 0.0)
    assert [keys(b.messages) for b in batches(client)] == [["c"]]
    client.receive(Stored(3), 0.0)
    assert client.put(state("d", size=900), True) is not None
    client.take_back()
    client.put(state("e"))
    assert [keys(b.messages) for b in batches(client)] == [["d", "e"]]


def test_a_message_overtakes_nothing() -> None:
    """Behind the welcome, what is in flight and what is in the outbox, it waits like any other."""
    client = client_session()
    assert client.put(state("a"), True) is None
    introduce(client, server_session(), FRESH)
    assert client.put(state("b"), True) is None
    assert [keys(b.messages) for b in batches(client)] == [["a", "b"]]
    assert client.put(state("c"), True) is None
    client.receive(Stored(2), 0.0)
    assert client.put(state("d"), True) is None
    assert [keys(b.messages) for b in batches(client)] == [["c", "d"]]


def test_nothing_is_sent_before_the_welcome() -> None:
    """Until the server says where to begin, a message has no number."""
    client = client_session()
    client.put(state("a"))
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
    client.receive(Stored(1), 0.0)
    assert [key for b in batches(client) for key in keys(b.messages)] == ["c"]


def test_the_window_is_bounded_in_bytes() -> None:
    """A message may overshoot the bytes by itself, no second one follows it."""
    client = client_session(Limits(window_bytes=1000, message_bytes=5000))
    introduce(client, server_session(), FRESH)
    for size in (100, 4000, 10):
        client.put(event("a", size=size))
    assert [n for b in batches(client) for n in sizes(b.messages)] == [100, 4000]
    client.receive(Stored(2), 0.0)
    assert [n for b in batches(client) for n in sizes(b.messages)] == [10]


def test_a_reconnect_resends_the_window_in_order() -> None:
    """What is not acknowledged comes again under the same numbers, then what is new."""
    client = client_session()
    introduce(client, server_session(), FRESH)
    for key in "abc":
        client.put(event(key))
    (first,) = batches(client)
    client.receive(Stored(1), 0.0)
    client.disconnect()
    client.put(event("d"))
    introduce(client, server_session(), ProducerState("q", 1, 1))
    again, new = batches(client)
    assert (again.first, again.messages) == (2, first.messages[1:])
    assert (new.first, keys(new.messages)) == (4, ["d"])
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
    """A restarted server with a smaller window is not overrun by what is resent."""
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
        for each in sent:
            got = server.receive(each, 0.0, nothing)
            assert isinstance(got, Arrival)
            seen += keys(got.encoded)
            last += len(got.encoded)
        assert last - client.sequence <= 4
        answer = server.acknowledge(last)
        assert answer is not None
        client.receive(answer, 0.0)
    assert seen == [str(number) for number in range(10)]


def test_a_new_epoch_numbers_anew_and_coalesces_the_window() -> None:
    """After the queue lost its memory, the window goes out again, newest reports only."""
    client = client_session()
    introduce(client, server_session(), FRESH)
    for revision in (1, 2):
        client.put(state("a", revision=revision))
        batches(client)
    client.put(state("b", revision=3))
    client.disconnect()
    introduce(client, server_session(), ProducerState("r", 2, 0))
    assert client.epoch == 2
    (sent,) = batches(client)
    assert (sent.first, [m and m.version.revision for m in read(sent.messages)]) == (1, [2, 3])
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
        Stored(3),
        Refused(3, "no"),
        Refused(0, "no"),
        Welcome("q", 1, 0, Limits()),
        Hello(PROTOCOL, "b", "s", "l", "", 0, 0, Limits()),
        batch(1, state("a")),
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


@pytest.mark.parametrize("frame", [Stored(1), Refused(1, "no")])
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
        client.receive(Stored(2), 0.0)


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


def test_the_newest_push_of_each_kind_is_kept() -> None:
    """A server that was connected to before may have been behind; one that pushes kinds without
    end breaks the protocol."""
    client = client_session()
    introduce(client, server_session(), FRESH)
    for version in (2, 3, 1):
        client.receive(Push("rules", version, b"%d" % version), 0.0)
    assert client.pushes == {"rules": Push("rules", 3, b"3")}
    for number in range(1, MAX_PUSHED_KINDS):
        client.receive(Push(str(number), 1, b""), 0.0)
    with pytest.raises(PeerError, match=f"{MAX_PUSHED_KINDS} kinds"):
        client.receive(Push("one more", 1, b""), 0.0)
    client.receive(Push("rules", 4, b"4"), 0.0)
    assert client.pushes["rules"].version == 4


def test_a_server_that_does_not_believe_an_epoch_is_believed() -> None:
    """A store that lost its memory, and whose clock is behind, begins lower: better than never to
    report again. What waits goes out under the lower epoch."""
    client = client_session()
    introduce(client, server_session(), ProducerState("q", 9, 0))
    client.put(event("a"))
    batches(client)
    client.disconnect()
    introduce(client, server_session(), ProducerState("r", 4, 0))
    assert client.epoch == 4
    (sent,) = batches(client)
    assert (sent.first, keys(sent.messages)) == (1, ["a"])


def test_a_new_epoch_keeps_the_order_of_the_window() -> None:
    """What was sent goes out again as it was, and what waited follows it."""
    client = client_session(Limits(window_messages=4))
    introduce(client, server_session(), FRESH)
    for key in "abcdef":
        client.put(event(key))
    batches(client)
    client.receive(Stored(1), 0.0)
    batches(client)
    client.disconnect()
    introduce(client, server_session(), ProducerState("r", 2, 0))
    sent = batches(client)
    assert (sent[0].first, [key for b in sent for key in keys(b.messages)]) == (1, list("bcde"))
    client.receive(Stored(4), 0.0)
    assert [key for b in batches(client) for key in keys(b.messages)] == ["f"]
