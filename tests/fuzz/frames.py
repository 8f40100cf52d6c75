"""Frames of the transports, in each encoding."""

from collections.abc import Callable

from osmo_transport import PeerError
from osmo_transport.errors import UnreadableError
from osmo_transport.frames import Batch
from osmo_transport.message import read_heads, read_message, traceparent_of
from tests.fuzz.draw import Draw
from tests.fuzz.family import Family
from tests.transport.fuzz.frames import AS_JSON, AS_MSGPACK, AS_PROTOBUF, Encoding, Place
from tests.transport.test_fuzz_codecs import check_bounds


def _reading(encoding: Encoding) -> Callable[[bytes], None]:
    def read(data: bytes) -> None:
        frame = encoding.codec.decode(data)
        check_bounds(frame)
        encoding.codec.encode(frame)
        if isinstance(frame, Batch):
            for message in frame.messages:
                traceparent_of(message)
            try:
                read_heads(frame.messages)
            except UnreadableError:
                return
            for message in frame.messages:
                read_message(message)

    return read


def _family(encoding: Encoding) -> Family:
    def make(draw: Draw) -> bytes:
        return draw.rude(encoding, Place())

    return Family(make, _reading(encoding), (PeerError, UnreadableError))


MSGPACK = _family(AS_MSGPACK)
JSON = _family(AS_JSON)
PROTOBUF = _family(AS_PROTOBUF)
