"""Kubernetes' JSON: lists, and watches of one event per line.

An object is decoded straight into the struct that its reader wants; everything else in it is
skipped without being built.
"""

import json
import re
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec

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
    PageReader,
    Status,
    raise_status,
    to_version,
    unknown_type,
    unreadable,
    with_versions,
)
from osmo_listener.kubernetes.depth import TOO_DEEP, shallow
from osmo_listener.kubernetes.framing import LineFramer
from osmo_listener.kubernetes.nulls import without_nulls

_Raw = TypeVar("_Raw")


class _ListMetadata(msgspec.Struct, rename="camel", gc=False):
    resource_version: str = ""
    more: str = msgspec.field(name="continue", default="")


class _List(msgspec.Struct, Generic[T]):
    metadata: _ListMetadata
    items: list[T] | None = None


class _RawList(msgspec.Struct):
    metadata: _ListMetadata
    items: list[msgspec.Raw] | None = None


class _Identity(msgspec.Struct, rename="camel"):
    """What is needed of an object that cannot be read."""

    name: str
    namespace: str = ""
    resource_version: Any = None


class _Identified(msgspec.Struct):
    metadata: _Identity


class _Event(msgspec.Struct, Generic[T]):
    type: str
    object: T


class _RawEvent(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Bookmark(msgspec.Struct):
    metadata: _ListMetadata


_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for what is no JSON, has other types, is no UTF-8, or nests too deeply."""

_ODD = (*_UNREADABLE, MalformedError)
"""What is raised for objects one of which has to be looked at by itself."""

_status_decoder = msgspec.json.Decoder(Status)
_raw_event_decoder = msgspec.json.Decoder(_RawEvent)
_bookmark_decoder = msgspec.json.Decoder(_Bookmark)
_raw_list_decoder = msgspec.json.Decoder(_RawList)
_identity_decoder = msgspec.json.Decoder(_Identified)

_ITEMS = re.compile(rb'"items":\s*\[')
_OPENING = re.compile(rb'\{"[^"\\]*":')
"""What an object begins with: API servers write the fields of all in one order, without a space."""


class JsonDecoder(Decoder[T]):
    """Decodes JSON straight into `object_type`."""

    def __init__(self, object_type: type[T], transform: Callable[[T], T] = unchanged) -> None:
        self._type = object_type
        self._transform = transform
        generic_list: Any = _List
        generic_items: Any = list
        generic_event: Any = _Event
        self._list_decoder = msgspec.json.Decoder(generic_list[object_type], dec_hook=_made)
        self._items_decoder = msgspec.json.Decoder(generic_items[object_type], dec_hook=_made)
        self._event_decoder = msgspec.json.Decoder(generic_event[object_type], dec_hook=_made)

    def page_reader(self) -> "JsonPageReader[T]":
        return JsonPageReader(self)

    def page(self, body: bytes) -> ListPage[T]:
        try:
            page: _List[T] = self._list_decoder.decode(body)
            objects = with_versions([*map(self._transform, page.items or ())])
        except _ODD:
            return self._one_by_one(body)
        return ListPage(objects, to_version(page.metadata.resource_version), page.metadata.more)

    def items(self, text: bytes) -> list[T]:
        """The objects of an array. Raises what `_ODD` names if something about them is odd."""
        items: list[T] = self._items_decoder.decode(text)
        return with_versions([*map(self._transform, items)])

    def _one_by_one(self, body: bytes) -> ListPage[T]:
        """A page that holds something odd."""
        try:
            page = _taken_apart(_raw_list_decoder, body)
        except _UNREADABLE as exc:
            raise unreadable("a list", exc) from exc
        objects: list[T] = []
        odd: list[Odd] = []
        for item in page.items or ():
            try:
                objects.append(self._versioned(item))
            except _ODD as exc:
                odd.append(_identified(item, exc)[0])
        version = to_version(page.metadata.resource_version)
        return ListPage(objects, version, page.metadata.more, odd)

    def _versioned(self, item: msgspec.Raw) -> T:
        made = self._object(item)
        to_version(made.metadata.resource_version)
        return self._transform(made)

    def _object(self, item: msgspec.Raw) -> T:
        """An object in which a null may stand for what is not there."""
        if TOO_DEEP in bytes(item):
            raise RecursionError("it nests too deeply")
        content = without_nulls(msgspec.json.decode(item))
        return msgspec.convert(content, self._type, dec_hook=_made)

    def framer(self) -> LineFramer:
        return LineFramer()

    def event(self, frame: bytes) -> Event[T]:
        try:
            event: _Event[T] = self._event_decoder.decode(frame)
        except _UNREADABLE as exc:
            return self._without_object(frame, exc)
        change = CHANGES.get(event.type)
        if change is None:
            return self._without_object(frame, None)
        version = to_version(event.object.metadata.resource_version)
        return Event(change, version, self._transform(event.object))

    def _without_object(self, frame: bytes, cause: Exception | None) -> Event[T]:
        """A bookmark's object has fields of the wrong type, and an error's is a `Status`."""
        try:
            event = _taken_apart(_raw_event_decoder, frame)
            if event.type == EventType.BOOKMARK.value:
                bookmark = _bookmark_decoder.decode(event.object)
                return Event(EventType.BOOKMARK, to_version(bookmark.metadata.resource_version))
        except _UNREADABLE as exc:
            raise unreadable("an event", exc) from exc
        if event.type == ERROR:
            raise_status(json_status(event.object))
        if event.type in CHANGES:
            return self._odd_event(event)
        raise unknown_type(event.type)

    def _odd_event(self, event: _RawEvent) -> Event[T]:
        change = CHANGES[event.type]
        try:
            item = self._object(event.object)
        except _UNREADABLE as exc:
            odd, version = _identified(event.object, exc)
            raise OddObjectError(odd, change, to_version(version)) from exc
        return Event(change, to_version(item.metadata.resource_version), self._transform(item))


class JsonPageReader(PageReader[T]):
    """Decodes the objects of a page as they arrive, though msgspec takes no part of a text: what
    stands before the objects is a list once its brackets are closed, and some objects are one in
    brackets of their own.

    Where an object ends is found as text, by what the next one begins with. Where that was within
    an object, or one of them is odd, msgspec refuses the text, and the rest of the page is decoded
    when all of it is there.
    """

    def __init__(self, decoder: JsonDecoder[T]) -> None:
        super().__init__()
        self._decoder = decoder
        self._head = b""
        """What stands before the bracket of the objects; empty: that is not there yet. From then on
        what is held begins with the bracket, or with what stands there in the text."""
        self._between = b""
        """The end of an object and the beginning of the next one; empty: not known yet."""
        self._objects: list[T] = []
        self._wanted = 0
        """Bytes that are to be held before these are looked at; -1: all of the page."""

    def feed(self, piece: bytes) -> None:
        self._hold(piece)
        if self.size >= self._wanted >= 0:
            self._read()

    def page(self) -> ListPage[T]:
        rest = self._take()
        if self._head:
            rest = b"".join((self._head, b"[", memoryview(rest)[1:]))
        page = self._decoder.page(rest)
        return page._replace(objects=[*self._objects, *page.objects])

    def _read(self) -> None:
        data = bytearray().join(self._held)
        if not self._head:
            self._read_head(data)
        if self._head and not self._between and (found := _OPENING.match(data, 1)):
            self._between = b"}," + found[0]
        if self._wanted >= 0:
            comma = data.rfind(self._between) + 1 if self._between else 0
            # Twice as much, or a large object in small pieces would be joined for each of them.
            self._wanted = 0 if comma else 2 * len(data)
            if comma:
                self._read_objects(data, comma)
        self._held, self.size = [bytes(data)], len(data)

    def _read_head(self, data: bytearray) -> None:
        """Takes it, if it is there."""
        found = _ITEMS.search(data)
        if found is None:
            return
        bracket = found.end() - 1
        head = bytes(data[:bracket])
        try:
            begun = _raw_list_decoder.decode(head + b"[]}")
        except _UNREADABLE:
            begun = None
        if begun is None or begun.items is None:
            self._wanted = -1  # something else is said before the objects, or is called so
            return
        self._head, self.more = head, begun.metadata.more
        del data[:bracket]

    def _read_objects(self, data: bytearray, comma: int) -> None:
        """Takes those before the comma."""
        # A text of their own: what is decoded may refer to it, as msgspec's `Raw` does.
        text = b"".join((b"[", memoryview(data)[1:comma], b"]"))
        try:
            self._objects += self._decoder.items(text)
        except _ODD:
            self._wanted = -1
            return
        del data[:comma]


def _made(object_type: type[Any], content: Any) -> Any:
    """What msgspec does not make itself, like a dictionary of a class of its own."""
    return object_type(content)


def _taken_apart(decoder: msgspec.json.Decoder[_Raw], body: bytes) -> _Raw:
    """What `decoder` makes of the body: in UTF-8, where what is none is replaced, as in protobuf,
    and without what nests too deeply."""
    text = body.decode(errors="replace").encode()
    try:
        return decoder.decode(text)
    except RecursionError:
        return decoder.decode(shallow(text))
    except msgspec.DecodeError:
        return decoder.decode(_without_halves(text))


def _without_halves(text: bytes) -> bytes:
    """JSON in which half a surrogate pair, which is no character, is replaced, as Go does it."""
    try:
        content = json.dumps(json.loads(text), ensure_ascii=False)
    except ValueError:
        return text
    return content.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def _identified(item: msgspec.Raw, cause: Exception) -> tuple[Odd, Any]:
    """What it is called and what is wrong with it, and what stands where its version should."""
    try:
        metadata = _identity_decoder.decode(item).metadata
    except _UNREADABLE as exc:
        raise unreadable("an object", cause) from exc
    key = f"{metadata.namespace}/{metadata.name}" if metadata.namespace else metadata.name
    return Odd(key, str(cause)), metadata.resource_version


def json_status(body: bytes | msgspec.Raw) -> Status:
    """The `Status` in the body of an error; an empty one where there is none."""
    try:
        return _status_decoder.decode(body)
    except _UNREADABLE:
        return Status()
