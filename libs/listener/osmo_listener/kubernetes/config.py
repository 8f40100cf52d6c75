"""What to list and watch, and how: apart from the code that does it, which needs an extra."""

from collections.abc import Callable
from enum import Enum
from typing import Generic

from osmo_listener.informer.source import T
from osmo_transport.bounds import Bytes, Count, Seconds
from osmo_transport.lean import dataclass


def unchanged(item: T) -> T:
    """The transform that keeps an object as it was decoded."""
    return item


@dataclass(frozen=True, kw_only=True)
class Resource(Generic[T]):
    """Which objects."""

    path: str
    """Of the list, for example `/api/v1/namespaces/shop/pods` or `/api/v1/nodes`."""
    type: type[T]
    """The struct that an object is decoded into."""
    label_selector: str = ""
    """Evaluated by the server, for example `app=shop`; empty: no selection."""
    field_selector: str = ""
    """Evaluated by the server, for example `spec.nodeName=n1`; empty: no selection."""
    transform: Callable[[T], T] = unchanged
    """What is kept of an object: applied to each one as soon as it is decoded, before a store or a
    handler sees it. It keeps `name`, `namespace`, `uid` and `resource_version`, gives the same for
    equal objects, and never raises."""

    @property
    def namespace(self) -> str | None:
        """The only namespace whose objects are read; None: all, or objects that have none."""
        _, found, rest = self.path.partition("/namespaces/")
        name, inside, _ = rest.partition("/")
        return name if found and inside else None


def resource_path(name: str, namespace: str | None = None) -> str:
    """The path of a resource's list.

    Args:
        name: `GROUP/VERSION/PLURAL`, or `VERSION/PLURAL` in the core API.
        namespace: the only one whose objects are wanted; None: all, or objects that have none.

    Raises:
        ValueError: `name` has another form.
    """
    parts = name.split("/")
    if len(parts) not in {2, 3} or not all(parts):
        raise ValueError(
            f"{name!r} names no resource: it looks like 'apps/v1/deployments', or in the core API"
            " like 'v1/pods'"
        )
    *group, version, plural = parts
    root = f"/apis/{group[0]}/{version}" if group else f"/api/{version}"
    return f"{root}/namespaces/{namespace}/{plural}" if namespace else f"{root}/{plural}"


class ListMode(Enum):
    """How to get all objects."""

    PAGES = "pages"
    """A list in pages: every server has it."""
    STREAM = "stream"
    """A watch that begins with every object (WatchList, Kubernetes 1.32 and later): less memory on
    both sides, more CPU here. A server that refuses it is asked for pages."""


class Encoding(Enum):
    """What to ask the API server for."""

    PROTOBUF = "protobuf"
    """Protobuf where the server has it, else JSON."""
    JSON = "json"
    """JSON alone, for what stands between and must read it."""


@dataclass(frozen=True, kw_only=True)
class ListWatchConfig:
    """How to list and watch; times in seconds."""

    encoding: Encoding = Encoding.PROTOBUF
    """Protobuf by default: an API server encodes a list two to four times as fast."""

    mode: ListMode = ListMode.PAGES
    """Pages by default: as fast to the last object, for a fifth less CPU."""
    first_page_size: Count = 100
    """Objects on the first page: few, so that the first report does not wait for a big page, and
    enough for a small cluster to need no other one."""
    page_size: Count = 500
    """Objects on each further page: larger ones cost memory and save no time."""
    silence: Seconds = 80.0
    """A watch on which nothing arrives for so long is dead: longer than the minute between two
    bookmarks of the API server."""
    watch_time: Seconds = 300.0
    """The server is asked to end a watch after one to two times as long, drawn at random, so that
    watches move to other API servers now and then, and not all at once."""
    max_event_bytes: Bytes = 32 * 1024 * 1024
    """One event of a watch; etcd's own limit for an object is 1.5 MiB by default."""


@dataclass(frozen=True, kw_only=True)
class HttpConfig:
    """Times in seconds, sizes in bytes."""

    connect_timeout: Seconds = 10.0
    """For name, TCP, proxy and TLS together."""
    head_timeout: Seconds = 60.0
    """From the request to the response's head: the API server's own limit for a request."""
    body_timeout: Seconds = 30.0
    """The longest pause within a body that is read whole."""
    max_head_bytes: Bytes = 64 * 1024
    """A response's status line and headers."""
    max_body_bytes: Bytes = 256 * 1024 * 1024
    """A body that is read whole: a page of 500 objects of 500 kB."""
    buffer_bytes: Bytes = 1024 * 1024
    """What is read ahead of the caller; a multiple of the largest TLS read of asyncio."""
    ahead_bytes: Bytes = 16 * 1024 * 1024
    """What is read ahead of the next page of a list: a page of 500 usual pods with all that an API
    server adds to them."""
