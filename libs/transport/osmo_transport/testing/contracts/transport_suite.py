"""What the tests of the transport contract share: the hooks to override, and words to test with."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from osmo_transport.backoff import BackoffConfig
from osmo_transport.client import Client, ClientConfig, connect
from osmo_transport.errors import TransportError
from osmo_transport.frames import Batch, Frame, Limits
from osmo_transport.message import Message, Version, encode_message, new_message
from osmo_transport.registry import transport_for
from osmo_transport.server import Admit, Renew, Server, ServerConfig, listen
from osmo_transport.session import SessionConfig
from osmo_transport.testing.contracts.suite import AsyncSuite
from osmo_transport.testing.faults import FaultyTransport
from osmo_transport.testing.kinds import EVENT, STATE
from osmo_transport.testing.patience import patience
from osmo_transport.transports.abc import (
    Connection,
    ConnectionConfig,
    Endpoint,
    FrameSink,
    TlsConfig,
    Transport,
)

PATIENCE = 20.0
"""Seconds after which a test no longer expects an answer."""

QUICK = BackoffConfig(base=0.01, maximum=0.05)
"""Tests do not wait between tries."""


async def until(condition: Callable[[], object]) -> None:
    """Return as soon as `condition()` is true; fail when `PATIENCE` is over."""
    __tracebackhide__ = True
    async with patience(PATIENCE):
        while True:
            if condition():
                return
            await asyncio.sleep(0.001)


def report(key: str, size: int = 10, rv: int = 1) -> Message:
    """A report of a `latest` kind."""
    return new_message(STATE, key, b"x" * size, version=Version(0, rv))


def event(key: str, size: int = 10) -> Message:
    """A report of an `every` kind: none is coalesced."""
    return new_message(EVENT, key, b"x" * size)


def batch(first: int, *sizes: int) -> Batch:
    """A batch of so many bytes each; a transport does not look whether they are a message."""
    return Batch(first, tuple(bytes(size) for size in sizes))


def event_of(key: str, size: int) -> Message:
    """A report of an `every` kind that takes `size` bytes when it is encoded."""
    payload = size - len(encode_message(event(key, 0)))
    message = event(key, payload)
    while (over := len(encode_message(message)) - size) > 0:
        payload -= over
        message = event(key, payload)
    return message


class Recorder(FrameSink):
    """A sink that keeps everything, and tells when something happens after the end."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.ends: list[TransportError] = []
        self.resumed = 0
        self.too_late: list[str] = []
        self.on_frame: Callable[[Frame], None] | None = None

    @property
    def ended(self) -> bool:
        """Whether `connection_lost` was called."""
        return bool(self.ends)

    def frame_received(self, frame: Frame) -> None:
        if self.ends:
            self.too_late.append(f"{type(frame).__name__} after the end")
        self.frames.append(frame)
        if self.on_frame is not None:
            self.on_frame(frame)

    def writing_resumed(self) -> None:
        if self.ends:
            self.too_late.append("writing resumed after the end")
        self.resumed += 1

    def connection_lost(self, error: TransportError) -> None:
        if self.ends:
            self.too_late.append("a second end")
        self.ends.append(error)


class Accepted(Recorder):
    """The accepting side of a connection."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self.connection = connection


class TransportSuite(AsyncSuite):
    """Hooks and shorthands of the contract; see `TransportContract`."""

    url = "memory://"
    """Where to listen; must pick a free address each time."""
    server_tls = TlsConfig()
    """The listening side's certificates."""
    client_tls = TlsConfig()
    """The dialling side's certificates."""
    carries_tokens = True
    """Whether what a client presents arrives at the server; without that it is of use where nobody
    asks who a client is."""
    limits = Limits()
    """Bounds of the tests that name no others."""

    def connection_config(
        self, *, tls: TlsConfig, limits: Limits, max_connections: int
    ) -> ConnectionConfig:
        """One side's configuration."""
        return ConnectionConfig(
            limits=limits, tls=tls, open_timeout=PATIENCE, max_connections=max_connections
        )

    @asynccontextmanager
    async def endpoint(
        self,
        accepted: list[Accepted],
        *,
        limits: Limits | None = None,
        max_connections: int = 100,
        opening_bytes: int | None = None,
        greet: Callable[[Accepted], None] | None = None,
    ) -> AsyncIterator[Endpoint]:
        """Listen, and record each connection in `accepted`; `greet` is called within `accept`."""

        def accept(connection: Connection) -> FrameSink:
            sink = Accepted(connection)
            accepted.append(sink)
            if greet is not None:
                greet(sink)
            return sink

        config = self.connection_config(
            tls=self.server_tls, limits=limits or self.limits, max_connections=max_connections
        )
        config = replace(config, opening_bytes=opening_bytes)
        endpoint = await self.transport().listen(self.url, accept, config)
        try:
            yield endpoint
        finally:
            await endpoint.aclose()
            for sink in accepted:
                await until(lambda sink=sink: sink.ended)  # type: ignore[misc]
                assert not sink.too_late

    async def dial(
        self, url: str, sink: FrameSink, limits: Limits | None = None, token: str = ""
    ) -> Connection:
        """Open a connection, and present `token`."""
        config = self.connection_config(
            tls=self.client_tls, limits=limits or self.limits, max_connections=1
        )
        return await self.transport().dial(url, sink, replace(config, token=token))

    @asynccontextmanager
    async def link(
        self, limits: Limits | None = None
    ) -> AsyncIterator[tuple[Connection, Recorder, Accepted]]:
        """One connection: the dialling side, its sink, and the accepting side."""
        accepted: list[Accepted] = []
        async with self.endpoint(accepted, limits=limits) as endpoint:
            recorder = Recorder()
            connection = await self.dial(endpoint.url, recorder, limits)
            try:
                await until(lambda: accepted)
                yield connection, recorder, accepted[0]
            finally:
                connection.close()
                await connection.wait_closed()
                await until(lambda: recorder.ended)
                assert not recorder.too_late

    @asynccontextmanager
    async def server(
        self,
        url: str = "",
        *,
        admit: Admit | None = None,
        renew: Renew | None = None,
        config: ServerConfig | None = None,
    ) -> AsyncIterator[Server]:
        """A server at `url` (a free address)."""
        config = replace(config or ServerConfig(), tls=self.server_tls)
        async with listen(
            url or self.url, admit=admit, renew=renew, config=config, transport=self.transport()
        ) as server:
            yield server

    @asynccontextmanager
    async def client(
        self,
        server: Server | str,
        *,
        faults: FaultyTransport | None = None,
        session: SessionConfig | None = None,
        drain_timeout: float = 5.0,
        takes_over: bool = False,
        **identity: Any,
    ) -> AsyncIterator[Client]:
        """A client of `server`, whose tries to connect follow each other quickly; `identity` goes
        to `connect`, in which it is of the backend `backend` if that does not say otherwise."""
        url = server if isinstance(server, str) else server.url
        config = ClientConfig(
            session=session or SessionConfig(),
            backoff=QUICK,
            tls=self.client_tls,
            drain_timeout=drain_timeout,
            takes_over=takes_over,
        )
        transport = faults or self.transport()
        async with connect(
            url, config=config, transport=transport, **{"backend": "backend", **identity}
        ) as client:
            yield client

    def transport(self) -> Transport:
        """The transport, found by its scheme as users find it."""
        return transport_for(self.url)

    def faults(self) -> FaultyTransport:
        """This suite's transport, to be broken."""
        return FaultyTransport(self.transport())
