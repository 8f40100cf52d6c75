"""What an informer reads: something that can list objects and watch them change.

`kubernetes.listwatch.ListWatch` is one over HTTP, `testing.FakeSource` one in memory.
"""

from collections.abc import AsyncGenerator, Sequence
from enum import Enum
from typing import Generic, NamedTuple, Protocol, TypeVar


class Metadata(Protocol):
    """What an informer reads of an object's `metadata`."""

    @property
    def name(self) -> str: ...
    @property
    def namespace(self) -> str: ...
    @property
    def uid(self) -> str: ...
    @property
    def resource_version(self) -> str: ...


class KubernetesObject(Protocol):
    """Anything that has `metadata`."""

    @property
    def metadata(self) -> Metadata: ...


T = TypeVar("T", bound=KubernetesObject)


def object_key(item: T) -> str:
    """`namespace/name`, or the name of an object that has no namespace."""
    metadata = item.metadata
    return f"{metadata.namespace}/{metadata.name}" if metadata.namespace else metadata.name


class EventType(Enum):
    """What an event of a watch says."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"
    """Nothing new up to this version."""


class Event(NamedTuple, Generic[T]):
    """One event of a watch."""

    type: EventType
    version: int
    object: T | None = None
    """The object as of `version`, for DELETED its last state; None for a bookmark, and where it
    cannot be read."""
    unread: str = ""
    """`namespace/name` of an object that cannot be read: it is as it was before, or gone."""


class Page(NamedTuple, Generic[T]):
    """A part of a list."""

    objects: Sequence[T]
    version: int | None
    """The version that the whole list shows, on its last page; None before."""
    gone: Sequence[str] = ()
    """`namespace/name` of what earlier pages may have held and went since; `objects` may hold its
    successor."""
    unread: Sequence[str] = ()
    """`namespace/name` of what is there and cannot be read: it is as it was before."""


class Source(Protocol[T]):
    """Lists and watches one resource. Every error is a KubernetesError or a KubeconfigError."""

    @property
    def left_out(self) -> int:
        """How often an object could not be read, and was left out."""

    def list(self) -> AsyncGenerator[Page[T], None]:
        """All objects, page by page, as of one moment that is not earlier than this call.

        Raises:
            ExpiredError: the moment is too long ago for the next page; list again.
        """

    def watch(self, version: int) -> AsyncGenerator[Sequence[Event[T]], None]:
        """The changes after `version`, in their order, in batches as they arrive; ends when the
        server ends the watch, as it does after some minutes.

        Raises:
            ExpiredError: the changes after `version` are no longer known; list again.
        """

    async def position(self) -> int:
        """The version at which the cluster stands now."""

    def forget_credentials(self) -> None:
        """Drop cached credentials: the server refused them."""
