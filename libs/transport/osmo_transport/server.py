"""The server: accept clients over any transports, and hand over what they report."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import field, replace
from functools import partial
from typing import NamedTuple
from urllib.parse import urlsplit

from osmo_transport._gate import Gate
from osmo_transport._hub import Admit, Hub, HubConfig
from osmo_transport._peer import Incoming
from osmo_transport._places import Renew
from osmo_transport._quota import QuotaConfig
from osmo_transport.bounds import Bytes, Count, Seconds, SecondsOrZero
from osmo_transport.credentials import Authenticator
from osmo_transport.errors import UsageError
from osmo_transport.frames import HELLO_BYTES, GoodbyeCode, Push
from osmo_transport.lean import dataclass
from osmo_transport.queues.delivery import Producer, ProducerState
from osmo_transport.queues.leases import MAX_LEASE, Renewal
from osmo_transport.registry import transport_for
from osmo_transport.session import Greeting, SessionConfig
from osmo_transport.session.admission import Record
from osmo_transport.transports.abc import Companion, ConnectionConfig, TlsConfig, Transport

__all__ = ("Admit", "Incoming", "Renew", "Server", "ServerConfig", "ServerStats", "listen")

_REFUSALS = (
    GoodbyeCode.PROTOCOL,
    GoodbyeCode.REFUSED,
    GoodbyeCode.DENIED,
    GoodbyeCode.EXPIRED,
    GoodbyeCode.UNAVAILABLE,
)


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """Limits and times of a server."""

    session: SessionConfig = field(default_factory=SessionConfig)
    """What each client may have in flight, and the heartbeat."""
    tls: TlsConfig = field(default_factory=TlsConfig)
    """Certificates for secure schemes."""
    open_timeout: Seconds = 10.0
    """Seconds from the moment at which a connection is accepted until the client has said who it
    is, TLS and HTTP included. Over gRPC, which accepts by itself, until a call begins, and again
    from there."""
    admit_timeout: Seconds = 10.0
    """Seconds that it may take to say where a client stands; then it is asked to come back. Less
    than a client waits for its welcome."""
    max_connections: Count = 10_000
    """Connections of each endpoint of a server; a backend has a handful of clients."""
    max_address_connections: Count = 2_500
    """Connections from each address, of IPv6 from one network of 64 bits, at each server; one more
    is asked to come back later. Many, because behind one address may be a proxy, or a network of
    many clients: a proxy in front of all clients needs as much as `max_connections`."""
    max_backend_connections: Count = 250
    """Connections of each backend, those that wait for their turn included, at each server; one
    more is asked to come back later. Many times what a backend has, because connections that broke
    are not all known to have ended yet."""
    inbox_bytes: Bytes = 256 * 1024 * 1024
    """Bytes of all clients' batches that may wait to be received, besides those that were received
    and are not answered yet, as many at most; a client whose batch does not fit any more is asked
    to come back in `retry_after` seconds, and sends it again."""
    quota: QuotaConfig = field(default_factory=QuotaConfig)
    """How much each backend may send."""
    inbox_backend_bytes: Bytes = 64 * 1024 * 1024
    """Bytes of one backend's batches that wait to be received or answered, a single larger one
    aside: the windows of four clients, so that one backend leaves room for others."""
    retry_after: SecondsOrZero = 1.0
    """Seconds that a client is asked to stay away while nothing can be stored."""
    lease: Seconds = 12.0
    """Seconds after which a client that is silent has lost its place to one that waits for it, a
    minute at most: longer than an answer to a heartbeat may take, and the other one reports within
    15 seconds. The same for every server of a queue."""
    lease_grace: SecondsOrZero = 2.0
    """The same where its connection broke without a goodbye, `lease` at most: longer than it takes
    to connect again, be it to another server."""

    def __post_init__(self) -> None:
        if self.lease > MAX_LEASE:
            raise ValueError(f"lease is {self.lease}: it must be at most {MAX_LEASE:g}")
        # Else who has nothing to say would lose its place between two heartbeats.
        if self.lease < 2 * self.session.heartbeat_interval:
            raise ValueError(
                f"lease is {self.lease}: it must be at least twice the heartbeat_interval, which"
                f" is {self.session.heartbeat_interval:g}"
            )


class ServerStats(NamedTuple):
    """A moment's figures; all but the first count since the start."""

    connections: Mapping[str, int]
    """Clients that are connected, by the scheme of the URL at which they came; of each that is
    listened at, if only with 0."""
    refused: Mapping[str, int]
    """What was not taken, by why: `protocol` (a client broke it), `refused` (it must not come
    back), `denied` (its credential does not let it report), `expired` (its credential is over),
    `unavailable` (it was asked to come back later), and `message` (one message alone)."""
    fenced: int
    """Clients that were told that a newer one took over."""
    resynced: int
    """Clients that were told that the queue lost its memory."""
    slowed: Mapping[str, float]
    """By backend, if only 0, seconds for which its connections were not read because it had sent
    more than its quota; of each connection. Of 1 000 backends, and of all further ones as
    `(others)`."""


class Server:
    """What `listen` returns. `receive` hands over batches; each must be answered with one of
    `Incoming`'s verbs, in the order of arrival, or it is sent again after the next reconnect.

    Iterating over it gives one batch after the other::

        async for incoming in server:
            for message in incoming.messages:
                ...
            incoming.acknowledge()
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self.urls: list[str] = []
        """Where it listens, with the ports that were chosen."""
        self.can_store: Callable[[], bool] = lambda: True
        """Whether what is received can be stored now; to be set by who stores it."""

    @property
    def url(self) -> str:
        """The first of `urls`."""
        return self.urls[0]

    @property
    def connections(self) -> int:
        """Clients that are connected now."""
        return len(self._hub.peers)

    @property
    def stats(self) -> ServerStats:
        """The figures of this moment."""
        hub, goodbyes = self._hub, self._hub.goodbyes
        connections = Counter({urlsplit(url).scheme: 0 for url in self.urls})
        connections.update(peer.scheme for peer in hub.peers)
        return ServerStats(
            connections=connections,
            refused={
                **{code.value: goodbyes[code] for code in _REFUSALS},
                "message": hub.refused,
            },
            fenced=goodbyes[GoodbyeCode.FENCED] + goodbyes[GoodbyeCode.OVERTAKEN],
            resynced=goodbyes[GoodbyeCode.RESYNC],
            slowed=dict(hub.quotas.slowed),
        )

    @property
    def waiting_bytes(self) -> int:
        """Bytes of batches that have arrived and were not received yet."""
        return self._hub.waiting_bytes

    @property
    def backends(self) -> set[str]:
        """Whose clients are welcomed and connected now."""
        return self._hub.backends

    @property
    def ready(self) -> bool:
        """Whether it is of use to a client to connect."""
        return not self._hub.stopping and self.can_store()

    async def receive(self) -> list[Incoming]:
        """Wait for batches and take all that have arrived, of all clients; empty once `stop` was
        called and nothing is left. Safe to cancel."""
        return await self._hub.receive()

    def arrived(self) -> list[Incoming]:
        """As `receive`, without waiting: nothing if nothing has arrived."""
        return self._hub.taken()

    async def __aiter__(self) -> AsyncIterator[Incoming]:
        while taken := await self.receive():
            for incoming in taken:
                yield incoming

    def stop(self) -> None:
        """Take no more batches or connections: what has arrived can still be received and answered,
        and what has not been answered when the server closes is sent again to the next one."""
        self._hub.stop()

    def resync(self, queue_epoch: str) -> int:
        """Tell every client that was welcomed under another queue epoch that the queue lost its
        memory; returns how many there were."""
        return self._hub.resync(queue_epoch)

    def dismiss(self, backend: str, reason: str) -> None:
        """Let every client of `backend` connect again, and so be admitted anew, or not; `reason` is
        told."""
        self._hub.dismiss(backend, reason)

    def push(self, backend: str, push: Push) -> None:
        """Tell all clients of `backend`, those that are connected now and those that will be; a
        lower version than what was told of this kind is ignored. One push of each kind is kept for
        each backend.

        Raises:
            UsageError: no client would take it: its kind is no name, its payload has more
                bytes than `Limits.push_bytes`, or the backend is told of 16 other kinds.
        """
        self._hub.push(backend, push)


class _OwnRecord:
    """Admission for a server without a queue: what it acknowledged is its memory."""

    def __init__(self) -> None:
        self.record = Record()

    async def admit(self, greeting: Greeting) -> ProducerState:
        now, known = time.time(), greeting.known
        return self.record.admit(
            greeting.producer, "own", greeting.instance, known, now, greeting.claim
        )

    async def renew(
        self, renewals: Sequence[Renewal], wanted: Collection[Producer]
    ) -> Collection[Producer]:
        return self.record.renew(renewals, wanted, time.time())


@asynccontextmanager
async def listen(
    *urls: str,
    admit: Admit | None = None,
    renew: Renew | None = None,
    config: ServerConfig | None = None,
    authenticator: Authenticator | None = None,
    companions: Sequence[Companion] = (),
    transport: Transport | None = None,
) -> AsyncIterator[Server]:
    """Accept clients at each of `urls` (port 0 picks a free one) until the context is left.

    `admit` decides where a producer stands; None keeps a record in this process, for tests and
    servers without a queue. `renew` keeps the leases of those who were let in: without it a newer
    client takes the place of an older one at once, and nobody waits. With an `authenticator`, which
    the caller closes, those are let in whom it knows, and for the backends that their credentials
    name. `companions` are served on the same ports. `transport` takes the place of those that serve
    the URLs' schemes.

    Raises:
        AddressInUseError, UsageError, MissingExtraError: as `transport_for` and `Transport.listen`.
    """
    config = config or ServerConfig()
    if not urls:
        raise UsageError("a server needs a URL to listen at, for example ws://127.0.0.1:0")
    session = replace(config.session, limits=config.quota.narrowed(config.session.limits))
    limits = HubConfig(
        session=session,
        open_timeout=config.open_timeout,
        inbox_bytes=config.inbox_bytes,
        inbox_backend_bytes=config.inbox_backend_bytes,
        retry_after=config.retry_after,
        admit_timeout=config.admit_timeout,
        lease=config.lease,
        lease_grace=min(config.lease_grace, config.lease),
        quota=config.quota,
        address_connections=config.max_address_connections,
        backend_connections=config.max_backend_connections,
    )
    gate = None
    if authenticator is not None:
        gate = Gate(authenticator, config.admit_timeout, asyncio.get_running_loop().time)
    if admit is None:
        own = _OwnRecord()
        hub = Hub(limits, own.admit, own.record.stored, own.renew, gate)
    else:
        hub = Hub(limits, admit, renew=renew, gate=gate)
    async with AsyncExitStack() as stack:
        server = Server(hub)
        accepting = ConnectionConfig(
            limits=session.limits,
            tls=config.tls,
            open_timeout=config.open_timeout,
            max_connections=config.max_connections,
            opening_bytes=HELLO_BYTES,
            ready=lambda: server.ready,
            companions=companions,
        )
        for url in urls:
            opened = transport or transport_for(url)
            accept = partial(hub.accept, scheme=urlsplit(url).scheme)
            endpoint = await opened.listen(url, accept, accepting)
            stack.push_async_callback(endpoint.aclose)
            server.urls.append(endpoint.url)
        stack.push_async_callback(hub.aclose)
        hub.tick()
        yield server
