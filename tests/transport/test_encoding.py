"""What a client encodes: the same as whoever reads each message that he made."""

from uuid import UUID

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from osmo_transport import Message, TransportError, Version, encode_message
from osmo_transport.message import MAX_EPOCH, MAX_NAME, MAX_REVISION, read_message
from osmo_transport.session.encoding import encoded
from osmo_transport.testing.kinds import STATE
from tests.transport.builders import MESSAGES, state
from tests.transport.test_message import CHANGES, changed

PLAIN = state("a")


class Texts(str):
    """Text of another type, as enumerations are."""

    __slots__ = ()


class Numbers(int):
    """A number of another type."""

    __slots__ = ()


def outcome(message: Message, limit: int) -> object:
    """What comes of it: kind, key and bytes, or the error."""
    try:
        return encoded(message, limit)
    except TransportError as exc:
        return type(exc), str(exc)


def expected(message: Message, limit: int) -> object:
    """The same by `encode_message`."""
    try:
        data = encode_message(message, limit)
    except TransportError as exc:
        return type(exc), str(exc)
    read = read_message(data)
    return read.kind, read.key, data


@given(MESSAGES, CHANGES, st.integers(0, 300))
@example(PLAIN, {"kind": "k" * MAX_NAME}, 2 * MAX_NAME)
@example(PLAIN, {"kind": "k" * (MAX_NAME + 1)}, 2 * MAX_NAME)
@example(PLAIN, {"key": ""}, 300)
@example(PLAIN, {"key": "\ud800"}, 300)
@example(PLAIN, {"key": Texts("key")}, 300)
@example(PLAIN, {"key": UUID(int=1)}, 300)
@example(PLAIN, {"id": "\udfff"}, 300)
@example(PLAIN, {"id": Texts("id")}, 300)
@example(PLAIN, {"version": Version(MAX_EPOCH, MAX_REVISION)}, 300)
@example(PLAIN, {"version": Version(MAX_EPOCH + 1, 0)}, 300)
@example(PLAIN, {"version": Version(0, MAX_REVISION + 1)}, 300)
@example(PLAIN, {"version": Version(2**64, 0)}, 300)
@example(PLAIN, {"version": Version(Numbers(1), 0)}, 300)
@example(PLAIN, {"version": (True, 0)}, 300)
@example(PLAIN, {"version": (1, 2)}, 300)
@example(PLAIN, {"version": (1, 2, 3)}, 300)
@example(PLAIN, {"version": [1, 2]}, 300)
@example(PLAIN, {"timestamp": 5}, 300)
@example(PLAIN, {"timestamp": float("inf")}, 300)
@example(PLAIN, {"payload": bytearray(b"x")}, 300)
@example(PLAIN, {"payload": "text"}, 300)
@example(PLAIN, {"final": 1}, 300)
@example(PLAIN, {"traceparent": b"00-"}, 300)
@example(PLAIN, {"traceparent": "00-"}, 300)
def test_it_is_what_encode_message_makes(
    message: Message, changes: dict[str, object], limit: int
) -> None:
    """Bytes and errors, whatever the fields hold and however narrow the limit is."""
    message = changed(message, **changes)
    assert outcome(message, limit) == expected(message, limit)


@pytest.mark.parametrize("size", [-1, 0, 1])
def test_the_limit_is_of_the_bytes(size: int) -> None:
    """As many may be."""
    data = encode_message(PLAIN)
    assert outcome(PLAIN, len(data) + size) == expected(PLAIN, len(data) + size)
    assert expected(PLAIN, len(data)) == (STATE, "a", data)


def test_what_is_no_message_is_refused() -> None:
    """Also where it has all the fields of one."""

    class Alike(Message, frozen=True, array_like=True, gc=False):
        """Another struct."""

    alike = Alike(*msgspec.structs.astuple(PLAIN))
    assert outcome(alike, 300) == expected(alike, 300)
    assert outcome(None, 300) == expected(None, 300)  # type: ignore[arg-type]
