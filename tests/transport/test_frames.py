"""Every encoding of the frames carries every frame, and takes nothing else for one."""

from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from osmo_transport import Limits, Message, PeerError
from osmo_transport.bodies import Registration
from osmo_transport.frames import (
    JSON,
    MSGPACK,
    PROTOCOL,
    Batch,
    Frame,
    Goodbye,
    GoodbyeCode,
    Hello,
    Ping,
)
from osmo_transport.transports import protobuf
from tests.transport.builders import FRAMES, MESSAGES


class Encoding(NamedTuple):
    encode: Callable[[Frame], bytes]
    decode: Callable[[bytes], Frame]


ENCODINGS = {
    "msgpack": Encoding(MSGPACK.encode, MSGPACK.decode),
    "json": Encoding(JSON.encode, JSON.decode),
    "protobuf": Encoding(protobuf.encode, protobuf.decode),
}
every_encoding = pytest.mark.parametrize("name", ENCODINGS)


@every_encoding
@settings(max_examples=60, deadline=None)
@given(frame=FRAMES)
def test_a_frame_comes_back_equal(name: str, frame: Frame) -> None:
    """Whatever is encoded is decoded whole and equal."""
    encoding = ENCODINGS[name]
    assert encoding.decode(encoding.encode(frame)) == frame


@every_encoding
@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=200))
@example(data=b"")
@example(data=b"\x92\xa6goodbye\xa1\xff")
@example(data=b"\x93\xa6reject\x01\xa2\xc3\x28")
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
    """A newer version may append fields to a frame, and to a message."""
    hello = Hello(PROTOCOL, "b", "s", "l", "", 0, 0, Limits(), Registration("uid"))
    for codec, plain in ((MSGPACK, msgspec.msgpack), (JSON, msgspec.json)):
        fields = plain.decode(codec.encode(hello))
        fields[-2]["another_limit"] = 5
        fields[-1]["another_field"] = "x"
        assert codec.decode(plain.encode([*fields, "new"])) == hello


def test_a_frame_of_an_unknown_kind_is_an_error() -> None:
    """A frame that this version cannot understand ends the connection, it is not skipped."""
    with pytest.raises(PeerError):
        MSGPACK.decode(msgspec.msgpack.encode(["push", 1]))
    with pytest.raises(PeerError):
        protobuf.decode(b"")


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
        message, id="0" * 32, kind="update_node_usage", key="key", payload=b"\xff" * 50
    )
    frame = Batch(2**40, (small,) * (limits.batch_bytes // small.size + 1))
    for encoding in ENCODINGS.values():
        assert len(encoding.encode(frame)) <= limits.frame_bytes
