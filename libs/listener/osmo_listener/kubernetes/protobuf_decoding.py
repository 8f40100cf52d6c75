"""Kubernetes' protobuf: lists, and watches of events with their lengths.

An API server encodes it two to four times as fast as JSON, which for a large list is most of the
time. What is read of an object is in `protos/osmo_protos/kubernetes.proto`; objects are taken out
of a list one by one, so that only one of them is ever built whole.
"""

from collections.abc import Callable, Iterator
from typing import Any

from osmo_listener.errors import MalformedError
from osmo_listener.informer.source import Event, EventType, T
from osmo_listener.kubernetes.config import unchanged
from osmo_listener.kubernetes.decoding import (
    CHANGES,
    ERROR,
    Decoder,
    ListPage,
    Odd,
    OddObjectError,
    Status,
    StatusDetails,
    message_of,
    raise_status,
    to_version,
    unknown_type,
    unreadable,
)
from osmo_listener.kubernetes.framing import LengthFramer
from osmo_transport.errors import MissingExtraError

try:
    from google.protobuf.message import DecodeError

    from osmo_listener.kubernetes.protobuf_structs import reader
    from osmo_protos import kubernetes_pb2 as pb
except ImportError as exc:
    raise MissingExtraError(
        "reading Kubernetes' protobuf needs protobuf: pip install 'osmo-pipeline[kubernetes]'"
    ) from exc

MAGIC = b"k8s\0"
"""What every body and every object of an event begins with."""

_UNREADABLE = (DecodeError, ValueError, OverflowError, OSError)
"""What is raised for what is no protobuf, no UTF-8, or no time that can be written."""

_VARINT, _LENGTH_DELIMITED = 0, 2
"""Wire types; lists and wrappers have no others."""
_VARINT_BITS = 64
_METADATA, _ITEMS = 1, 2
"""Fields of every list."""
_RAW = 2
"""Field of `Unknown`."""


class ProtobufDecoder(Decoder[T]):
    """Decodes the message of `object_type` and copies what the struct has.

    Args:
        object_type: a struct that names its message; see `decoding.message_of`.
        transform: see `Resource.transform`.
    """

    def __init__(self, object_type: type[T], transform: Callable[[T], T] = unchanged) -> None:
        message: Any = getattr(pb, message_of(object_type) or "")
        self._transform = transform
        self._parse: Callable[[bytes | memoryview], Any] = message.FromString
        self._read: Callable[[Any], T] = reader(object_type, message.DESCRIPTOR)

    def next_page(self, beginning: bytes) -> str:
        try:
            for number, content in _fields(_content(beginning, cut=True), cut=True):
                if number == _METADATA:
                    return _more(pb.ListMeta.FromString(bytes(content)))
        except _UNREADABLE:
            pass
        return ""

    def page(self, body: bytes) -> ListPage[T]:
        metadata = pb.ListMeta()
        objects: list[T] = []
        odd: list[Odd] = []
        parse, read, transform = self._parse, self._read, self._transform
        try:
            for number, content in _fields(_content(body)):
                if number == _ITEMS:
                    try:
                        item = read(parse(content))
                        to_version(item.metadata.resource_version)
                        objects.append(transform(item))
                    except (*_UNREADABLE, MalformedError) as exc:
                        odd.append(self._identified(content, exc)[0])
                elif number == _METADATA:
                    metadata = pb.ListMeta.FromString(bytes(content))
            version = to_version(metadata.resourceVersion)
            return ListPage(objects, version, _more(metadata), odd)
        except _UNREADABLE as exc:
            raise unreadable("a list", exc) from exc

    def _identified(self, content: memoryview, cause: Exception) -> tuple[Odd, str]:
        """What cannot be read, and its version as it is written; raises if it has no name."""
        for number, part in _fields(content):
            if number == _METADATA:
                meta = self._parse(_field(_METADATA, part)).metadata
                key = f"{meta.namespace}/{meta.name}" if meta.namespace else meta.name
                if key:
                    return Odd(key, str(cause)), meta.resourceVersion
        raise unreadable("an object", cause) from cause

    def framer(self) -> LengthFramer:
        return LengthFramer()

    def event(self, frame: bytes) -> Event[T]:
        try:
            event = pb.WatchEvent.FromString(frame)
            kind, body = event.type, event.object.raw
            if kind == ERROR:
                raise_status(_status(body))
            content = _content(body)
            change = CHANGES.get(kind)
            if kind == EventType.BOOKMARK.value:
                return Event(EventType.BOOKMARK, self._version(self._parse(content)))
            if change is None:
                raise unknown_type(kind)
        except _UNREADABLE as exc:
            raise unreadable("an event", exc) from exc
        try:
            message = self._parse(content)
            return Event(change, self._version(message), self._transform(self._read(message)))
        except _UNREADABLE as exc:
            raise self._odd_event(change, content, exc) from exc

    def _odd_event(
        self, change: EventType, content: memoryview, cause: Exception
    ) -> OddObjectError:
        try:
            odd, version = self._identified(content, cause)
        except _UNREADABLE as exc:
            raise unreadable("an object", exc) from exc
        return OddObjectError(odd, change, to_version(version))

    @staticmethod
    def _version(message: Any) -> int:
        return to_version(message.metadata.resourceVersion)


def protobuf_status(body: bytes) -> Status:
    """The `Status` in the body of an error; an empty one where there is none."""
    try:
        return _status(body)
    except _UNREADABLE:
        return Status()


def _status(body: bytes) -> Status:
    status = pb.Status.FromString(bytes(_content(body)))
    # Not written means zero: no wait is asked for.
    details = StatusDetails(status.details.retryAfterSeconds or None)
    message, reason = (text.decode(errors="replace") for text in (status.message, status.reason))
    return Status(message, reason, status.code, details)


def _more(metadata: pb.ListMeta) -> str:
    more: str = getattr(metadata, "continue")
    return more


def _content(body: bytes, *, cut: bool = False) -> memoryview:
    """The object in a body; see `_fields` for `cut`."""
    if not body.startswith(MAGIC):
        raise ValueError("it does not begin as Kubernetes' protobuf does")
    for number, content in _fields(memoryview(body)[len(MAGIC) :], cut=cut):
        if number == _RAW:
            return content
    raise ValueError("it holds no object")


def _fields(message: memoryview, *, cut: bool = False) -> Iterator[tuple[int, memoryview]]:
    """The fields of a message that have a length, with their numbers. What a message is `cut` in is
    given as far as it is there."""
    position, end = 0, len(message)
    while position < end:
        tag, position = _varint(message, position)
        wire_type = tag & 7
        if wire_type == _LENGTH_DELIMITED:
            length, position = _varint(message, position)
            begin, position = position, position + length
            if position > end and not cut:
                raise ValueError("it ends within a field")
            yield tag >> 3, message[begin:position]
        elif wire_type == _VARINT:
            _, position = _varint(message, position)
        else:
            raise ValueError(f"a field has the wire type {wire_type}")


def _field(number: int, content: memoryview) -> bytes:
    """A message with this field alone."""
    length = bytearray()
    left = len(content)
    while left > 0x7F:
        length.append(left & 0x7F | 0x80)
        left >>= 7
    length.append(left)
    return bytes((number << 3 | _LENGTH_DELIMITED, *length)) + bytes(content)


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """A number, and where it ends."""
    number = 0
    for shift in range(0, _VARINT_BITS, 7):
        if position >= len(message):
            raise ValueError("it ends within a number")
        byte = message[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
    raise ValueError("a number is too long")
