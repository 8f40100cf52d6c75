"""Kubernetes' protobuf, made of what JSON would hold."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from google.protobuf.message import Message

from osmo_listener.kubernetes.answers import PROTOBUF
from osmo_listener.kubernetes.protobuf_reader import MAGIC
from osmo_protos import kubernetes_pb2 as pb

PodJson = Mapping[str, Any]

HEADER = f"Content-Type: {PROTOBUF}\r\n"
CHUNKED = f"HTTP/1.1 200 OK\r\n{HEADER}Transfer-Encoding: chunked\r\n\r\n".encode()


def message_of(kind: type[Message], content: Mapping[str, Any]) -> Any:
    """The message of an object; fields that it does not have are left out."""
    message = kind()
    _fill(message, content)
    return message


def body(message: Message, before: bytes = b"") -> bytes:
    """What a server sends: `before` are fields that nobody knows."""
    return MAGIC + pb.Unknown(raw=before + message.SerializeToString()).SerializeToString()


def pod_list(version: int, pods: Sequence[PodJson], more: str = "") -> bytes:
    """A page of a list of pods."""
    metadata = message_of(pb.ListMeta, {"resourceVersion": str(version), "continue": more})
    content = b"".join(_field(2, message_of(pb.Pod, pod)) for pod in pods)
    return MAGIC + pb.Unknown(raw=_field(1, metadata) + content).SerializeToString()


def event(kind: str, item: Message) -> bytes:
    """An event of a watch, with its length in front."""
    made = pb.WatchEvent(type=kind, object=pb.RawExtension(raw=body(item)))
    return framed(made.SerializeToString())


def pod_event(kind: str, pod: PodJson) -> bytes:
    """An event that holds a pod."""
    return event(kind, message_of(pb.Pod, pod))


def of_line(line: bytes) -> bytes:
    """The event that a line of JSON is."""
    decoded = json.loads(line)
    return pod_event(decoded["type"], decoded["object"])


def status(content: Mapping[str, Any]) -> pb.Status:
    """A `Status`."""
    made: pb.Status = message_of(pb.Status, content)
    return made


def framed(content: bytes) -> bytes:
    """With its length in front."""
    return len(content).to_bytes(4) + content


def _field(number: int, message: Message) -> bytes:
    content = message.SerializeToString()
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _set(message: Any, name: str, value: Any) -> None:
    if isinstance(value, list):
        getattr(message, name).extend(value)
    else:
        setattr(message, name, value)


def _fill(message: Any, content: Mapping[str, Any]) -> None:
    for name, value in content.items():
        field = message.DESCRIPTOR.fields_by_name.get(name)
        if field is None or value is None:
            continue
        target = getattr(message, name)
        if field.type == field.TYPE_BYTES:
            setattr(message, name, value.encode())
        elif field.message_type is None:
            _set(message, name, value)
        elif field.message_type.GetOptions().map_entry:
            for key, entry in value.items():
                if field.message_type.fields_by_name["value"].message_type:
                    target[key].string = str(entry)
                else:
                    target[key] = entry
        elif field.message_type.name in {"Time", "MicroTime"}:
            moment = datetime.fromisoformat(value).astimezone(UTC)
            target.seconds = int(moment.timestamp() // 1)
            target.nanos = moment.microsecond * 1000
        elif field.is_repeated:
            for each in value:
                _fill(target.add(), each)
        else:
            target.SetInParent()
            _fill(target, value)
