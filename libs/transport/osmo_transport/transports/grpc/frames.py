"""Frames to protobuf and back (`protos/osmo_protos/transport.proto`)."""

from google.protobuf.message import DecodeError

from osmo_protos import transport_pb2 as pb
from osmo_transport.credentials import MAX_TOKEN
from osmo_transport.errors import PeerError
from osmo_transport.frames import (
    MAX_INTRODUCTION,
    Batch,
    Bytes,
    Codec,
    Credential,
    Frame,
    Goodbye,
    GoodbyeCode,
    Hello,
    Limits,
    Occupied,
    Ping,
    Pong,
    Push,
    Refused,
    Stored,
    Welcome,
    not_a_frame,
)
from osmo_transport.message import MAX_EPOCH, MAX_REVISION


class _Protobuf:
    def encode(self, frame: Frame) -> bytes:
        out = pb.Frame()
        match frame:
            case Batch(first, messages):
                out.batch.first = first
                out.batch.messages.extend(messages)
            case Stored(sequence):
                out.stored.sequence = sequence
            case Refused(sequence, reason):
                out.refused.sequence = sequence
                out.refused.reason = reason
            case Push(kind, version, payload):
                out.push.kind = kind
                out.push.version = version
                out.push.payload = payload
            case Ping():
                out.ping.SetInParent()
            case Pong():
                out.pong.SetInParent()
            case Goodbye(code, reason, retry_after):
                out.goodbye.code = code.value
                out.goodbye.reason = reason
                out.goodbye.retry_after = retry_after
            case Hello():
                out.hello.CopyFrom(
                    pb.Hello(
                        protocol=frame.protocol,
                        backend=frame.backend,
                        source=frame.source,
                        instance=frame.instance,
                        queue_epoch=frame.queue_epoch,
                        epoch=frame.epoch,
                        sequence=frame.sequence,
                        limits=_encode_limits(frame.limits),
                        introduction=frame.introduction,
                        takes_over=frame.takes_over,
                    )
                )
            case Credential(token):
                out.credential.token = token
            case Occupied(instance, address, since):
                out.occupied.instance = instance
                out.occupied.address = address
                out.occupied.since = since
            case Welcome(queue_epoch, epoch, sequence, limits):
                out.welcome.CopyFrom(
                    pb.Welcome(
                        queue_epoch=queue_epoch,
                        epoch=epoch,
                        sequence=sequence,
                        limits=_encode_limits(limits),
                    )
                )
        return out.SerializeToString()

    def decode(self, data: Bytes) -> Frame:
        try:
            return _decode_frame(pb.Frame.FromString(bytes(data)))
        except (DecodeError, ValueError) as exc:
            raise not_a_frame(exc) from exc


PROTOBUF: Codec = _Protobuf()


def _decode_frame(message: pb.Frame) -> Frame:
    match message.WhichOneof("frame"):
        case "batch":
            return Batch(_bounded(message.batch.first), tuple(message.batch.messages))
        case "stored":
            return Stored(_bounded(message.stored.sequence))
        case "refused":
            return Refused(_bounded(message.refused.sequence), message.refused.reason)
        case "push":
            push = message.push
            return Push(push.kind, _bounded(push.version, MAX_REVISION), push.payload)
        case "ping" | "pong" as name:
            return Ping() if name == "ping" else Pong()
        case "goodbye":
            goodbye = message.goodbye
            return Goodbye(GoodbyeCode(goodbye.code), goodbye.reason, goodbye.retry_after)
        case _:
            return _decode_opening(message)


def _decode_opening(message: pb.Frame) -> Frame:
    match message.WhichOneof("frame"):
        case "hello":
            hello = message.hello
            if len(hello.introduction) > MAX_INTRODUCTION:
                raise PeerError(f"an introduction of {len(hello.introduction)} bytes")
            return Hello(
                hello.protocol,
                hello.backend,
                hello.source,
                hello.instance,
                hello.queue_epoch,
                _bounded(hello.epoch),
                _bounded(hello.sequence),
                _decode_limits(hello.limits),
                hello.introduction,
                hello.takes_over,
            )
        case "credential":
            token = message.credential.token
            if len(token) > MAX_TOKEN:
                raise PeerError(f"a token of {len(token)} characters")
            return Credential(token)
        case "occupied":
            occupied = message.occupied
            return Occupied(occupied.instance, occupied.address, occupied.since)
        case "welcome":
            welcome = message.welcome
            return Welcome(
                welcome.queue_epoch,
                _bounded(welcome.epoch),
                _bounded(welcome.sequence),
                _decode_limits(welcome.limits),
            )
        case _:
            raise PeerError("a frame of a kind that this version does not know")


def _bounded(number: int, limit: int = MAX_EPOCH) -> int:
    """The number, if every other encoding and store can hold it too."""
    if number > limit:
        raise PeerError(f"the number {number} is out of range")
    return number


def _encode_limits(limits: Limits) -> pb.Limits:
    return pb.Limits(
        window_messages=limits.window_messages,
        window_bytes=limits.window_bytes,
        message_bytes=limits.message_bytes,
        batch_bytes=limits.batch_bytes,
    )


def _decode_limits(limits: pb.Limits) -> Limits:
    return Limits(
        window_messages=_bounded(limits.window_messages, MAX_REVISION),
        window_bytes=_bounded(limits.window_bytes, MAX_REVISION),
        message_bytes=_bounded(limits.message_bytes, MAX_REVISION),
        batch_bytes=_bounded(limits.batch_bytes, MAX_REVISION),
    )
