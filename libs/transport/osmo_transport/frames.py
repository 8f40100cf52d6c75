"""What the two ends of a connection say to each other.

A client (a listener's side) opens with `Hello` and sends `Batch`; a server (the operator's side)
answers with `Welcome`, then `Ack`, `Reject` and `Push`. Both send `Ping`, answer with `Pong`, and
part with `Goodbye`. Frames are msgpack arrays `[tag, field, …]`; a newer peer may append fields.
"""

from dataclasses import astuple, dataclass
from enum import Enum

import msgspec

from osmo_transport.bodies import Registration
from osmo_transport.errors import PeerError
from osmo_transport.message import Message

PROTOCOL = 1
"""Rises when an old peer could misread a frame; peers of different numbers part at once."""


class GoodbyeCode(Enum):
    """Why a connection ends, and so what the other side should do."""

    CLOSING = "closing"
    """The sender stops or drains: connect again, elsewhere if possible."""
    UNAVAILABLE = "unavailable"
    """The server cannot store anything now: connect again later."""
    RESYNC = "resync"
    """The queue lost its memory: connect again at once, to be given a new epoch."""
    REPLACED = "replaced"
    """A newer connection of the same listener is in use; only the older one ends."""
    FENCED = "fenced"
    """A newer listener took over: stop."""
    PROTOCOL = "protocol"
    """The receiver of this frame broke the protocol; the reason says how."""
    REFUSED = "refused"
    """The two sides cannot work together: stop, and mend what the reason names."""


class _Frame(msgspec.Struct, frozen=True, array_like=True, tag=str.lower, gc=False):
    pass


@dataclass(frozen=True)
class Limits:
    """What one side can take; of two sides' limits the smaller holds."""

    window_messages: int = 10_000
    """Messages sent and not yet acknowledged: twice what a fast link carries in 20 ms, the study's
    round trip to a loaded operator."""
    window_bytes: int = 16 * 1024 * 1024
    """Their bytes: what the operator may have to hold for one listener."""
    message_bytes: int = 1024 * 1024
    """Bytes of one message: a report leaves out most of its object, and no object of the API server
    is larger than 1.5 MiB."""
    batch_bytes: int = 256 * 1024
    """Bytes of one batch, a single larger message aside: short enough that an acknowledgement is
    never far behind."""

    def agreed(self, other: "Limits") -> "Limits":
        """The smaller of each."""
        return Limits(*map(min, astuple(self), astuple(other)))

    @property
    def usable(self) -> bool:
        """Whether anything at all can be sent under these limits."""
        return all(limit >= 1 for limit in astuple(self))

    @property
    def frame_bytes(self) -> int:
        """The largest encoded frame of a peer that keeps these limits: a batch and the message that
        overshoots it, twice, because base64 in JSON and the names and trace context of many small
        messages take more than `Message.size` counts."""
        return 2 * (self.batch_bytes + self.message_bytes) + 4096


class Hello(_Frame, frozen=True):
    """The client's first frame: who it is, and what it knows of its place in the queue."""

    protocol: int
    backend: str
    source: str
    listener: str
    """Identity of this process: tells a reconnect from a second listener."""
    queue_epoch: str
    """As the last welcome had it."""
    epoch: int
    """0: just started, give me one."""
    sequence: int
    """The last acknowledged sequence number of `epoch`."""
    limits: Limits
    registration: Registration | None = None
    """Which cluster it is; None: it does not tell."""


class Welcome(_Frame, frozen=True):
    """The server's answer. An epoch other than the client's means: number anew from 1, and report
    everything again (a snapshot)."""

    queue_epoch: str
    epoch: int
    sequence: int
    """The last stored sequence number of `epoch`."""
    limits: Limits


class Batch(_Frame, frozen=True):
    """Messages with the sequence numbers `first`, `first + 1`, …"""

    first: int
    messages: tuple[Message, ...]


class Ack(_Frame, frozen=True):
    """Every message up to `sequence` is stored or was rejected."""

    sequence: int


class Reject(_Frame, frozen=True):
    """The message `sequence` will never be stored; sending it again does not help."""

    sequence: int
    reason: str


class Push(_Frame, frozen=True):
    """What the operator wants the listeners of a backend to know, such as the rules by which nodes
    are available. Comes with every welcome and whenever it changes."""

    kind: str
    version: int
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


Frame = Hello | Welcome | Batch | Ack | Reject | Push | Ping | Pong | Goodbye


class Codec:
    """Frames to bytes and back, in msgpack, or in JSON for people and other languages."""

    def __init__(self, module: "type[_Msgpack] | type[_Json]") -> None:
        self.encode = module.encoder.encode
        """The bytes of a frame."""
        self._decode = module.decoder.decode

    def decode(self, data: bytes | memoryview) -> Frame:
        """The frame of some bytes.

        Raises:
            PeerError: they are not a frame.
        """
        try:
            frame: Frame = self._decode(data)
            return frame
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
            raise PeerError(f"not a frame of this protocol: {exc}") from exc


class _Msgpack:
    encoder = msgspec.msgpack.Encoder()
    decoder = msgspec.msgpack.Decoder(Frame)


class _Json:
    encoder = msgspec.json.Encoder()
    decoder = msgspec.json.Decoder(Frame)


MSGPACK = Codec(_Msgpack)
JSON = Codec(_Json)
