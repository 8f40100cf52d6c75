"""The good side of the fuzzer: a server with the operator's relay, and limits that are low enough
for what is beyond them to stand out."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from osmo_operator.relay import Relay
from osmo_transport import (
    BackoffConfig,
    ClientConfig,
    Limits,
    OutboxConfig,
    Queue,
    Server,
    ServerConfig,
    SessionConfig,
    Transport,
    listen,
    transport_for,
)
from osmo_transport.queues.memory.queue import MemoryQueue
from osmo_transport.session.client import MAX_PUSHED_KINDS
from osmo_transport.transports.abc import WRITE_BUFFER
from osmo_transport.transports.websocket import over_websockets
from osmo_transport.transports.websocket.transport import WebSocketTransport
from tests.transport.fuzz.clients import AT_ONCE
from tests.transport.fuzz.figures import MIB, Figures

SCHEMES = ("ws", "ws-websockets", "grpc", "memory")

LIMITS = Limits(
    window_messages=2000, window_bytes=MIB, message_bytes=128 * 1024, batch_bytes=32 * 1024
)
INBOX_BYTES = 4 * MIB
OUTBOX = OutboxConfig(max_bytes=4 * MIB, max_every_bytes=2 * MIB, max_every_entries=5000)

SERVER = ServerConfig(
    session=SessionConfig(limits=LIMITS),
    inbox_bytes=INBOX_BYTES,
    max_connections=1000,
    retry_after=0.01,
)
CLIENT = ClientConfig(
    session=SessionConfig(
        limits=LIMITS, outbox=OUTBOX, heartbeat_interval=1.0, heartbeat_timeout=1.0, ack_timeout=5.0
    ),
    backoff=BackoffConfig(base=0.001, maximum=0.005),
    open_timeout=5.0,
    drain_timeout=0.0,
)
"""Of the clients of hostile servers: they come back at once, and do not wait long for a welcome
that does not come."""

CLIENTS = 8
"""Clients that a hostile server has at a time."""

CONNECTION = 2 * (WRITE_BUFFER + LIMITS.frame_bytes)
"""Bytes that the two buffers of a connection hold."""
PRODUCERS = 2 * MIB
"""Bytes of some thousand names that a queue remembers."""
REFUSALS = 4 * MIB
"""As `KEPT_REFUSALS` says."""

SERVER_LIMIT = 2 * INBOX_BYTES + PRODUCERS + (AT_ONCE + 1) * CONNECTION
"""Bytes: what has arrived and waits, as much that is not answered, and the connections."""
CLIENT_LIMIT = CLIENTS * (
    OUTBOX.max_bytes
    + LIMITS.window_bytes
    + CONNECTION
    + MAX_PUSHED_KINDS * LIMITS.frame_bytes
    + REFUSALS
)


def transport_of(scheme: str) -> Transport:
    """What serves it."""
    if scheme == "ws-websockets":
        return WebSocketTransport(over_websockets)
    return transport_for(f"{scheme}://")


def url_of(scheme: str) -> str:
    """Somewhere to listen."""
    return "memory://" if scheme == "memory" else f"{scheme.partition('-')[0]}://127.0.0.1:0"


class Operator:
    """A server with the relay of the operator and a queue in memory."""

    def __init__(self, queue: Queue, server: Server, figures: Figures) -> None:
        assert isinstance(queue, MemoryQueue)
        self._store = queue._store
        self._figures = figures
        self.server = server
        self.relay = Relay(server, queue, 2000, 512 * 1024, INBOX_BYTES, BackoffConfig())
        self._running = asyncio.create_task(self.relay.run())
        self._taking = asyncio.create_task(self._take_all())
        self.stored: dict[str, int] = {}
        """Messages by backend."""

    async def _take_all(self) -> None:
        while True:
            self.take()
            await asyncio.sleep(0.01)

    def take(self) -> None:
        """Take what was stored, as it is: who reads it is not the matter here."""
        for line in self._store.waiting.values():
            for entry in line:
                self.stored[entry.backend] = self.stored.get(entry.backend, 0) + 1
            line.clear()

    async def aclose(self) -> None:
        """Stop, and see whether it had stopped before."""
        self._taking.cancel()
        if self._running.done():
            self._figures.stopped += 1
            self._figures.note(f"the relay ended: {self._running.exception()!r}")
        self.server.stop()
        await asyncio.wait([self._running, self._taking])
        self.take()


@asynccontextmanager
async def operating(
    queue: Queue, url: str, transport: Transport, figures: Figures
) -> AsyncIterator[Operator]:
    """A server at `url`."""
    async with listen(
        url,
        admit=lambda greeting: queue.open_producer(*greeting[:3]),
        config=SERVER,
        transport=transport,
    ) as server:
        operator = Operator(queue, server, figures)
        try:
            yield operator
        finally:
            await operator.aclose()
