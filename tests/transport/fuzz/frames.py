"""Hostile frames and bytes, all drawn from a seed: the same seed says the same."""

import base64
import json
import random
import struct
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, nan
from typing import Any, NamedTuple

import msgspec

from osmo_transport.frames import JSON, MSGPACK, PROTOCOL, Codec, GoodbyeCode, Limits
from osmo_transport.message import MAX_EPOCH
from osmo_transport.testing.kinds import EVENT, STATE
from osmo_transport.transports.grpc.frames import PROTOBUF

Shape = list[Any]
"""A frame before it is encoded: `[tag, field, …]`, where a field holds anything at all. A message
of a batch is such a list too, or bytes."""

NUMBERS: tuple[Any, ...] = (
    *(0, -1, 1, 2, 127, 255, 65_536, 2**31 - 1, 2**31, 2**32, 2**53 - 1, 2**53, 2**63 - 1),
    *(-(2**63), 2**63, 2**64 - 1, 2**64, 10**20, -(10**20)),
    *(nan, inf, -inf, 0.5, -0.0, 1e308, 5e-324, True, False),
)
TEXTS: tuple[Any, ...] = (
    *("", "x", " ", "a/b", "\x00", "\x1b[31m\r\n", "\x7f\u2028\u202e", "é" * 1024, "x" * 1024),
    *("x" * 1025, "💥" * 1025, "\ud800", "x\udfff", "💥", "null", "0", "-", "%s%n{0}", "ß" * 5000),
)
ODD: tuple[Any, ...] = (
    *(None, [], {}, [[]], {"a": 1}, [None] * 20, [1, 2, 3], b"", b"\x00\xff", [b"x"], {"": {}}),
    {"window_messages": 1},
)
MEGABYTES = (60_000, 330_000, 700_000, 2_500_000)
"""Of what is large: within the limits of a frame, about at them, and far beyond."""

LEVELS = 200
"""Of nesting in what is written as JSON: far more than any reader follows, and less than the
fuzzer's own recursion takes."""

LIMIT_NAMES = ("window_messages", "window_bytes", "message_bytes", "batch_bytes")
LETHAL_CODES = tuple(
    code.value for code in (GoodbyeCode.FENCED, GoodbyeCode.REFUSED, GoodbyeCode.DENIED)
)
"""What ends a client for good, as it should."""
CODES = tuple(code.value for code in GoodbyeCode if code.value not in LETHAL_CODES)


# Encodings: of what no encoder of ours would take, too.


def packed(value: Any) -> bytes:
    """Msgpack of anything; what it cannot hold comes as near as it goes."""
    try:
        return msgspec.msgpack.encode(value)
    except (ValueError, OverflowError, TypeError, RecursionError):
        return _packed_by_hand(value)


def _packed_by_hand(value: Any) -> bytes:
    if isinstance(value, msgspec.Raw):
        return bytes(value)
    if isinstance(value, int):
        return b"\xcf" + (value % 2**64).to_bytes(8)
    if isinstance(value, str):
        data = value.encode(errors="surrogatepass")
        return b"\xdb" + len(data).to_bytes(4) + data
    if isinstance(value, list | tuple):
        return b"\xdd" + len(value).to_bytes(4) + b"".join(map(packed, value))
    if isinstance(value, dict):
        pairs = b"".join(packed(key) + packed(each) for key, each in value.items())
        return b"\xdf" + len(value).to_bytes(4) + pairs
    return b"\xc1"


def _with_packed_messages(shape: Shape) -> Shape:
    if len(shape) > 2 and shape[0] == "batch" and isinstance(shape[2], list):
        messages = [m if isinstance(m, bytes) else packed(m) for m in shape[2]]
        return [*shape[:2], messages, *shape[3:]]
    return shape


def _as_msgpack(shape: Any) -> bytes:
    return packed(_with_packed_messages(shape) if isinstance(shape, list) else shape)


def _plain(value: Any, levels: int = LEVELS) -> Any:
    if not levels:
        return None
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, list | tuple):
        return [_plain(each, levels - 1) for each in value]
    if isinstance(value, dict):
        return {str(key): _plain(each, levels - 1) for key, each in value.items()}
    return [[[]]] if isinstance(value, msgspec.Raw) else value


def _as_json(shape: Any) -> bytes:
    return json.dumps(_plain(shape)).encode()


_NUMBERS_OF_FRAMES = {
    name: number
    for number, name in enumerate(
        (
            "hello",
            "welcome",
            "batch",
            "stored",
            "refused",
            "ping",
            "pong",
            "goodbye",
            "push",
            "occupied",
        ),
        1,
    )
}


def _varint(value: int) -> bytes:
    out = bytearray()
    value %= 2**70
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(number: int, value: Any) -> bytes:
    if value is None:
        return b""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value % 2**64 if value < 0 else value)
    if isinstance(value, float):
        return _varint(number << 3 | 1) + struct.pack("<d", value)
    if isinstance(value, list):
        return b"".join(_field(number, each) for each in value)
    if isinstance(value, dict):
        value = b"".join(_field(place, each) for place, each in enumerate(value.values(), 1))
    if isinstance(value, str):
        value = value.encode(errors="surrogatepass")
    return _varint(number << 3 | 2) + _varint(len(value)) + bytes(value)


def _as_protobuf(shape: Any) -> bytes:
    if not isinstance(shape, list) or not shape:
        return _field(1, shape)
    tag, *fields = _with_packed_messages(shape)
    number = _NUMBERS_OF_FRAMES.get(tag, 15) if isinstance(tag, str) else 15
    body = b"".join(_field(place, each) for place, each in enumerate(fields, 1))
    return _varint(number << 3 | 2) + _varint(len(body)) + body


class Encoding(NamedTuple):
    """One of the ways in which frames travel."""

    codec: Codec
    """Reads what the peer says."""
    encode: Callable[[Any], bytes]
    """Of a shape, or of anything else."""


AS_MSGPACK = Encoding(MSGPACK, _as_msgpack)
AS_JSON = Encoding(JSON, _as_json)
AS_PROTOBUF = Encoding(PROTOBUF, _as_protobuf)


@dataclass
class Place:
    """Where the two sides stand, as far as the hostile one knows."""

    queue_epoch: str = ""
    epoch: int = 0
    first: int = 1
    """A client's: the next number to send. A server's: the first that is not acknowledged."""
    last: int = 0
    """A server's: the last number that the client has sent."""
    room: int = 0
    """A client's: messages that the window still takes."""


class Hostile(random.Random):
    """Says what should not be said."""

    def __init__(
        self, seed: str, limits: Limits, memory: deque[tuple[str, int, int]] | None = None
    ) -> None:
        """`memory` holds the places of earlier welcomes; to be filled by who hears them."""
        super().__init__(seed)
        self.memory = deque(maxlen=100) if memory is None else memory
        self.name = seed
        self.limits = limits
        self._before = b"\x00"

    def often(self, share: float) -> bool:
        """Whether it is one of the `share`."""
        return self.random() < share

    # Values

    def number(self) -> Any:
        return self.choice(NUMBERS)

    def text(self) -> Any:
        if self.often(0.005):
            return "m" * self.choice(MEGABYTES)
        return self.choice(TEXTS)

    def data(self) -> bytes:
        if self.often(0.003):
            return b"m" * self.choice(MEGABYTES)
        return self.randbytes(self.choice((0, 1, 10, 100)))

    def nested(self) -> Any:
        if self.often(0.5):
            return msgspec.Raw(b"\x91" * 20_000 + b"\xc0")
        value: Any = []
        for _ in range(self.choice((3, 50, 100))):
            value = [value]
        return value

    def anything(self) -> Any:
        draw = self.random()
        if draw < 0.4:
            return self.number()
        if draw < 0.7:
            return self.text()
        if draw < 0.8:
            return self.data()
        return self.nested() if draw > 0.99 else self.choice(ODD)

    def near(self, number: int) -> int:
        """A number at or about this one."""
        return max(0, number + self.choice((-2, -1, 0, 0, 0, 1, 2, 1000)))

    def some_limits(self) -> Any:
        if self.often(0.1):
            return self.anything()
        return {name: self.choice((1, 1, 1000, 100_000, 2**40)) for name in LIMIT_NAMES}

    # Messages

    def message(self, epoch: int) -> Shape:
        """One that is in order."""
        kind = self.choice((STATE, EVENT, "fuzz_unknown"))
        key = f"key-{self.randrange(20)}"
        version = [epoch, self.randrange(2**40)]
        payload = b"p" * self.choice((0, 0, 10, 200))
        return [kind, key, version, f"{self.getrandbits(128):032x}", 1.5, payload, False, None]

    def bad_message(self, epoch: int) -> Any:
        """One with something wrong in it, that may be taken or refused, alone."""
        message = self.message(epoch)
        draw = self.random()
        if draw < 0.5:
            message[self.randrange(8)] = self.anything()
        elif draw < 0.6:
            message[2] = [self.number(), self.number()]
        elif draw < 0.65:
            message[2] = [self.near(epoch), 1]
        elif draw < 0.7:
            message = message[: self.randrange(8)]
        elif draw < 0.75:
            message += [self.anything()]
        elif draw < 0.8:
            spare = self.limits.message_bytes - len(packed(message)) + self.choice((-4, -3, 0, 1))
            message[5] = b"l" * max(0, spare)
        elif draw < 0.9:
            return self.mutated(packed(message))
        else:
            return self.choice((b"", b"\xc0", b"\x98", self.data(), packed(self.anything())))
        return message

    # Frames

    def hello(self, name: str = "fuzz") -> Shape:
        """One that is let in."""
        backend = f"{name}-{self.randrange(50)}"
        limits = dict(zip(LIMIT_NAMES, (10_000, 2**24, 2**20, 2**18), strict=True))
        known = self.choice((("", 0, 0), ("", 0, 0), ("x", 5, 7), ("x" * 1024, MAX_EPOCH, 1)))
        if self.memory and self.often(0.5):
            # A place of an earlier connection, its own or another's, or about that.
            queue_epoch, epoch, sequence = self.choice(self.memory)
            epoch += self.choice((0, 0, 1, -1, 10**7, 10**9))
            known = queue_epoch, epoch, self.choice((sequence, sequence, 0, sequence + 1000))
        introduction = b"i" * self.choice((0, 0, 100, 4096))
        return ["hello", PROTOCOL, backend, "s", "i", *known, limits, introduction]

    def welcome(self, place: Place) -> Shape:
        """One that a client in this place takes, or nearly."""
        queue_epoch = self.choice((place.queue_epoch, place.queue_epoch, "hostile", ""))
        epoch = place.epoch + self.choice((0, 0, 1, 10**12, 10**14))
        sequence = self.choice((place.first - 1, self.near(place.first - 1), 0, MAX_EPOCH))
        limits: Any = dict(zip(LIMIT_NAMES, (10_000, 2**24, 2**20, 2**18), strict=True))
        if self.often(0.3):
            limits = self.some_limits()
        return ["welcome", queue_epoch, min(epoch, MAX_EPOCH), sequence, limits]

    def goodbye(self) -> Shape:
        """In a case in a hundred one of megabytes."""
        reason = self.text() if self.often(0.9) else "m" * self.choice(MEGABYTES)
        return ["goodbye", self.choice(CODES), reason, self.choice((0, 0.001, -1.0, nan, inf))]

    def any_frame(self, place: Place) -> Shape:
        """A frame of either side, with numbers about where it stands, or not."""
        number = self.choice((self.near(place.last), self.number()))
        match self.randrange(13):
            case 0:
                shape = self.hello()
            case 1:
                shape = self.welcome(place)
            case 2 | 3:
                first = self.choice((place.first, self.near(place.first), self.number()))
                bad = [self.bad_message(place.epoch) for _ in range(self.randrange(4))]
                shape = ["batch", first, bad]
            case 4:
                shape = self.many(place)
            case 5 | 6:
                shape = ["stored", number]
            case 7 | 8:
                shape = ["refused", number, self.text()]
            case 9:
                kind = self.choice((f"kind-{self.randrange(30)}", self.text()))
                shape = ["push", kind, self.number(), self.data()]
            case 10:
                shape = self.goodbye()
            case 11:
                since = self.choice((0.0, 1.8e9, -1.0, nan, inf))
                shape = ["occupied", self.text(), self.text(), since]
            case _:
                shape = [self.choice(("ping", "pong"))]
        return shape

    def many(self, place: Place) -> Shape:
        """A batch of more messages than the window takes; now and then of as many as fit a
        frame."""
        count = self.limits.window_messages + 1
        if self.often(0.1):
            count = self.limits.frame_bytes // 3
        return ["batch", place.first, [self.choice((b"", 0, None, []))] * count]

    def spoilt(self, shape: Shape) -> Any:
        """The frame, with something wrong in its make."""
        shape = list(shape)
        match self.randrange(7):
            case 0 | 1 | 2 if len(shape) > 1:
                shape[self.randrange(1, len(shape))] = self.anything()
            case 3:
                del shape[self.randrange(len(shape)) :]
            case 4:
                shape[0] = self.anything()
            case 5:
                return self.choice((shape * 2, [shape], {"a": shape}, self.anything()))
            case _:
                shape += [self.anything() for _ in range(self.randrange(4))]
        return shape

    def mutated(self, data: bytes) -> bytes:
        """The bytes, changed in some way of those that find most."""
        out = bytearray(data) or bytearray(1)
        for _ in range(self.choice((1, 1, 2, 8))):
            at = self.randrange(len(out))
            match self.randrange(8):
                case 0 | 1:
                    out[at] ^= 1 << self.randrange(8)
                case 2:
                    out[at] = self.choice((0, 1, 0x7F, 0x80, 0xC1, 0xCA, 0xFF))
                case 3:
                    del out[at:]
                case 4:
                    out[at:at] = self.randbytes(self.randrange(8))
                case 5:
                    out[at:] = self._before[self.randrange(len(self._before)) :]
                case 6:
                    # A length of four gigabytes: of an array, a map, a text or bytes.
                    out[at : at + 5] = self.choice(b"\xdd\xdf\xdb\xc6").to_bytes() + b"\xff" * 4
                case _:
                    del out[at : at + self.randrange(1, 4)]
            out = out or bytearray(1)
        self._before = data or b"\x00"
        return bytes(out)

    def garbage(self) -> bytes:
        """Bytes of no meaning."""
        match self.randrange(8):
            case 0:
                # Deep: an array, a map or an extension of msgpack, of JSON, and groups of protobuf.
                unit = self.choice((b"\x91", b"\x81\xa1x", b"[", b'{"a":', b"\x1b", b"\x0a\xff"))
                return unit * self.choice((100, 2000, 20_000))
            case 1:
                return self.choice((b"\xdd", b"\xdf", b"\xdb", b"\xc6", b"\xc9")) + b"\xff" * 4
            case 2:
                return b""
            case _:
                return self.randbytes(self.choice((1, 2, 5, 20, 300)))

    def rude(self, encoding: Encoding, place: Place) -> bytes:
        """A frame that most likely ends the connection."""
        match self.randrange(8):
            case 0 | 1:
                return encoding.encode(self.any_frame(place))
            case 2 | 3 | 4:
                return encoding.encode(self.spoilt(self.any_frame(place)))
            case 5 | 6:
                return self.mutated(encoding.encode(self.any_frame(place)))
            case _:
                return self.garbage()

    # What a peer has to take

    def borne_by_server(self, place: Place) -> Shape:
        """A client's frame that does not end its connection, whatever is in its messages."""
        draw = self.random()
        if draw < 0.2 or not place.room:
            return [self.choice(("ping", "pong")), *([self.anything()] if draw < 0.05 else [])]
        count = min(place.room, self.choice((1, 1, 2, 3, 20)))
        if draw > 0.995:
            count = place.room
            messages: Sequence[Any] = [b""] * count
        elif draw > 0.6:
            messages = [self.message(place.epoch) for _ in range(count)]
        else:
            messages = [self.bad_message(place.epoch) for _ in range(count)]
        shape = ["batch", place.first, list(messages)]
        place.first += count
        place.room -= count
        return shape

    def borne_by_client(self, place: Place) -> Shape:
        """A server's frame that does not end its connection."""
        match self.randrange(8):
            case 0 | 1 if place.last >= place.first:
                number = self.randrange(place.first, place.last + 1)
                if self.often(0.3):
                    place.first = number + 1
                    return ["stored", number]
                return ["refused", number, self.text()]
            case 2:
                return ["stored", self.randrange(place.first)]
            case 3 | 4:
                kind, version = f"kind-{self.randrange(16)}", self.choice((0, 1, 2**63 - 1))
                return ["push", kind, version, self.data()]
            case _:
                return [self.choice(("ping", "pong")), *([self.text()] if self.often(0.1) else [])]


def lethal_to_client(draw: Hostile) -> Shape:
    """What ends a client for good."""
    return ["goodbye", draw.choice(LETHAL_CODES), "the end", 0.0]
