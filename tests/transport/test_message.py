"""Messages and their bytes: what is sent is read back equal, and what could not be is not sent."""

import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from osmo_transport import (
    Message,
    MessageTooLargeError,
    UnreadableError,
    UnsendableError,
    UsageError,
    Version,
    encode_message,
    new_id,
    new_message,
    read_message,
)
from osmo_transport.message import (
    MAX_EPOCH,
    MAX_NAME,
    MAX_REVISION,
    Head,
    Unreadable,
    read_heads,
    traceparent_of,
)
from tests.transport.builders import MESSAGES

PLAIN = Message("kind", "key", Version(1, 2), "id", 3.0, b"payload")

ANY_TEXT = st.text(st.characters(), max_size=5)
"""Lone surrogates included, which are no Unicode text and which Python takes all the same."""
ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    ANY_TEXT,
    st.binary(max_size=5),
    st.lists(st.integers(-1, 5), min_size=2, max_size=2),
    st.tuples(st.integers(), st.integers()),
    st.tuples(st.floats(allow_nan=False), ANY_TEXT),
    st.dictionaries(ANY_TEXT, st.integers(), max_size=1),
)
CHANGES = st.dictionaries(
    st.sampled_from(Message.__struct_fields__), ANYTHING, min_size=1, max_size=2
)


def changed(message: Message, **fields: Any) -> Message:
    """The message with fields that hold anything: structs do not look at what they are made of."""
    return msgspec.structs.replace(message, **fields)


@given(MESSAGES)
def test_what_is_sent_is_read_back_equal(message: Message) -> None:
    """Each field of it, whatever it holds that it may."""
    assert read_message(encode_message(message)) == message


@given(MESSAGES)
@example(changed(PLAIN, traceparent=""))
@example(changed(PLAIN, payload=b"\xc0"))
def test_who_passes_a_message_on_can_read_its_trace(message: Message) -> None:
    """And needs nothing else of it."""
    assert traceparent_of(encode_message(message)) == message.traceparent


@given(st.binary(max_size=100))
@example(b"")
@example(Unreadable(b"it is too deep"))
@example(encode_message(changed(PLAIN, traceparent="00-"))[:-1])
def test_what_is_no_message_has_no_trace(data: bytes) -> None:
    """That it is none is told by whoever needs the whole of it."""
    assert traceparent_of(data) is None


@given(MESSAGES, CHANGES)
@example(PLAIN, {"id": 5})
@example(PLAIN, {"timestamp": "now"})
@example(PLAIN, {"payload": "text"})
@example(PLAIN, {"final": 1})
@example(PLAIN, {"traceparent": b"00-"})
@example(PLAIN, {"version": [1, 2]})
def test_a_message_is_read_back_equal_or_not_sent(
    message: Message, changes: dict[str, object]
) -> None:
    """Whatever its fields hold: nobody else than the sender is told of what cannot be read, so no
    such message may leave it."""
    message = changed(message, **changes)
    with suppress(UnsendableError):
        assert read_message(encode_message(message)) == message


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", ""),
        ("kind", "k" * (MAX_NAME + 1)),
        ("kind", None),
        ("kind", b"kind"),
        ("key", ""),
        ("key", "é" * (MAX_NAME + 1)),
        ("key", 7),
        ("key", ["key"]),
        ("version.epoch", Version(-1, 0)),
        ("version.epoch", Version(MAX_EPOCH + 1, 0)),
        ("version.epoch", ("1", 0)),
        ("version.epoch", Version(True, 0)),
        ("version.revision", Version(0, -1)),
        ("version.revision", Version(0, MAX_REVISION + 1)),
        ("version.revision", (0, 1.5)),
        ("version", 7),
        ("version", None),
        ("version", (1,)),
        ("id", None),
        ("id", 7),
        ("timestamp", None),
        ("timestamp", "now"),
        ("timestamp", True),
        ("payload", None),
        ("payload", "text"),
        ("payload", ["payload"]),
        ("final", None),
        ("final", 1),
        ("traceparent", 7),
        ("traceparent", b"00-"),
    ],
)
def test_a_field_that_holds_what_it_may_not_is_named(field: str, value: object) -> None:
    """An empty name, an endless one, a version out of bounds, another type: to its sender alone."""
    message = changed(PLAIN, **{field.partition(".")[0]: value})
    with pytest.raises(UnsendableError, match=rf"cannot be sent.*`{field}`"):
        encode_message(message)


@pytest.mark.parametrize("field", ["kind", "key", "id", "traceparent"])
@pytest.mark.parametrize("text", ["\ud800", "a\udfffb"])
def test_what_is_no_text_is_not_sent(field: str, text: str) -> None:
    """A lone surrogate stands for bytes that were no text: as of a file name, or broken JSON."""
    with pytest.raises(UnsendableError, match=r"cannot be sent.*surrogates") as refused:
        encode_message(changed(PLAIN, **{field: text}))
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    "fields",
    [
        {"version": Version(0, 2**64)},
        {"version": Version(-(2**63) - 1, 0)},
        {"timestamp": 10**400},
        {"payload": object()},
        {"payload": {1: {2}}},
    ],
)
def test_what_cannot_be_encoded_at_all_is_not_sent(fields: dict[str, object]) -> None:
    """Numbers of any size and objects of any type: no other error comes out."""
    with pytest.raises(UnsendableError):
        encode_message(changed(PLAIN, **fields))


def test_names_and_versions_go_up_to_their_bounds() -> None:
    """Characters count, not the bytes that they take."""
    for name in ("k", "k" * MAX_NAME, "😀" * MAX_NAME):
        message = changed(PLAIN, kind=name, key=name, version=Version(MAX_EPOCH, MAX_REVISION))
        assert read_message(encode_message(message)) == message


@given(MESSAGES, st.integers(0, 200))
def test_a_message_over_the_limit_is_not_sent(message: Message, limit: int) -> None:
    """The error says how large it is and what may be; it is one of those that are about the message
    alone."""
    size = len(encode_message(message))
    assert len(encode_message(message, size)) == size
    with pytest.raises(MessageTooLargeError) as refused:
        encode_message(message, min(limit, size - 1))
    assert (refused.value.size, refused.value.limit) == (size, min(limit, size - 1))
    assert isinstance(refused.value, UnsendableError)


@given(st.lists(MESSAGES, max_size=4))
def test_the_heads_are_those_of_the_messages(messages: list[Message]) -> None:
    """What whoever passes messages on knows of them, in their order."""
    heads = read_heads(list(map(encode_message, messages)))
    assert heads == [Head(m.kind, m.key, m.version) for m in messages]


@given(st.binary(max_size=100))
@example(b"")
@example(b"\x91" * 100_000)
@example(b"\x98\xa1\xff")
@example(b"\x93\xa1k\xa1\xff\x92\x01\x02")
def test_any_other_bytes_are_unreadable(data: bytes) -> None:
    """No other error comes out, whether a message is asked for or its head."""
    with suppress(UnreadableError):
        read_message(data)
    with suppress(UnreadableError):
        read_heads([data])


@given(MESSAGES, st.integers(0, 10_000), st.integers(0, 255))
def test_damaged_bytes_are_a_message_or_unreadable(
    message: Message, place: int, value: int
) -> None:
    """A changed or cut byte does no other harm."""
    data = bytearray(encode_message(message))
    cut = bytes(data[: place % len(data)])
    with pytest.raises(UnreadableError):
        read_message(cut)
    data[place % len(data)] = value
    with suppress(UnreadableError):
        read_message(bytes(data))


def test_unreadable_bytes_say_what_is_wrong() -> None:
    """With the name of the field, as the sender calls it."""
    fields = msgspec.msgpack.decode(encode_message(PLAIN))
    fields[2][0] = -1
    data = msgspec.msgpack.encode(fields)
    for read in (read_message, lambda data: read_heads([data])):
        with pytest.raises(UnreadableError, match=r"`int` >= 0.*`version\.epoch`"):
            read(data)


def test_what_was_unreadable_in_another_encoding_says_why() -> None:
    """The reason travels in the place of the message."""
    unreadable = Unreadable(b"the reason")
    with pytest.raises(UnreadableError, match=r"^the reason$"):
        read_message(unreadable)
    with pytest.raises(UnreadableError):
        read_heads([encode_message(PLAIN), unreadable])


def test_messages_of_newer_and_of_sparing_senders_are_read() -> None:
    """A newer version may append fields, and the last ones have defaults."""
    message = changed(PLAIN, final=True, traceparent="00-")
    fields = msgspec.msgpack.decode(encode_message(message))
    newer = msgspec.msgpack.encode([*fields, "new"])
    assert read_message(newer) == message
    assert read_heads([newer]) == [Head(message.kind, message.key, message.version)]
    assert read_message(msgspec.msgpack.encode(fields[:-2])) == PLAIN


@pytest.mark.parametrize("end", ["new", "old", "both", "neither"])
@pytest.mark.parametrize(
    ("new", "old", "supersedes"),
    [
        ((1, 2), (1, 1), True),
        ((1, 1), (1, 1), True),
        ((1, 1), (1, 2), False),
        ((2, 0), (1, 9), True),
        ((1, 9), (2, 0), False),
    ],
)
def test_which_report_makes_the_other_needless(
    new: tuple[int, int], old: tuple[int, int], supersedes: bool, end: str
) -> None:
    """The newer one, whether one of them tells of an end or not."""
    one = changed(PLAIN, version=Version(*new), final=end in ("new", "both"))
    other = changed(PLAIN, version=Version(*old), final=end in ("old", "both"))
    assert one.supersedes(other) is supersedes


def test_reports_of_two_resources_are_not_compared() -> None:
    """Their versions are of different counters, or say nothing of each other."""
    for other in (changed(PLAIN, key="another"), changed(PLAIN, kind="another")):
        with pytest.raises(UsageError, match="two resources"):
            PLAIN.supersedes(other)


def test_versions_have_no_order() -> None:
    """mypy refuses to compare them (an ignore that is not needed fails the check), and so does
    Python, wherever they are compared."""
    old, new = Version(1, 2), Version(3, 4)
    comparisons: list[Callable[[], object]] = [
        lambda: old < new,  # type: ignore[operator]
        lambda: old <= new,  # type: ignore[operator]
        lambda: old > new,  # type: ignore[operator]
        lambda: old >= new,  # type: ignore[operator]
        lambda: old > (1, 1),  # type: ignore[operator]
        lambda: max(old, new),  # type: ignore[call-overload]
        lambda: sorted([new, old]),  # type: ignore[type-var]
    ]
    for compare in comparisons:
        with pytest.raises(TypeError, match="not supported between"):
            compare()
    assert old == Version(1, 2) != new


def test_a_new_message_has_an_id_and_a_time() -> None:
    """A uuid4 of its own."""
    one, other = new_message("kind", "key", b"payload"), new_message("kind", "key", b"payload")
    assert one.id != other.id
    assert one.timestamp > 0
    assert (one.version, one.final, one.traceparent) == (Version(0, 0), False, None)
    for _ in range(100):
        assert uuid.UUID(new_id()).version == 4
        assert uuid.UUID(new_id()).variant == uuid.RFC_4122
    assert len(one.id) == 32
