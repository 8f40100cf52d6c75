"""From a URL to an implementation, by entry points: ours and everybody's are found alike.

The name of an entry point is the URL's scheme. In the group `osmo_transport.transports` it leads to
a function without arguments that returns a `Transport`, in `osmo_transport.queues` to an async
function of a URL and a `QueueConfig` that returns a `Queue`. A module is imported when its scheme
is first asked for.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from osmo_transport.errors import MissingExtraError, UnknownSchemeError, UsageError
from osmo_transport.queues.abc import Queue, QueueConfig
from osmo_transport.transports.abc import Transport

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

TRANSPORTS = "osmo_transport.transports"
QUEUES = "osmo_transport.queues"

DISTRIBUTION = "osmo-pipeline"
"""Which has ours; it is looked at first, because to look through everything that is installed takes
several times as long."""

EXTRAS = {
    "ws": "websocket",
    "wss": "websocket",
    "grpc": "grpc",
    "grpcs": "grpc",
    "redis": "redis",
    "rediss": "redis",
    "valkey": "redis",
    "valkeys": "redis",
}
"""By a scheme of ours, the extra that brings its libraries."""


def transport_for(url: str) -> Transport:
    """The transport that serves the URL's scheme, for example `memory`, `ws`, `wss`, `grpc`, or
    `grpcs`.

    Raises:
        UnknownSchemeError: no transport serves it.
        UsageError: it is no URL, or the implementation cannot be loaded.
        MissingExtraError: its library is not installed.
    """
    opener = find(TRANSPORTS, url)
    with _missing_is_named(url):
        transport: Transport = opener()
    return transport


async def open_queue(url: str, config: QueueConfig | None = None) -> Queue:
    """The queue at a URL: `memory://` (its own), `memory://NAME` (shared within the process),
    `redis://HOST:PORT/DB`, or of another scheme that is installed.

    Raises:
        UnknownSchemeError: no queue serves the scheme.
        UsageError: the URL or the configuration is wrong.
        MissingExtraError: its library is not installed.
        QueueUnavailableError: the store does not answer.
        QueueRefusedError: the store could lose what it acknowledged; the text says what to change.
    """
    opener = find(QUEUES, url)
    with _missing_is_named(url):
        queue: Queue = await opener(url, config or QueueConfig())
    return queue


def scheme_of(url: str) -> str:
    """The scheme of a URL; empty if it has none.

    Raises:
        UsageError: it is no URL.
    """
    try:
        return urlsplit(url).scheme
    except ValueError as exc:
        raise UsageError(f"{url!r} is not a valid URL: {exc}") from exc


def schemes(group: str) -> list[str]:
    """The schemes that an implementation is installed for, ours first."""
    return list(dict.fromkeys(entry.name for entry in (*_ours(group), *_everybodys(group))))


def implementations(group: str) -> list[str]:
    """As `schemes`, and of those that lead to the same implementation the first alone."""
    first: dict[str, str] = {}
    for entry in (*_ours(group), *_everybodys(group)):
        first.setdefault(entry.value, entry.name)
    return list(dict.fromkeys(first.values()))


def find(group: str, url: str) -> Callable[..., Any]:
    """What an entry point of `group` leads to, that of the URL's scheme.

    Raises:
        UnknownSchemeError, UsageError, MissingExtraError: as `transport_for`.
    """
    scheme = scheme_of(url)
    entry = _entry(group, scheme)
    if entry is None:
        known = ", ".join(f"{name}://" for name in schemes(group))
        lacks = f"none of the {group.partition('.')[2]} serves {scheme!r}"
        raise UnknownSchemeError(
            f"{lacks if scheme else f'{url!r} has no scheme'}: the URL starts with one of {known}"
        )
    opener: Callable[..., Any] = _loaded(entry, f"{scheme}://")
    return opener


def named(group: str, name: str, extras: Mapping[str, str] = EXTRAS) -> Any:
    """What the entry point `name` of `group` leads to; None if there is no such. `extras` has those
    that bring the libraries of ours.

    Raises:
        MissingExtraError, UsageError: what it leads to or needs is not there.
    """
    entry = _entry(group, name)
    return None if entry is None else _loaded(entry, name, extras)


def _entry(group: str, name: str) -> "EntryPoint | None":
    for entries in (_ours, _everybodys):
        for entry in entries(group):
            if entry.name == name:
                return entry
    return None


def _loaded(entry: "EntryPoint", shown: str, extras: Mapping[str, str] = EXTRAS) -> Any:
    with _missing_is_named(shown, extras):
        try:
            return entry.load()
        except AttributeError as exc:
            raise UsageError(
                f"{shown} cannot be loaded: {entry.value} leads nowhere: {exc}"
            ) from exc


@contextmanager
def _missing_is_named(shown: str, extras: Mapping[str, str] = EXTRAS) -> Iterator[None]:
    """Of a URL only its scheme is shown."""
    try:
        yield
    except ModuleNotFoundError as exc:
        scheme, is_url, _ = shown.partition("://")
        shown = f"{scheme}{is_url}"
        missing = (exc.name or "").partition(".")[0]
        if missing == "osmo_transport":
            raise
        if scheme not in extras:
            raise UsageError(
                f"{shown} cannot be loaded: {exc}; install what its package needs"
            ) from exc
        raise MissingExtraError(
            f"{shown} needs {missing}, which is not installed:"
            f" pip install '{DISTRIBUTION}[{extras[scheme]}]'"
        ) from exc


# Imported when it is needed, because it takes longer than all of this package.


def _ours(group: str) -> "list[EntryPoint]":
    from importlib.metadata import PackageNotFoundError, distribution  # noqa: PLC0415

    try:
        return list(distribution(DISTRIBUTION).entry_points.select(group=group))
    except PackageNotFoundError:
        return []


def _everybodys(group: str) -> "list[EntryPoint]":
    from importlib.metadata import entry_points  # noqa: PLC0415

    return list(entry_points(group=group))
