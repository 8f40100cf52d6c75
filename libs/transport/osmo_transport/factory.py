"""From a URL to an implementation: the one place that imports them, when they are first asked for.

A third party adds a transport with an entry point in the group `osmo_transport.transports`, or a
queue in `osmo_transport.queues`: its name is the URL's scheme, its object a function as described
below.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from osmo_transport.errors import MissingExtraError, UnknownSchemeError, UsageError
from osmo_transport.queues.abc import Queue, QueueConfig
from osmo_transport.transports.abc import Transport


class _Source(NamedTuple):
    module: str
    extra: str


_TRANSPORTS = {
    "memory": _Source("osmo_transport.transports.memory", ""),
    "ws": _Source("osmo_transport.transports.websocket", "websocket"),
    "wss": _Source("osmo_transport.transports.websocket", "websocket"),
    "grpc": _Source("osmo_transport.transports.grpc", "grpc"),
    "grpcs": _Source("osmo_transport.transports.grpc", "grpc"),
}
_QUEUES = {
    "memory": _Source("osmo_transport.queues.memory", ""),
    "redis": _Source("osmo_transport.queues.redis", "redis"),
    "rediss": _Source("osmo_transport.queues.redis", "redis"),
}


def transport_for(url: str) -> Transport:
    """The transport that serves the URL's scheme: `memory`, `ws`, `wss`, `grpc`, `grpcs`, or a
    third party's (an entry point that names a function without arguments, returning a `Transport`).

    Raises:
        UnknownSchemeError: no transport serves it.
        UsageError: it is no URL.
        MissingExtraError: its library is not installed.
    """
    opener = _find(url, _TRANSPORTS, "osmo_transport.transports", "open_transport")
    transport: Transport = opener()
    return transport


async def open_queue(url: str, config: QueueConfig | None = None) -> Queue:
    """The queue at a URL: `memory://` (its own), `memory://NAME` (shared within the process),
    `redis://HOST:PORT/DB`, `rediss://…`, or a third party's (an entry point that names an async
    function of the URL and a `QueueConfig`, returning a `Queue`).

    Raises:
        UnknownSchemeError: no queue serves the scheme.
        MissingExtraError: its library is not installed.
        QueueUnavailableError: the store does not answer.
        QueueRefusedError: the store could lose what it acknowledged; the text says what to change.
    """
    opener = _find(url, _QUEUES, "osmo_transport.queues", "open_queue")
    queue: Queue = await opener(url, config or QueueConfig())
    return queue


QueueLayout = Literal["own", "osmo"]
"""How a queue in Redis keeps its messages; osmo: as the operators and workers already deployed do,
together with which ours then work."""


def queue_url(url: str, layout: QueueLayout) -> str:
    """The URL of a queue, in another layout if it is not our own."""
    if layout == "own":
        return url
    return f"{url}{'&' if '?' in url else '?'}layout={layout}"


def _find(url: str, sources: dict[str, _Source], group: str, function: str) -> Callable[..., Any]:
    try:
        scheme = urlsplit(url).scheme
    except ValueError as exc:
        raise UsageError(f"{url!r} is not a valid URL: {exc}") from exc
    source = sources.get(scheme)
    if source is not None:
        try:
            module = import_module(source.module)
        except ModuleNotFoundError as exc:
            if (exc.name or "").startswith("osmo_transport"):
                raise
            raise MissingExtraError(
                f"{scheme}:// needs {exc.name}, which is not installed:"
                f" pip install 'osmo-pipeline[{source.extra}]'"
            ) from exc
        opener: Callable[..., Any] = getattr(module, function)
        return opener
    # Imported here because it costs every start 15 ms, and few URLs need it.
    from importlib.metadata import entry_points  # noqa: PLC0415

    others = entry_points(group=group)
    for entry in others:
        if entry.name == scheme:
            loaded: Callable[..., Any] = entry.load()
            return loaded
    known = ", ".join(f"{name}://" for name in (*sources, *(e.name for e in others)))
    raise UnknownSchemeError(
        f"no implementation for {scheme or url!r}: the URL starts with one of {known}"
    )
