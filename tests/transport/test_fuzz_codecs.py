"""Any bytes to the codecs, and any values into a message."""

import datetime
import enum
import uuid
from contextlib import suppress
from decimal import Decimal
from math import isnan
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from osmo_transport import Limits, Message, PeerError, UnsendableError, Version, encode_message
from osmo_transport.errors import UnreadableError
from osmo_transport.frames import (
    JSON,
    MAX_INTRODUCTION,
    MSGPACK,
    Batch,
    Codec,
    Frame,
    Goodbye,
    Hello,
    Push,
    Refused,
    Stored,
    Welcome,
)
from osmo_transport.message import MAX_EPOCH, MAX_REVISION, Unreadable, read_heads, read_message
from osmo_transport.testing.kinds import STATE
from osmo_transport.transports.grpc.frames import PROTOBUF
from tests.transport.builders import FRAMES, FRESH, MESSAGES, client_session, server_session
from tests.transport.fuzz.frames import AS_JSON, AS_MSGPACK, AS_PROTOBUF, Encoding, Hostile, Place

ENCODINGS = {"msgpack": AS_MSGPACK, "json": AS_JSON, "protobuf": AS_PROTOBUF}
SMALL = Limits(window_messages=10, window_bytes=10_000, message_bytes=5000, batch_bytes=5000)

DRAWS = st.integers(0, 2**64).map(lambda seed: Hostile(str(seed), SMALL))
"""Hostile peers; what hypothesis finds it shrinks to the lowest seed, and no further."""

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)
SHAPES = st.lists(JSON_VALUES, max_size=8).flatmap(
    lambda fields: st.sampled_from(
        [
            *("hello", "occupied", "welcome", "batch", "stored", "refused"),
            *("push", "ping", "goodbye", "nothing"),
        ]
    ).map(lambda tag: [tag, *fields])
)


def check_bounds(frame: Frame) -> None:
    """What a decoder lets through is of its type, and within its bounds."""
    match frame:
        case Hello():
            assert all(isinstance(name, str) for name in (frame.backend, frame.source))
            assert len(frame.introduction) <= MAX_INTRODUCTION
            numbers = [frame.epoch, frame.sequence]
        case Welcome():
            numbers = [frame.epoch, frame.sequence]
        case Batch():
            assert all(isinstance(data, bytes) for data in frame.messages)
            numbers = [frame.first]
        case Stored() | Refused():
            numbers = [frame.sequence]
        case Push():
            assert isinstance(frame.payload, bytes)
            assert 0 <= frame.version <= MAX_REVISION
            numbers = []
        case Goodbye():
            assert isinstance(frame.retry_after, float)
            numbers = []
        case _:
            numbers = []
    assert all(type(number) is int and 0 <= number <= MAX_EPOCH for number in numbers)


def decode(codec: Codec, data: bytes) -> None:
    """A frame, or a `PeerError`."""
    try:
        frame = codec.decode(data)
    except PeerError:
        return
    check_bounds(frame)


each_encoding = pytest.mark.parametrize("encoding", ENCODINGS.values(), ids=ENCODINGS)


@each_encoding
@given(data=st.binary(max_size=200))
def test_any_bytes_are_a_frame_or_a_peer_error(encoding: Encoding, data: bytes) -> None:
    """Nothing else comes of them."""
    decode(encoding.codec, data)


@each_encoding
@given(draw=DRAWS)
def test_hostile_bytes_are_a_frame_or_a_peer_error(encoding: Encoding, draw: Hostile) -> None:
    """Frames with something wrong in them, and bytes that were frames."""
    for _ in range(5):
        decode(encoding.codec, draw.rude(encoding, Place()))


@each_encoding
@given(shape=SHAPES)
def test_any_values_are_a_frame_or_a_peer_error(encoding: Encoding, shape: list[Any]) -> None:
    """Of a right name, or nearly, and any fields."""
    decode(encoding.codec, encoding.encode(shape))


@each_encoding
@given(frame=FRAMES, at=st.integers(0, 2**16), byte=st.integers(0, 255))
def test_a_changed_frame_is_a_frame_or_a_peer_error(
    encoding: Encoding, frame: Frame, at: int, byte: int
) -> None:
    """One byte of it, or its end, is another."""
    data = bytearray(encoding.codec.encode(frame))
    at %= len(data)
    decode(encoding.codec, bytes(data[:at]))
    data[at] = byte
    decode(encoding.codec, bytes(data))


@given(data=st.binary(max_size=100) | DRAWS.map(lambda draw: draw.mutated(b"\x98\xa1k\xa1k")))
def test_any_bytes_are_a_message_or_unreadable(data: bytes) -> None:
    """For whoever reads it whole, and for whoever passes it on; what the former takes, the latter
    does too."""
    try:
        message = read_message(data)
    except UnreadableError:
        with suppress(UnreadableError):
            read_heads([data])
        return
    (head,) = read_heads([data])
    assert (head.kind, head.key, head.version) == (message.kind, message.key, message.version)


@given(draw=DRAWS)
def test_hostile_messages_in_json_are_packed_or_unreadable(draw: Hostile) -> None:
    """Each alone: the batch is a frame, whatever is in its messages, unless its text is none."""
    messages = [draw.bad_message(3) for _ in range(3)]
    try:
        batch = JSON.decode(AS_JSON.encode(["batch", 1, messages]))
    except PeerError as exc:
        text = str(exc)
        # The latter where half of a surrogate pair stands too near the end for the other half.
        assert "JSON is malformed" in text or "Input data was truncated" in text
        return
    assert isinstance(batch, Batch)
    for data in batch.messages:
        if type(data) is Unreadable:
            assert data.decode()
        else:
            read_message(data)


class Colour(enum.Enum):
    """A value that is encoded as another one."""

    RED = "red"
    EVEN = 2


LEAVES: st.SearchStrategy[Any] = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(), st.decimals()),
    *(st.text(st.characters(), max_size=2000), st.binary(max_size=100), st.complex_numbers()),
    *(st.datetimes(), st.timedeltas(), st.uuids(), st.sampled_from(Colour)),
    st.binary(max_size=20).map(bytearray),
    st.binary(max_size=20).map(lambda data: memoryview(data)[:]),
    st.binary(max_size=20).map(lambda data: memoryview(data)[::2]),
    st.binary(max_size=20).map(lambda data: memoryview(data)[::-1]),
    st.binary(max_size=20).map(msgspec.Raw),
    st.sampled_from(
        [object(), int, len, 10**400, -(10**400), "\ud800", "x" * 1024, "x" * 1025, Version(0, 0)]
    ),
    st.sampled_from([Version(-1, 0), (2**53, 0), (0, 2**63), (0,), (0, 0, 0), (None, None)]),
    st.sampled_from([uuid.NAMESPACE_DNS, Decimal("NaN"), datetime.date(1, 1, 1), range(3)]),
)
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(st.text(max_size=3), inner, max_size=3),
    ),
    max_leaves=5,
)
FIELDS = st.dictionaries(
    st.sampled_from(Message.__struct_fields__), ANYTHING, min_size=1, max_size=3
)


def same(one: Message, other: Message) -> bool:
    """Equal, not a number included."""
    if isnan(one.timestamp) and isnan(other.timestamp):
        one = msgspec.structs.replace(one, timestamp=0.0)
        other = msgspec.structs.replace(other, timestamp=0.0)
    return one == other


@given(message=MESSAGES, fields=FIELDS)
def test_any_value_in_any_field_is_unsendable_or_survives(
    message: Message, fields: dict[str, Any]
) -> None:
    """What `encode_message` takes, everybody can read, and every server takes."""
    odd = msgspec.structs.replace(message, **fields)
    try:
        data = encode_message(odd)
    except UnsendableError:
        return
    read = read_message(data)
    assert same(read_message(encode_message(read)), read)
    (head,) = read_heads([data])
    assert head.key == read.key


@given(message=MESSAGES, fields=FIELDS)
def test_what_a_client_takes_its_server_takes(message: Message, fields: dict[str, Any]) -> None:
    """Of any message it is known when it is put whether it can be sent; what was put is neither
    lost nor refused."""
    client, server = client_session(), server_session()
    refused: list[Frame] = []
    server.receive(client.connect(0.0), 0.0, refused.append)
    client.receive(server.welcome(FRESH), 0.0)
    try:
        client.put(msgspec.structs.replace(message, **{"version": Version(0, 0), **fields}))
    except UnsendableError:
        assert not client.unsettled
        return
    batch = client.next_batch()
    assert batch is not None
    arrival = server.receive(MSGPACK.decode(MSGPACK.encode(batch)), 0.0, refused.append)
    assert arrival is not None
    epoch = read_message(batch.messages[0]).version.epoch
    assert bool(refused) == (epoch > FRESH.epoch)
    assert PROTOBUF.decode(PROTOBUF.encode(batch)) == batch


def test_a_payload_that_is_no_bytes_in_a_row_is_unsendable() -> None:
    """A view of every second byte, for one."""
    message = Message(STATE, "a", Version(0, 0), "", 0.0, memoryview(b"abcd")[::2])  # type: ignore[arg-type]
    with pytest.raises(UnsendableError):
        encode_message(message)
