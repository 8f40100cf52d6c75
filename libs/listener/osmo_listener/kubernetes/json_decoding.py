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

_status_decoder = msgspec.json.Decoder(Status)
_raw_event_decoder = msgspec.json.Decoder(_RawEvent)
_bookmark_decoder = msgspec.json.Decoder(_Bookmark)
_raw_list_decoder = msgspec.json.Decoder(_RawList)
_identity_decoder = msgspec.json.Decoder(_Identified)

_CONTINUE = re.compile(rb'"continue":\s*"([A-Za-z0-9+/=_-]+)"')


class JsonDecoder(Decoder[T]):
    """Decodes JSON straight into `object_type`."""

    def __init__(self, object_type: type[T], transform: Callable[[T], T] = unchanged) -> None:
        self._type = object_type
        self._transform = transform
        generic_list: Any = _List
        generic_event: Any = _Event
        self._list_decoder = msgspec.json.Decoder(generic_list[object_type], dec_hook=_made)
        self._event_decoder = msgspec.json.Decoder(generic_event[object_type], dec_hook=_made)

    def page_reader(self) -> "JsonPageReader[T]":
        return JsonPageReader(self)

    def page(self, body: bytes) -> ListPage[T]:
        try:
            page: _List[T] = self._list_decoder.decode(body)
            objects = with_versions([*map(self._transform, page.items or ())])
        except (*_UNREADABLE, MalformedError):
            return self._one_by_one(body)
        return ListPage(objects, to_version(page.metadata.resource_version), page.metadata.more)

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
            except (*_UNREADABLE, MalformedError) as exc:
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
    """Reads the page when it is whole: msgspec takes no part of it."""

    def __init__(self, decoder: JsonDecoder[T]) -> None:
        super().__init__()
        self._decoder = decoder

    def feed(self, piece: bytes) -> None:
        if not self.size:
            head, items, _ = piece.partition(b'"items"')
            found = _CONTINUE.search(head) if items else None
            self.more = found[1].decode() if found else ""
        self._hold(piece)

    def page(self) -> ListPage[T]:
        return self._decoder.page(self._take())


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
