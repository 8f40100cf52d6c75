"""From a name to an implementation: ours by a table, everybody's by their entry points.

The name of an entry point in the group `osmo_transport.transports` is the URL's scheme, and leads
to a function without arguments that returns a `Transport`; in `osmo_transport.queues` to an async
function of a URL and a `QueueConfig` that returns a `Queue`. A module is imported when its scheme
is first asked for.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from osmo_transport.errors import (
    MissingExtraError,
    TransportError,
    UnknownSchemeError,
    UsageError,
)
from osmo_transport.queues.abc import Queue, QueueConfig
from osmo_transport.transports.abc import Transport

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint, SelectableGroups

DISTRIBUTION = "osmo-pipeline"
"""Which has ours."""


class Group(NamedTuple):
    """Implementations of one thing."""

    name: str
    """Of the entry points that lead to everybody's."""
    ours: Mapping[str, str] = MappingProxyType({})
    """By name `module:attribute`. They are found first, and without a look at what is installed,
    which takes 8 % of the CPU of a program's start."""
    extras: Mapping[str, str] = MappingProxyType({})
    """By name, the extra that brings the libraries of ours."""


_WEBSOCKET = "osmo_transport.transports.websocket.transport:open_transport"
_GRPC = "osmo_transport.transports.grpc.transport:open_transport"
_REDIS = "osmo_transport.queues.redis.queue:open_queue"

TRANSPORTS = Group(
    "osmo_transport.transports",
    {
        "grpc": _GRPC,
        "grpcs": _GRPC,
        "memory": "osmo_transport.transports.memory:open_transport",
        "ws": _WEBSOCKET,
        "wss": _WEBSOCKET,
    },
    {"ws": "websocket", "wss": "websocket", "grpc": "grpc", "grpcs": "grpc"},
)
REDIS_SCHEMES = ("redis", "rediss", "valkey", "valkeys")
QUEUES = Group(
    "osmo_transport.queues",
    {
        "memory": "osmo_transport.queues.memory.queue:open_queue",
        **dict.fromkeys(REDIS_SCHEMES, _REDIS),
    },
    dict.fromkeys(REDIS_SCHEMES, "redis"),
)


def transport_for(url: str) -> Transport:
    """The transport that serves the URL's scheme, for example `memory`, `ws`, `wss`, `grpc`, or
    `grpcs`.

    Raises:
        UnknownSchemeError: no transport serves it.
        UsageError: it is no URL, or the implementation cannot be loaded.
        MissingExtraError: its library is not installed.
    """
    opener = find(TRANSPORTS, url)
    transport: Transport = made(TRANSPORTS, f"{scheme_of(url)}://", opener, Transport)
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
    queue: Queue = await opened(QUEUES, url, Queue, config or QueueConfig())
    return queue


async def opened(group: Group, url: str, kind: type[Any], *settings: object) -> Any:
    """What the implementation in `group` of the URL's scheme, an async function, makes of the URL
    and `settings`: a `kind`.

    Raises:
        UnknownSchemeError, UsageError, MissingExtraError: as `transport_for`.
        TransportError: what the implementation raises.
    """
    opener, shown = find(group, url), f"{scheme_of(url)}://"
    with _fault_is_named(group, shown):
        found = await opener(url, *settings)
    return _checked(group, shown, found, kind)


def made(
    group: Group, name: str, opener: Callable[..., Any], kind: type[Any], *settings: object
) -> Any:
    """What `opener`, to which `name` leads in `group`, makes of `settings`: a `kind`. The name is
    told of what is wrong; that of a scheme ends in `://`.

    Raises:
        UsageError, MissingExtraError: as `transport_for`.
        TransportError: what `opener` raises.
    """
    with _fault_is_named(group, name):
        found = opener(*settings)
    return _checked(group, name, found, kind)


def scheme_of(url: str) -> str:
    """The scheme of a URL; empty if it has none.

    Raises:
        UsageError: it is no URL.
    """
    try:
        return urlsplit(url).scheme
    except ValueError as exc:
        raise UsageError(f"{url!r} is not a valid URL: {exc}") from exc


def schemes(group: Group) -> list[str]:
    """The schemes, or names, that an implementation is installed for, ours first."""
    return list(_all(group))


def implementations(group: Group) -> list[str]:
    """As `schemes`, and of those that lead to the same implementation the first alone."""
    first: dict[str, str] = {}
    for name, value in _all(group).items():
        first.setdefault(value, name)
    return list(first.values())


def find(group: Group, url: str) -> Callable[..., Any]:
    """The implementation in `group` of the URL's scheme.

    Raises:
        UnknownSchemeError, UsageError, MissingExtraError: as `transport_for`.
    """
    scheme = scheme_of(url)
    opener: Callable[..., Any] | None = _loaded(group, scheme, f"{scheme}://")
    if opener is None:
        known = ", ".join(f"{name}://" for name in schemes(group))
        lacks = f"none of the {group.name.partition('.')[2]} serves {scheme!r}"
        raise UnknownSchemeError(
            f"{lacks if scheme else f'{url!r} has no scheme'}: the URL starts with one of {known}"
        )
    return opener


def named(group: Group, name: str) -> Any:
    """The implementation in `group` with this name; None if there is no such.

    Raises:
        MissingExtraError, UsageError: what its name leads to, or needs, is not there.
    """
    return _loaded(group, name, name)


def _loaded(group: Group, name: str, shown: str) -> Any:
    with _fault_is_named(group, shown):
        if (ours := group.ours.get(name)) is not None:
            module, _, attribute = ours.partition(":")
            return getattr(import_module(module), attribute)
        entry = _entry(group, name)
        if entry is None:
            return None
        try:
            return entry.load()
        except AttributeError as exc:
            raise _unusable(group, shown, f"leads nowhere: {exc}") from exc


def _all(group: Group) -> dict[str, str]:
    """By name, what leads to each."""
    found = dict(group.ours)
    for entry in _everybodys(group):
        found.setdefault(entry.name, entry.value)
    return found


@contextmanager
def _fault_is_named(group: Group, shown: str) -> Iterator[None]:
    """Tells of what an implementation lacks, and of what one raises that is not ours; errors of
    this library pass."""
    name = shown.removesuffix("://")
    try:
        yield
    except TransportError:
        raise
    except ModuleNotFoundError as exc:
        missing = (exc.name or "").partition(".")[0]
        if missing == "osmo_transport" and name in group.ours:
            raise
        if name not in group.extras:
            raise UsageError(
                f"{shown} cannot be loaded: {exc}; install what its package needs"
            ) from exc
        raise MissingExtraError(
            f"{shown} needs {missing}, which is not installed:"
            f" pip install '{DISTRIBUTION}[{group.extras[name]}]'"
        ) from exc
    except Exception as exc:
        if name in group.ours:
            raise
        raise _unusable(group, shown, f"raised {type(exc).__name__}: {exc}") from exc


def _checked(group: Group, shown: str, found: object, kind: type[Any]) -> Any:
    if not isinstance(found, kind):
        why = f"returned {type(found).__name__}, which is no {kind.__name__}"
        raise _unusable(group, shown, why)
    return found


def _unusable(group: Group, shown: str, why: str) -> UsageError:
    """The error about what somebody's entry point leads to."""
    entry = _entry(group, shown.removesuffix("://"))
    assert entry is not None
    package = entry.dist.name if entry.dist else "an unknown package"
    return UsageError(f"{shown} cannot be loaded: {entry.value} of {package} {why}")


def _entry(group: Group, name: str) -> "EntryPoint | None":
    return next((each for each in _everybodys(group) if each.name == name), None)


def _everybodys(group: Group) -> "list[EntryPoint]":
    """Those of our distribution first."""
    return sorted(
        _installed().select(group=group.name),
        key=lambda entry: entry.dist is None or entry.dist.name != DISTRIBUTION,
    )


@cache
def _installed() -> "SelectableGroups":
    # Imported when it is needed, because it takes longer than all of this package.
    from importlib.metadata import entry_points  # noqa: PLC0415

    return entry_points()
