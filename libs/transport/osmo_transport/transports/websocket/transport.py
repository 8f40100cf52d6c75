"""Dialling and listening at `ws://` and `wss://`, over either engine."""

import asyncio
import logging
import ssl
import sys
from collections.abc import Callable
from typing import Protocol
from urllib.parse import SplitResult

from osmo_transport.errors import ConnectionLostError, HandshakeError, TransportError
from osmo_transport.transports import refusals, sockets, urls
from osmo_transport.transports.abc import (
    Accept,
    Connection,
    ConnectionConfig,
    Endpoint,
    FrameSink,
    Transport,
)
from osmo_transport.transports.door import Door, SocketEndpoint, Visit
from osmo_transport.transports.sockets import Connections
from osmo_transport.transports.tls import ClientContext, ServerContext
from osmo_transport.transports.websocket.handshake import PATH

_log = logging.getLogger(__name__)


class Engine(Protocol):
    """What moves frames: a module."""

    async def dial(
        self, url: str, context: ssl.SSLContext | None, sink: FrameSink, config: ConnectionConfig
    ) -> Connection:
        """See `over_websockets.dial`."""

    def accepting(
        self, accept: Accept, config: ConnectionConfig, connections: Connections
    ) -> Callable[[Visit], asyncio.BaseProtocol]:
        """See `over_websockets.accepting`."""


class WebSocketTransport(Transport):
    """The transport of `ws://` and `wss://`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def check(self, url: str) -> None:
        urls.address(urls.parsed(url, path=True))

    async def dial(self, url: str, sink: FrameSink, config: ConnectionConfig) -> Connection:
        self.check(url)
        target = _target(url)
        context = ClientContext.of(config.tls) if target.scheme == "wss" else None
        try:
            async with asyncio.timeout(config.open_timeout):
                return await self._engine.dial(target.geturl(), context, sink, config)
        except (OSError, ConnectionLostError, RuntimeError) as exc:
            if (found := refusals.found(context)) is not None:
                raise refusals.named(url, found) from exc
            if isinstance(exc, TimeoutError):
                raise sockets.late_error(url, config.open_timeout) from exc
            if isinstance(exc, OSError):
                raise sockets.connect_error(url, exc) from exc
            # uvloop says with a RuntimeError that a socket is gone.
            raise HandshakeError(f"cannot connect to {url}: {exc}") from exc

    async def why(
        self, url: str, error: HandshakeError, config: ConnectionConfig
    ) -> TransportError:
        # Who gets through has no use for it.
        from osmo_transport.transports import strangers  # noqa: PLC0415

        target = _target(url)
        context = ClientContext.of(config.tls) if target.scheme == "wss" else None
        place = (*urls.address(target), target.path)
        return await strangers.why(url, place, context, strangers.Kind.WEBSOCKET, error)

    async def listen(self, url: str, accept: Accept, config: ConnectionConfig) -> Endpoint:
        parts = urls.parsed(url)
        host, port = urls.address(parts)
        context = ServerContext.of(config.tls) if parts.scheme == "wss" else None
        connections = Connections(config.max_connections)

        make = self._engine.accepting(accept, config, connections)
        try:
            listening = await sockets.listen(host, port)
        except OSError as exc:
            raise sockets.bind_error(url, exc) from exc
        door = Door(make, context, config.open_timeout)
        return SocketEndpoint(sockets.url_of(parts, listening[0]), listening, door, connections)


def _target(url: str) -> SplitResult:
    """The URL with the path that is meant."""
    parts = urls.parsed(url, path=True)
    return parts if parts.path.strip("/") else parts._replace(path=PATH)


FULL_BUFFERS_ARE_TOLD = not any(
    first <= sys.version_info < mended
    for first, mended in (((3, 12), (3, 12, 9)), ((3, 13), (3, 13, 2)))
)
"""Whether asyncio says that a write buffer is full however it is written to. Not so on a Python
with CVE-2024-12254: what is written as picows writes it grows there without bound."""


def open_transport() -> Transport:
    """The transport of `ws://` and `wss://`: over picows where it is installed and bounded, else
    over websockets."""
    if FULL_BUFFERS_ARE_TOLD and (engine := _picows()) is not None:
        return WebSocketTransport(engine)
    from osmo_transport.transports.websocket import over_websockets  # noqa: PLC0415

    return WebSocketTransport(over_websockets)


def _picows() -> Engine | None:
    try:
        from osmo_transport.transports.websocket import over_picows  # noqa: PLC0415

        if over_picows.fits():
            return over_picows
    except ImportError as exc:
        name = exc.name or ""
        if name == "picows":
            return None
        if not name.startswith("picows."):
            raise
    _log.warning("this version of picows is not known here: WebSockets go on without it")
    return None
