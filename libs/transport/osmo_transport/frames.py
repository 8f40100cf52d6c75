"""What the two ends of a connection say to each other.

A client opens with `Hello`, and sends `Batch`, and `Credential` when it has a newer one; a server
answers with `Welcome`, then `Stored`, `Refused` and `Push`. Before the welcome may come `Occupied`.
Both send `Ping`, answer with `Pong`, and part with `Goodbye`. Frames are msgpack arrays
`[tag, field, …]`; a newer peer may append fields. The messages of a batch are the bytes that their
sender made: a frame carries them, and nobody on the way encodes them again.
"""

from collections.abc import Callable
from dataclasses import asdict, astuple
from enum import Enum
from functools import cached_property
from typing import Annotated, Any, Protocol

import msgspec

from osmo_transport._text import shown
from osmo_transport.credentials import MAX_TOKEN
from osmo_transport.errors import PeerError, UnreadableError
from osmo_transport.lean import dataclass
from osmo_transport.message import MAX_REVISION, Epoch, Message, Unreadable, read_message

PROTOCOL = 1
"""Rises when an old peer could misread a frame; peers of different numbers part at once."""

HELLO_BYTES = 64 * 1024
"""Bytes that a client may send until its hello is there: the longest names and the longest
introduction fit in, however they are written."""

MAX_INTRODUCTION = 4096
"""Bytes of what a client says of itself in its hello."""

Sequence = Epoch
"""A sequence number has the bounds of an epoch."""
Size = Annotated[int, msgspec.Meta(ge=0, le=MAX_REVISION)]


class GoodbyeCode(Enum):
    """Why a connection ends, and so what the other side should do."""

    CLOSING = "closing"
    """The sender stops or drains: connect again, elsewhere if possible."""
    UNAVAILABLE = "unavailable"
    """The server cannot store anything now: connect again later."""
    RESYNC = "resync"
    """The queue lost its memory: connect again at once, to be given a new epoch."""
    REPLACED = "replaced"
    """A newer connection of the same client is in use; only the older one ends."""
    OVERTAKEN = "overtaken"
    """A newer client took over: connect again, to wait until it has gone."""
    DENIED = "denied"
    """The receiver's credential does not let it report: stop, and mend what the reason names."""
    EXPIRED = "expired"
    """The receiver's credential is over: connect again with a newer one."""
    FENCED = "fenced"
    """A newer client took over: stop."""
    PROTOCOL = "protocol"
    """The receiver of this frame broke the protocol; the reason says how."""
    REFUSED = "refused"
    """The two sides cannot work together: stop, and mend what the reason names."""


class _Frame(msgspec.Struct, frozen=True, array_like=True, tag=str.lower, gc=False):
    pass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one side can take; of two sides' limits the smaller holds. Bytes are those that travel:
    of messages as they were encoded."""

    window_messages: Size = 10_000
    """Messages sent and not yet acknowledged: twice what a fast link carries in 20 ms, a round trip
    to a loaded server."""
    window_bytes: Size = 16 * 1024 * 1024
    """Their bytes: what the server may have to hold for one client."""
    message_bytes: Size = 1024 * 1024
    """Bytes of one message: large enough for a report of anything that a person wrote."""
    batch_bytes: Size = 256 * 1024
    """Bytes of one batch, a single larger message aside: short enough that an acknowledgement is
    never far behind."""

    def agreed(self, other: "Limits") -> "Limits":
        """The smaller of each."""
        theirs = asdict(other)
        return Limits(**{name: min(size, theirs[name]) for name, size in asdict(self).items()})

    @property
    def usable(self) -> bool:
        """Whether anything at all can be sent under these limits."""
        return all(limit >= 1 for limit in astuple(self))

    @property
    def frame_bytes(self) -> int:
        """The largest encoded frame of a peer that keeps these limits: a batch and the message that
        overshoots it, twice, because JSON needs base64 and the lengths of many small messages take
        room too."""
        return 2 * self.push_bytes + 4096

    @property
    def push_bytes(self) -> int:
        """The largest payload that whoever has these limits can be told."""
        return self.batch_bytes + self.message_bytes


class Hello(_Frame, frozen=True):
    """The client's first frame: who it is, and what it knows of its place in the queue."""

    protocol: Size
    backend: str
    source: str
    instance: str
    """Identity of this process: tells a reconnect from a second client."""
    queue_epoch: str
    """As the last welcome had it."""
    epoch: Epoch
    """0: just started, give me one."""
    sequence: Sequence
    """The last acknowledged sequence number of `epoch`."""
    limits: Limits
    introduction: Annotated[bytes, msgspec.Meta(max_length=MAX_INTRODUCTION)] = b""
    """What it says of itself, for whoever lets it in."""
    takes_over: bool = False
    """Whether it takes the place of a process that reports as the same producer, instead of waiting
    until that has gone."""


class Occupied(_Frame, frozen=True):
    """Another process reports as the same producer. Wait: the welcome comes when that has gone."""

    instance: str
    """As it said in its hello."""
    address: str
    """Where it is, as its server saw it."""
    since: float
    """When it was let in, in seconds since the Unix epoch."""


class Welcome(_Frame, frozen=True):
    """The server's answer. An epoch other than the client's means: number anew from 1, and report
    everything again (a snapshot)."""

    queue_epoch: str
    epoch: Epoch
    sequence: Sequence
    """The last stored sequence number of `epoch`."""
    limits: Limits


class Batch(_Frame, frozen=True):
    """Encoded messages with the sequence numbers `first`, `first + 1`, … An empty one takes up its
    number and nothing else."""

    first: Sequence
    messages: tuple[bytes, ...]


class Credential(_Frame, frozen=True):
    """The client's newer token, before the one with which it connected is over: it goes on with
    this one. Only for a server that asks for credentials."""

    token: Annotated[str, msgspec.Meta(max_length=MAX_TOKEN)]

    def __repr__(self) -> str:
        return "Credential()"


class Stored(_Frame, frozen=True):
    """Every message up to `sequence` is stored or was refused."""

    sequence: Sequence


class Refused(_Frame, frozen=True):
    """The message `sequence` will never be stored; sending it again does not help."""

    sequence: Sequence
    reason: str


class Push(_Frame, frozen=True):
    """What the server wants the clients of a backend to know. Comes with every welcome and whenever
    it changes."""

    kind: str
    version: Size
    """Rises with each change of what is told under `kind`; a lower one is out of date."""
    payload: bytes


class Ping(_Frame, frozen=True):
    """Are you there? An application's own, as some load balancers do not count a transport's."""


class Pong(_Frame, frozen=True):
    """The answer to `Ping`."""


class Goodbye(_Frame, frozen=True):
    """The last frame of its sender."""

    code: GoodbyeCode
    reason: str
    retry_after: float = 0.0
    """Seconds that the receiver should wait at least before it connects again."""


_Alike = Hello | Occupied | Welcome | Credential | Stored | Refused | Push | Ping | Pong | Goodbye
"""Those that every encoding spells alike."""

Frame = _Alike | Batch


Bytes = bytes | bytearray | memoryview


class Codec(Protocol):
    """Frames to bytes and back."""

    def encode(self, frame: Frame) -> bytes:
        """The bytes of a frame."""

    def decode(self, data: Bytes) -> Frame:
        """The frame of some bytes.

        Raises:
            PeerError: they are not a frame.
        """


def not_a_frame(exc: Exception) -> PeerError:
    """The error of bytes that a codec could not decode."""
    return PeerError(f"not a frame of this protocol: {shown(str(exc))}")


class _Msgpack:
    """For programs: a message is a byte string in the frame."""

    def __init__(self) -> None:
        self.encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(Frame).decode

    def decode(self, data: Bytes) -> Frame:
        try:
            frame: Frame = self._decode(data)
        except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
            raise not_a_frame(exc) from exc
        return frame


class _JsonBatch(_Frame, frozen=True, tag="batch"):
    first: Sequence
    messages: tuple[msgspec.Raw, ...]


class _Json:
    """For people and other languages: a message is an array in the frame, with its payload in
    base64."""

    _encode = msgspec.json.Encoder().encode
    _encode_message = msgspec.msgpack.Encoder().encode

    # Made when somebody first speaks it.

    @cached_property
    def _decode(self) -> Callable[[Bytes], Any]:
        return msgspec.json.Decoder(_Alike | _JsonBatch).decode

    @cached_property
    def _decode_message(self) -> Callable[[msgspec.Raw], Message]:
        return msgspec.json.Decoder(Message).decode

    def encode(self, frame: Frame) -> bytes:
        return self._encode(self._spelt(frame) if type(frame) is Batch else frame)

    def decode(self, data: Bytes) -> Frame:
        try:
            frame: Any = self._decode(data)
        except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
            raise not_a_frame(exc) from exc
        if type(frame) is _JsonBatch:
            frame = Batch(frame.first, tuple(map(self._packed, frame.messages)))
        result: Frame = frame
        return result

    def _packed(self, text: msgspec.Raw) -> bytes:
        if bytes(text) == b"null":
            return b""
        try:
            return self._encode_message(self._decode_message(text))
        except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as exc:
            return Unreadable(str(exc).encode(errors="backslashreplace"))

    def _spelt(self, batch: Batch) -> _JsonBatch:
        return _JsonBatch(batch.first, tuple(map(self._text, batch.messages)))

    def _text(self, data: bytes) -> msgspec.Raw:
        try:
            return msgspec.Raw(self._encode(read_message(data)))
        except UnreadableError:
            return msgspec.Raw(b"null")


MSGPACK: Codec = _Msgpack()
JSON: Codec = _Json()
