"""From the API server's bytes to pages, events and errors.

An object is decoded straight into the struct that its reader wants; everything else in it is
skipped without being built.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple

import msgspec

from osmo_listener.errors import MalformedError, status_error
from osmo_listener.kubernetes.config import unchanged
from osmo_listener.source import Event, EventType, T


class _ListMetadata(msgspec.Struct, rename="camel", gc=False):
    resource_version: str = ""
    more: str = msgspec.field(name="continue", default="")


class _List(msgspec.Struct, Generic[T]):
    metadata: _ListMetadata
    items: list[T] | None = None


class _Event(msgspec.Struct, Generic[T]):
    type: str
    object: T


class _RawEvent(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Bookmark(msgspec.Struct):
    metadata: _ListMetadata


class StatusDetails(msgspec.Struct, frozen=True, rename="camel"):
    """`details` of a `Status`."""

    retry_after_seconds: float | None = None


class Status(msgspec.Struct, frozen=True):
    """What the API server says about an error."""

    message: str = ""
    reason: str = ""
    code: int = 0
    details: StatusDetails = StatusDetails()


class ListPage(NamedTuple, Generic[T]):
    """One page of a list."""

    objects: Sequence[T]
    version: int
    more: str
    """What to ask for the next page with; empty on the last one."""


_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError)
"""What msgspec raises for what is no JSON, has other types, or is no UTF-8."""

_status_decoder = msgspec.json.Decoder(Status)
_raw_event_decoder = msgspec.json.Decoder(_RawEvent)
_bookmark_decoder = msgspec.json.Decoder(_Bookmark)
_CHANGES = {each.value: each for each in EventType if each is not EventType.BOOKMARK}


_CONTINUE = re.compile(rb'"continue":\s*"([A-Za-z0-9+/=_-]+)"')


def next_page(beginning: bytes) -> str:
    """What to ask for the next page with, from the beginning of this one: an API server says it
    before the objects. Empty where it is not there, or is to be decoded first."""
    head, items, _ = beginning.partition(b'"items"')
    found = _CONTINUE.search(head) if items else None
    return found[1].decode() if found else ""


class Decoder(Generic[T]):
    """Decodes the lists and events of objects of one type, and transforms each object."""

    def __init__(self, object_type: type[T], transform: Callable[[T], T] = unchanged) -> None:
        self._transform = transform
        generic_list: Any = _List
        generic_event: Any = _Event
        self._list_decoder = msgspec.json.Decoder(generic_list[object_type])
        self._event_decoder = msgspec.json.Decoder(generic_event[object_type])

    def page(self, body: bytes) -> ListPage[T]:
        """A page of a list.

        Raises:
            MalformedError: it is none, or one of its objects is none.
        """
        try:
            page: _List[T] = self._list_decoder.decode(body)
        except _UNREADABLE as exc:
            raise MalformedError(f"the API server sent a list that cannot be read: {exc}") from exc
        objects = [*map(self._transform, page.items or ())]
        return ListPage(objects, to_version(page.metadata.resource_version), page.metadata.more)

    def event(self, line: bytes) -> Event[T]:
        """An event of a watch.

        Raises:
            StatusError: it is an ERROR event.
            MalformedError: it is no event, its type is unknown, or its object is none.
        """
        try:
            event: _Event[T] = self._event_decoder.decode(line)
        except _UNREADABLE as exc:
            return self._without_object(line, exc)
        change = _CHANGES.get(event.type)
        if change is None:
            return self._without_object(line, None)
        version = to_version(event.object.metadata.resource_version)
        return Event(change, version, self._transform(event.object))

    def _without_object(self, line: bytes, cause: Exception | None) -> Event[T]:
        """A bookmark's object has fields of the wrong type, and an error's is a `Status`."""
        try:
            event = _raw_event_decoder.decode(line)
            if event.type == EventType.BOOKMARK.value:
                bookmark = _bookmark_decoder.decode(event.object)
                return Event(EventType.BOOKMARK, to_version(bookmark.metadata.resource_version))
        except _UNREADABLE as exc:
            raise MalformedError(
                f"the API server sent an event that cannot be read: {exc}"
            ) from exc
        if event.type == "ERROR":
            status = decode_status(event.object)
            after = status.details.retry_after_seconds
            raise status_error(status.code, status.message, reason=status.reason, retry_after=after)
        if event.type in _CHANGES:
            raise MalformedError(
                f"the API server sent an object that cannot be read: {cause}"
            ) from cause
        raise MalformedError(f"the API server sent an event of the unknown type {event.type!r}")


def decode_status(body: bytes | msgspec.Raw) -> Status:
    """The `Status` in the body of an error; an empty one where there is none."""
    try:
        return _status_decoder.decode(body)
    except _UNREADABLE:
        return Status()


def to_version(text: str) -> int:
    """A resource version as a number, as which Kubernetes promises it to be comparable.

    Raises:
        MalformedError: it is no number.
    """
    if not (text.isascii() and text.isdecimal()):
        raise MalformedError(f"the API server sent the resource version {text!r}: no number")
    return int(text)
