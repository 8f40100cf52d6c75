"""What a client's session tells of messages that will never be stored."""

import pytest

from osmo_transport import (
    Limits,
    Message,
    MessageTooLargeError,
    ProducerState,
    Refusal,
    UnsendableError,
    Version,
    new_message,
)
from osmo_transport.frames import (
    Frame,
    Goodbye,
    GoodbyeCode,
    Refused,
    Stored,
)
from osmo_transport.message import MAX_EPOCH, MAX_NAME
from osmo_transport.session import Arrival, PartedError
from osmo_transport.session.client import (
    KEPT_REFUSALS,
    MAX_REASON,
    MAX_RETRY_AFTER,
)
from osmo_transport.testing.kinds import EVENT
from tests.transport.builders import (
    FRESH,
    batches,
    client_session,
    event,
    introduce,
    keys,
    read,
    server_session,
    size_of,
)


def of_size(size: int) -> Message:
    """A report that takes so many bytes when it is encoded."""
    rest = size_of(event("a", size=size)) - size
    return event("a", size=size - rest)


def test_a_message_over_the_limit_is_refused_alone() -> None:
    """The error names size and limit; the next message is not affected."""
    client = client_session(Limits(message_bytes=200))
    client.put(of_size(200))
    with pytest.raises(MessageTooLargeError) as info:
        client.put(of_size(201))
    assert (info.value.size, info.value.limit) == (201, 200)
    client.put(event("b"))
    assert client.unsettled == 2


@pytest.mark.parametrize(
    ("kind", "key", "epoch"),
    [
        ("", "a", 0),
        ("k", "", 0),
        ("k" * (MAX_NAME + 1), "a", 0),
        ("k", "é" * (MAX_NAME + 1), 0),
        ("k", "\ud800", 0),
        ("k", "a", MAX_EPOCH + 1),
        ("k", "a", -1),
    ],
)
def test_a_message_that_no_server_would_take_is_refused_alone(
    kind: str, key: str, epoch: int
) -> None:
    """An empty name, an endless one, one that is no text, a version out of bounds."""
    client = client_session()
    with pytest.raises(UnsendableError):
        client.put(new_message(kind, key, b"", version=Version(epoch, 0)))
    assert client.unsettled == 0


def test_what_is_over_a_smaller_limit_of_the_server_is_withdrawn() -> None:
    """A message taken before the server said how little it takes is refused without being sent, and
    counted; its neighbours arrive."""
    client = client_session(Limits(message_bytes=10_000))
    large = event("a", size=5000)
    for message in (event("a", size=10), large, event("a", size=20)):
        client.put(message)
    server = server_session(Limits(message_bytes=1000))
    introduce(client, server, FRESH)
    answers: list[Frame] = []
    (sent,) = batches(client)
    assert sum(map(len, sent.messages)) < 1000
    got = server.receive(sent, 0.0, answers.append)
    assert isinstance(got, Arrival)
    assert [m and len(m.payload) for m in read(got.encoded)] == [10, None, 20]
    for answer in [*answers, Stored(3)]:
        client.receive(answer, 0.0)
    assert (client.refused, client.settled) == (1, 3)
    (refusal,) = client.refusals
    assert refusal[:3] == (large.id, EVENT, "a")
    assert f"{size_of(large)} bytes" in refusal.reason


def test_a_refusal_is_counted_once() -> None:
    """A message that is refused again on the next connection is the same refusal."""
    client = client_session()
    introduce(client, server_session(), FRESH)
    client.put(event("a"))
    batches(client)
    client.receive(Refused(1, "no"), 0.0)
    client.disconnect()
    introduce(client, server_session(), FRESH)
    batches(client)
    client.receive(Refused(1, "no"), 0.0)
    assert (client.refused, len(client.refusals), client.settled) == (1, 1, 0)
    client.receive(Stored(1), 0.0)
    assert (client.settled, client.acknowledged) == (1, 1)


def test_a_refused_message_is_not_sent_in_a_new_epoch() -> None:
    """It is settled instead."""
    client = client_session()
    introduce(client, server_session(), FRESH)
    client.put(event("a"))
    client.put(event("b"))
    batches(client)
    client.receive(Refused(1, "no"), 0.0)
    client.disconnect()
    introduce(client, server_session(), ProducerState("r", 2, 0))
    (sent,) = batches(client)
    assert keys(sent.messages) == ["b"]
    assert (client.settled, client.unsettled) == (1, 1)


def test_what_a_server_says_is_kept_within_bounds() -> None:
    """Whatever it says, and however often: reasons are one line of printable text, refusals are
    counted beyond the last ones, and a client comes back after a minute at most."""
    client = client_session()
    introduce(client, server_session(), FRESH)
    count = KEPT_REFUSALS + 1
    for number in range(count):
        client.put(event(str(number)))
    batches(client)
    reason = "\x1b[31m\n" * MAX_REASON
    for number in range(1, count + 1):
        client.receive(Refused(number, reason), 0.0)
    assert (client.refused, len(client.refusals)) == (count, KEPT_REFUSALS)
    assert [refusal.key for refusal in client.refusals][:2] == ["1", "2"]
    for text in {refusal.reason for refusal in client.refusals}:
        assert text.isprintable()
        assert len(text) < 10 * MAX_REASON
    with pytest.raises(PartedError) as parted:
        client.receive(Goodbye(GoodbyeCode.UNAVAILABLE, reason, 1e300), 0.0)
    assert str(parted.value).isprintable()
    assert parted.value.retry_after == MAX_RETRY_AFTER


def test_a_refusal_tells_which_message_and_why() -> None:
    """By its id, kind and key."""
    client = client_session()
    introduce(client, server_session(), FRESH)
    message = event("a")
    client.put(message)
    batches(client)
    client.receive(Refused(1, "no"), 0.0)
    assert list(client.refusals) == [Refusal(message.id, EVENT, "a", "no", message.version)]
