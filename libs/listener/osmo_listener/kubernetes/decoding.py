"""What becomes of the API server's bytes in any encoding: pages, events and errors."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, NamedTuple, NoReturn

import msgspec

from osmo_listener.errors import MalformedError, status_error
from osmo_listener.informer.source import Event, EventType, T
from osmo_listener.kubernetes.framing import Framer, Pieces
from osmo_transport.message import MAX_REVISION

CHANGES = {each.value: each for each in EventType if each is not EventType.BOOKMARK}
"""The types of events that hold an object."""

ERROR = "ERROR"
"""The type of an event that holds a `Status`."""

_MOST_DIGITS = 20
"""Of a version: `MAX_REVISION` has fewer."""


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
    odd: Sequence["Odd"] = ()
    """Objects that cannot be read."""


class Odd(NamedTuple):
    """An object that is there and cannot be read, for what it is alone."""

    key: str
    """`namespace/name`, or the name of an object that has no namespace."""
    why: str


class OddObjectError(MalformedError):
    """An event's object cannot be read; the watch can go on after its version."""

    def __init__(self, odd: Odd, change: EventType, version: int) -> None:
        super().__init__(f"the API server sent {odd.key}, which cannot be read: {odd.why}")
        self.odd = odd
        self.type = change
        self.version = version


class PageReader(Pieces, ABC, Generic[T]):
    """Reads one page of a list, whose pieces begin and end anywhere."""

    more = ""
    """What to ask for the next page with: an API server says it before the objects. Empty where it
    is not there yet, or is to be decoded first."""

    @abstractmethod
    def feed(self, piece: bytes) -> None:
        """Read on. Raises as `page`."""

    @abstractmethod
    def page(self) -> ListPage[T]:
        """The page; nothing follows.

        Raises:
            MalformedError: it is none, or holds an object that has no name or no version.
        """


class Decoder(ABC, Generic[T]):
    """Decodes the lists and events of objects of one type, and transforms each object."""

    @abstractmethod
    def page_reader(self) -> "PageReader[T]":
        """Reads one page of a list as it arrives."""

    def page(self, body: bytes) -> ListPage[T]:
        """A page of a list.

        Raises:
            MalformedError: it is none, or holds an object that has no name or no version.
        """
        reader = self.page_reader()
        reader.feed(body)
        return reader.page()

    @abstractmethod
    def framer(self) -> Framer:
        """Takes the events out of the stream of a watch."""

    @abstractmethod
    def event(self, frame: bytes) -> Event[T]:
        """An event of a watch.

        Raises:
            StatusError: it is an ERROR event.
            OddObjectError: its object cannot be read, but for its name and its version.
            MalformedError: it is no event, its type is unknown, or its object has no name.
        """


def message_of(object_type: type[T]) -> str | None:
    """The protobuf message that an object is, by its name in `kubernetes.proto`: what the class
    attribute `PROTOBUF_MESSAGE` of its struct says. None: it is to be had in JSON alone."""
    message: str | None = getattr(object_type, "PROTOBUF_MESSAGE", None)
    return message


def raise_status(status: Status) -> NoReturn:
    """Raise the error that an ERROR event is."""
    raise status_error(
        status.code,
        status.message,
        reason=status.reason,
        retry_after=status.details.retry_after_seconds,
    )


def unreadable(what: str, cause: object) -> MalformedError:
    """The error of a list, an event or an object that cannot be read."""
    return MalformedError(f"the API server sent {what} that cannot be read: {cause}")


def unknown_type(name: str) -> MalformedError:
    """The error of an event whose type nobody knows."""
    return MalformedError(f"the API server sent an event of the unknown type {name!r}")


def with_versions(objects: list[T]) -> list[T]:
    """The same objects.

    Raises:
        MalformedError: one of them has no version, and so cannot be compared with what is known.
    """
    for item in objects:
        to_version(item.metadata.resource_version)
    return objects


def to_version(text: object) -> int:
    """A resource version as a number, as which Kubernetes promises it to be comparable.

    Raises:
        MalformedError: it is no number, or is larger than any that an API server makes.
    """
    if not (isinstance(text, str) and text.isascii() and text.isdecimal()):
        raise MalformedError(f"the API server sent the resource version {text!r}: no number")
    # Python makes no number of very many digits.
    version = int(text[:_MOST_DIGITS])
    if len(text) > _MOST_DIGITS or version > MAX_REVISION:
        raise MalformedError(
            f"the API server sent the resource version {text[:_MOST_DIGITS]}…: too large"
        )
    return version
