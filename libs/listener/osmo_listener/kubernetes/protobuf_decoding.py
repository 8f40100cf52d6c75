"""Kubernetes' protobuf: lists, and watches of events with their lengths.

An API server encodes it two to four times as fast as JSON, which for a large list is most of the
time. What is read of an object is in `protos/osmo_protos/kubernetes.proto`.

There are two readers, which give the same: `protobuf_structs` builds a message by the protobuf
library and copies what the struct has; `protobuf_reader` reads it straight into the struct.
Compiled, the second one takes a quarter of the first one's time, and a start does without the
library; interpreted it takes three times as long. So it reads where it is compiled, and leaves to
the library what an API server does not send.
"""

from collections.abc import Callable
from functools import cached_property
from typing import TypeVar

import msgspec

from osmo_listener.errors import MalformedError
from osmo_listener.informer.source import Event, EventType, T
from osmo_listener.kubernetes import protobuf_reader
from osmo_listener.kubernetes.config import unchanged
from osmo_listener.kubernetes.decoding import (
    CHANGES,
    ERROR,
    Decoder,
    ListPage,
    Odd,
    OddObjectError,
    PageReader,
    Status,
    message_of,
    raise_status,
    to_version,
    unknown_type,
    unreadable,
)
from osmo_listener.kubernetes.framing import LengthFramer
from osmo_listener.kubernetes.protobuf_reader import (
    UnusualError,
    content,
    fields,
    read,
    watch_event,
    whole,
)

COMPILED = not protobuf_reader.__file__.endswith(".py")
"""Whether our own reader is compiled, and so the faster one."""

_UNREADABLE = (ValueError, OverflowError, OSError)
"""What is raised for what is no protobuf, no UTF-8, or no time that can be written."""

_METADATA, _ITEMS = 1, 2
"""Fields of every list."""


class _ListMeta(msgspec.Struct, rename="camel", gc=False):
    resource_version: str = ""
    more: str = msgspec.field(name="continue", default="")


class _Identity(msgspec.Struct, rename="camel", gc=False):
    """What is needed of an object that cannot be read."""

    name: str = ""
    namespace: str = ""
    resource_version: str = ""


S = TypeVar("S")

_Reader = Callable[[bytes, int, int], S]
"""Reads the message between two places; raises what `_UNREADABLE` names."""


def _reader(struct: type[S], name: str, *, by_table: bool) -> _Reader[S]:
    """Reads the messages of this name in `kubernetes.proto`, `by_table` or by the library."""
    return _by_table(struct, name) if by_table else _by_library(struct, name)


def _by_table(struct: type[S], name: str) -> _Reader[S]:
    # What the other reader does not need costs its start some milliseconds.
    from osmo_listener.kubernetes.protobuf_tables import table_of  # noqa: PLC0415

    table = table_of(struct, name)
    by_library: _Reader[S] | None = None

    def read_message(data: bytes, begin: int, end: int) -> S:
        nonlocal by_library
        try:
            item: S = read(table, data, begin, end)
        except UnusualError:
            by_library = by_library or _by_library(struct, name)
        else:
            return item
        return by_library(data, begin, end)

    return read_message


def _by_library(struct: type[S], name: str) -> _Reader[S]:
    # Importing it takes some 25 ms.
    from osmo_listener.kubernetes.protobuf_structs import reader_of  # noqa: PLC0415

    return reader_of(struct, name)


class ProtobufDecoder(Decoder[T]):
    """Decodes the message of `object_type` into it.

    Args:
        object_type: a struct that names its message; see `decoding.message_of`.
        transform: see `Resource.transform`.
        by_table: whether our own reader reads what it can.

    Raises:
        MissingExtraError: the library is needed and is not installed; also by what reads.
    """

    def __init__(
        self,
        object_type: type[T],
        transform: Callable[[T], T] = unchanged,
        *,
        by_table: bool = COMPILED,
    ) -> None:
        name = message_of(object_type) or ""
        self.transform = transform
        self.object = _reader(object_type, name, by_table=by_table)
        self.metadata = _reader(_ListMeta, "ListMeta", by_table=by_table)
        self._by_table = by_table

    @cached_property
    def _identity(self) -> _Reader[_Identity]:
        return _reader(_Identity, "ObjectMeta", by_table=self._by_table)

    def page_reader(self) -> "ProtobufPageReader[T]":
        return ProtobufPageReader(self)

    def identified(self, data: bytes, begin: int, end: int, cause: Exception) -> tuple[Odd, str]:
        """What cannot be read, and its version as it is written; raises if it has no name."""
        for number, start, stop in whole(data, begin, end):
            if number == _METADATA:
                meta = self._identity(data, start, stop)
                key = f"{meta.namespace}/{meta.name}" if meta.namespace else meta.name
                if key:
                    return Odd(key, str(cause)), meta.resource_version
        raise unreadable("an object", cause) from cause

    def framer(self) -> LengthFramer:
        return LengthFramer()

    def event(self, frame: bytes) -> Event[T]:
        try:
            kind, begin, end = watch_event(frame)
            begin, end = _content(frame, begin, end)
            change = CHANGES.get(kind)
            if change is None:
                return self._without_change(kind, frame, begin, end)
        except _UNREADABLE as exc:
            raise unreadable("an event", exc) from exc
        try:
            item = self.object(frame, begin, end)
        except _UNREADABLE as exc:
            raise self._odd_event(change, frame, begin, end, exc) from exc
        return Event(change, to_version(item.metadata.resource_version), self.transform(item))

    def _without_change(self, kind: str, frame: bytes, begin: int, end: int) -> Event[T]:
        if kind == ERROR:
            raise_status(_reader(Status, "Status", by_table=self._by_table)(frame, begin, end))
        if kind != EventType.BOOKMARK.value:
            raise unknown_type(kind)
        item = self.object(frame, begin, end)
        return Event(EventType.BOOKMARK, to_version(item.metadata.resource_version))

    def _odd_event(
        self, change: EventType, body: bytes, begin: int, end: int, cause: Exception
    ) -> OddObjectError:
        try:
            odd, version = self.identified(body, begin, end, cause)
        except _UNREADABLE as exc:
            raise unreadable("an object", exc) from exc
        return OddObjectError(odd, change, to_version(version))


class ProtobufPageReader(PageReader[T]):
    """Reads each object as soon as it is whole."""

    def __init__(self, decoder: ProtobufDecoder[T]) -> None:
        super().__init__()
        self._decoder = decoder
        self._metadata = _ListMeta()
        self._objects: list[T] = []
        self._odd: list[Odd] = []
        self._left = -1
        """Bytes of the list that were not read; -1: it has not begun."""
        self._wanted = 0

    def feed(self, piece: bytes) -> None:
        if self._left == 0:
            return  # what follows a list says nothing
        self._hold(piece)
        if self.size >= self._wanted:
            self._read()

    def page(self) -> ListPage[T]:
        self._read()
        if self._left:
            raise unreadable("a list", "it ends within a field")
        version = to_version(self._metadata.resource_version)
        return ListPage(self._objects, version, self._metadata.more, self._odd)

    def _read(self) -> None:
        """Reads what is whole of what is held."""
        data = self._take()
        try:
            begin = 0
            if self._left < 0:
                found = content(data)
                if found is not None:
                    begin, end = found
                    self._left = end - begin
            position = begin
            if self._left > 0:
                position = self._read_fields(data, begin, begin + self._left)
        except _UNREADABLE as exc:
            raise unreadable("a list", exc) from exc
        self._left -= position - begin
        if self._left:
            self._hold(data[position:])
            # Twice as much, or a large object in small pieces would be joined for each of them.
            self._wanted = 2 * self.size

    def _read_fields(self, data: bytes, begin: int, end: int) -> int:
        decoder, transform = self._decoder, self._decoder.transform
        found, position = fields(data, begin, end)
        for number, start, stop in found:
            if number == _ITEMS:
                try:
                    item = decoder.object(data, start, stop)
                    to_version(item.metadata.resource_version)
                    self._objects.append(transform(item))
                except (*_UNREADABLE, MalformedError) as exc:
                    self._odd.append(decoder.identified(data, start, stop, exc)[0])
            elif number == _METADATA:
                self._metadata = decoder.metadata(data, start, stop)
                self.more = self._metadata.more
        return position


def protobuf_status(body: bytes, *, by_table: bool = COMPILED) -> Status:
    """The `Status` in the body of an error; an empty one where there is none."""
    try:
        return _reader(Status, "Status", by_table=by_table)(body, *_content(body, 0, len(body)))
    except _UNREADABLE:
        return Status()


def _content(data: bytes, begin: int, end: int) -> tuple[int, int]:
    """Where the object in a body begins and ends."""
    found = content(data, begin, end)
    if found is None or found[1] > end:
        raise ValueError("it holds no object that is whole")
    return found
