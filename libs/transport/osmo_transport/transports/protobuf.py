"""Frames to protobuf and back (`protos/osmo_protos/transport.proto`)."""

from google.protobuf.message import DecodeError

from osmo_protos import transport_pb2 as pb
from osmo_transport.bodies import Registration
from osmo_transport.errors import PeerError
from osmo_transport.frames import (
    Ack,
    Batch,
    Frame,
    Goodbye,
    GoodbyeCode,
    Hello,
    Limits,
    Ping,
    Pong,
    Push,
    Reject,
    Welcome,
)
from osmo_transport.message import Message, Version


def encode(frame: Frame) -> bytes:
    """The bytes of a frame."""
    out = pb.Frame()
    match frame:
        case Batch(first, messages):
            out.batch.first = first
            add = out.batch.messages.add
            for message in messages:
                _fill(add(), message)
        case Ack(sequence):
            out.ack.sequence = sequence
        case Reject(sequence, reason):
            out.reject.sequence = sequence
            out.reject.reason = reason
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
                    listener=frame.listener,
                    queue_epoch=frame.queue_epoch,
                    epoch=frame.epoch,
                    sequence=frame.sequence,
                    limits=_encode_limits(frame.limits),
                    registration=_encode_registration(frame.registration),
                )
            )
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


def decode(data: bytes) -> Frame:
    """The frame of some bytes.

    Raises:
        PeerError: they are not a frame, or one that this version does not know.
    """
    try:
        message = pb.Frame.FromString(data)
        return _decode_frame(message)
    except (DecodeError, ValueError) as exc:
        raise PeerError(f"not a frame of this protocol: {exc}") from exc


def _decode_frame(message: pb.Frame) -> Frame:
    match message.WhichOneof("frame"):
        case "batch":
            batch = message.batch
            return Batch(batch.first, tuple([_decode_message(m) for m in batch.messages]))
        case "ack":
            return Ack(message.ack.sequence)
        case "reject":
            return Reject(message.reject.sequence, message.reject.reason)
        case "push":
            return Push(message.push.kind, message.push.version, message.push.payload)
        case "ping" | "pong" as name:
            return Ping() if name == "ping" else Pong()
        case "hello":
            hello = message.hello
            return Hello(
                hello.protocol,
                hello.backend,
                hello.source,
                hello.listener,
                hello.queue_epoch,
                hello.epoch,
                hello.sequence,
                _decode_limits(hello.limits),
                _decode_registration(hello.registration)
                if hello.HasField("registration")
                else None,
            )
        case "welcome":
            welcome = message.welcome
            return Welcome(
                welcome.queue_epoch,
                welcome.epoch,
                welcome.sequence,
                _decode_limits(welcome.limits),
            )
        case "goodbye":
            goodbye = message.goodbye
            return Goodbye(GoodbyeCode(goodbye.code), goodbye.reason, goodbye.retry_after)
        case _:
            raise PeerError("a frame of a kind that this version does not know")


def _fill(out: pb.Message, message: Message) -> None:
    # Field by field, in place: a constructor with keywords and a copy into the batch take more than
    # twice as long.
    out.id = message.id
    out.kind = message.kind
    out.key = message.key
    out.epoch, out.resource_version = message.version
    out.timestamp = message.timestamp
    out.payload = message.payload
    if message.final:
        out.final = True
    if message.traceparent is not None:
        out.traceparent = message.traceparent


def _decode_message(message: pb.Message) -> Message:
    return Message(
        message.id,
        message.kind,
        message.key,
        Version(message.epoch, message.resource_version),
        message.timestamp,
        message.payload,
        message.final,
        message.traceparent or None,
    )


def _encode_registration(registration: Registration | None) -> pb.Registration | None:
    if registration is None:
        return None
    return pb.Registration(
        cluster_uid=registration.cluster_uid,
        namespace=registration.namespace,
        version=registration.version,
        node_condition_prefix=registration.node_condition_prefix,
    )


def _decode_registration(registration: pb.Registration) -> Registration:
    return Registration(
        registration.cluster_uid,
        registration.namespace,
        registration.version,
        registration.node_condition_prefix,
    )


def _encode_limits(limits: Limits) -> pb.Limits:
    return pb.Limits(
        window_messages=limits.window_messages,
        window_bytes=limits.window_bytes,
        message_bytes=limits.message_bytes,
        batch_bytes=limits.batch_bytes,
    )


def _decode_limits(limits: pb.Limits) -> Limits:
    return Limits(
        limits.window_messages, limits.window_bytes, limits.message_bytes, limits.batch_bytes
    )
