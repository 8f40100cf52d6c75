"""Every encoding of the frames carries every frame, and takes nothing else for one."""

from contextlib import suppress

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from osmo_transport import (
    Limits,
    Message,
    PeerError,
    UnreadableError,
    Version,
    encode_message,
    new_message,
    read_message,
)
from osmo_transport.frames import (
    JSON,
    MAX_INTRODUCTION,
    MSGPACK,
    PROTOCOL,
    Batch,
    Codec,
    Frame,
    Goodbye,
    GoodbyeCode,
    Hello,
    Ping,
    Push,
    Refused,
    Stored,
    Welcome,
)
from osmo_transport.message import MAX_EPOCH, MAX_REVISION
from osmo_transport.testing.kinds import FIGURE
from osmo_transport.transports.grpc.frames import PROTOBUF
from tests.transport.builders import FRAMES, MESSAGES, size_of

ENCODINGS: dict[str, Codec] = {"msgpack": MSGPACK, "json": JSON, "protobuf": PROTOBUF}
every_encoding = pytest.mark.parametrize("name", ENCODINGS)


@every_encoding
@settings(max_examples=60, deadline=None)
@given(frame=FRAMES)
@example(frame=Batch(1, (b"", encode_message(new_message("k", "key", b"x")), b"")))
def test_a_frame_comes_back_equal(name: str, frame: Frame) -> None:
    """Whatever is encoded is decoded whole and equal."""
    encoding = ENCODINGS[name]
    assert encoding.decode(encoding.encode(frame)) == frame


@every_encoding
@pytest.mark.parametrize("view", [bytearray, memoryview])
def test_frames_are_read_from_a_buffer(name: str, view: type[bytearray] | type[memoryview]) -> None:
    """Of a transport's own, which it uses again for the next one."""
    frame = Batch(1, (encode_message(Message("k", "key", Version(0, 1), "id", 1.0, b"x")),))
    buffer = bytearray(ENCODINGS[name].encode(frame))
    got = ENCODINGS[name].decode(view(buffer))
    buffer[:] = bytes(len(buffer))
    assert got == frame


@every_encoding
@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=200))
@example(data=b"")
@example(data=b"\x92\xa6goodbye\xa1\xff")
@example(data=b"\x93\xa7refused\x01\xa2\xc3\x28")
@example(data=b"[" * 100_000)
@example(data=b"\x91" * 100_000)
def test_garbage_is_no_frame(name: str, data: bytes) -> None:
    """Any bytes are a frame or a `PeerError`, never another exception."""
    with suppress(PeerError):
        ENCODINGS[name].decode(data)


@every_encoding
@settings(max_examples=100, deadline=None)
@given(frame=FRAMES, place=st.integers(0, 10_000), value=st.integers(0, 255))
def test_a_damaged_frame_does_no_other_harm(
    name: str, frame: Frame, place: int, value: int
) -> None:
    """A changed or cut byte gives another frame or a `PeerError`."""
    encoding = ENCODINGS[name]
    data = bytearray(encoding.encode(frame)) or bytearray(1)
    data[place % len(data)] = value
    for damaged in (bytes(data), bytes(data[: place % len(data)])):
        with suppress(PeerError):
            encoding.decode(damaged)


def test_fields_of_a_newer_peer_are_ignored() -> None:
    """A newer version may append fields to a frame, and to a message in it."""
    hello = Hello(PROTOCOL, "b", "s", "l", "", 0, 0, Limits(), b"told", takes_over=True)
    for codec, plain in ((MSGPACK, msgspec.msgpack), (JSON, msgspec.json)):
        fields = plain.decode(codec.encode(hello))
        fields[-3]["another_limit"] = 5
        assert codec.decode(plain.encode([*fields, "new"])) == hello
    message = Message("k", "key", Version(0, 1), "id", 1.0, b"x")
    fields = msgspec.json.decode(JSON.encode(Batch(1, (encode_message(message),))))
    fields[2][0] += ["new"]
    got = JSON.decode(msgspec.json.encode(fields))
    assert isinstance(got, Batch)
    assert [read_message(data) for data in got.messages] == [message]


def test_a_frame_of_an_unknown_kind_is_an_error() -> None:
    """A frame that this version cannot understand ends the connection, it is not skipped."""
    with pytest.raises(PeerError):
        MSGPACK.decode(msgspec.msgpack.encode(["pull", 1]))
    with pytest.raises(PeerError):
        PROTOBUF.decode(b"")


@every_encoding
@pytest.mark.parametrize(
    "frame",
    [
        Hello(PROTOCOL, "b", "s", "l", "", MAX_EPOCH + 1, 0, Limits()),
        Hello(PROTOCOL, "b", "s", "l", "", 0, MAX_EPOCH + 1, Limits()),
        Hello(PROTOCOL, "b", "s", "l", "", 0, 0, Limits(), b"x" * (MAX_INTRODUCTION + 1)),
        Hello(PROTOCOL, "b", "s", "l", "", 0, 0, Limits(window_bytes=MAX_REVISION + 1)),
        Welcome("q", MAX_EPOCH + 1, 0, Limits()),
        Welcome("q", 0, MAX_EPOCH + 1, Limits()),
        Welcome("q", 0, 0, Limits(message_bytes=MAX_REVISION + 1)),
        Batch(MAX_EPOCH + 1, ()),
        Stored(MAX_EPOCH + 1),
        Refused(MAX_EPOCH + 1, "no"),
        Push("kind", MAX_REVISION + 1, b""),
    ],
    ids=lambda frame: type(frame).__name__,
)
def test_what_is_out_of_bounds_is_an_error(name: str, frame: Frame) -> None:
    """Numbers that another encoding or a store could not hold, an introduction without an end."""
    encoding = ENCODINGS[name]
    with pytest.raises(PeerError):
        encoding.decode(encoding.encode(frame))


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("7", "Expected `array`, got `int`"),
        ('["", "key", [0, 1], "id", 0.0, ""]', "length >= 1"),
        ('["k", "key", [0, -1], "id", 0.0, ""]', ">= 0"),
        ('["k", "key", [0, 1], "id", 0.0, "no base64"]', "base64"),
        ('["k", "key", [0, 1]]', "at least length 6, got 3"),
    ],
)
def test_what_is_no_message_in_json_has_its_reason(message: str, reason: str) -> None:
    """It takes up its number, its neighbours arrive, and whoever reads it is told what is wrong."""
    good = '["k", "key", [0, 1], "id", 1.0, "eA=="]'
    frame = JSON.decode(f'["batch", 7, [{good}, {message}, {good}]]'.encode())
    assert isinstance(frame, Batch)
    assert frame.first == 7
    expected = Message("k", "key", Version(0, 1), "id", 1.0, b"x")
    assert [read_message(frame.messages[place]) for place in (0, 2)] == [expected] * 2
    with pytest.raises(UnreadableError, match=reason):
        read_message(frame.messages[1])


def test_json_is_readable() -> None:
    """The JSON encoding is an array with the frame's name first."""
    assert JSON.encode(Ping()) == b'["ping"]'
    bye = JSON.decode(b'["goodbye","closing","bye"]')
    assert bye == Goodbye(GoodbyeCode.CLOSING, "bye")


@settings(max_examples=60, deadline=None)
@given(message=MESSAGES)
def test_a_frame_within_the_limits_is_within_the_bytes(message: Message) -> None:
    """What a session may put into one batch fits the largest frame, in every encoding."""
    limits = Limits(message_bytes=200, batch_bytes=3000)
    small = msgspec.structs.replace(
        message, id="0" * 32, kind=FIGURE, key="key", payload=b"\xff" * 50
    )
    frame = Batch(2**40, (encode_message(small),) * (limits.batch_bytes // size_of(small) + 1))
    for encoding in ENCODINGS.values():
        assert len(encoding.encode(frame)) <= limits.frame_bytes
