"""The operator's end: accept listeners over any transports, and hand over what they report."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count

from osmo_transport.admission import Record
from osmo_transport.bounds import Bytes, Count, Seconds, SecondsOrZero
from osmo_transport.delivery import Producer, ProducerBatch, ProducerState
from osmo_transport.errors import (
    ConnectionLostError,
    FencedError,
    PeerError,
    TransportError,
    UsageError,
)
from osmo_transport.factory import transport_for
from osmo_transport.frames import Frame, Goodbye, GoodbyeCode, Pong, Push
from osmo_transport.message import total_size
from osmo_transport.session import Greeting, ServerSession, SessionConfig
from osmo_transport.transports.abc import (
    Connection,
    DeployedConfig,
    Endpoint,
    FrameSink,
    LinkConfig,
    TlsConfig,
)

logger = logging.getLogger(__name__)

Admit = Callable[[Greeting], Awaitable[ProducerState]]
"""Decides whether a listener is let in, and where it stands, as `Queue.open_producer` tells."""


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """Limits and times of a server."""

    session: SessionConfig = field(default_factory=SessionConfig)
    """What each listener may have in flight, and the heartbeat."""
    tls: TlsConfig = field(default_factory=TlsConfig)
    """Certificates for secure schemes."""
    open_timeout: Seconds = 10.0
    """Seconds that a handshake may take."""
    max_connections: Count = 10_000
    """Connections of one endpoint; a backend has a handful of listeners."""
    inbox_bytes: Bytes = 256 * 1024 * 1024
    """Bytes of all listeners' batches that may wait to be received, besides those that were
    received and are not answered yet, as many at most; a listener whose batch does not fit any more
    is asked to come back in `retry_after` seconds, and sends it again."""
    retry_after: SecondsOrZero = 1.0
    """Seconds that a listener is asked to stay away while nothing can be stored."""
    deployed: DeployedConfig = field(default_factory=DeployedConfig)
    """For the listeners that were deployed before ours."""


class Incoming:
    """A batch of one listener, to be stored and then acknowledged."""

    __slots__ = ("_peer", "batch", "size")

    def __init__(self, peer: "_Peer", batch: ProducerBatch) -> None:
        self._peer = peer
        self.batch = batch
        self.size = total_size(batch.messages)

    def acknowledge(self) -> None:
        """Tell the listener that this batch, and so all before it, is stored."""
        self._peer.acknowledge(self.batch)

    def fence(self) -> None:
        """Tell the listener that a newer one took over."""
        self._peer.part(GoodbyeCode.FENCED, "a newer listener of this backend reports now")

    def resync(self) -> None:
        """Tell the listener that the queue lost its memory."""
        self._peer.part(GoodbyeCode.RESYNC, "the queue lost its memory")


_numbers = count()


class _Peer(FrameSink):
    def __init__(self, server: "Server", connection: Connection) -> None:
        self._server = server
        self._connection = connection
        self.session = ServerSession(server.config.session, server.now())
        self.number = next(_numbers)
        """Rises from connection to connection."""
        self.alive = True
        self._stored = 0

    def __str__(self) -> str:
        greeting = self.session.greeting
        name = "/".join(greeting.producer) if greeting else "a stranger"
        return f"{name} at {self._connection.peer}"

    def frame_received(self, frame: Frame) -> None:
        if not self.alive:
            return
        try:
            got = self.session.receive(frame, self._server.now(), self._answer)
        except TransportError as exc:
            self.fail(exc)
            return
        if type(got) is ProducerBatch:
            self._server.arrived(Incoming(self, got))
        elif type(got) is Greeting:
            self._server.greeted(self, got)

    def _answer(self, frame: Frame) -> None:
        # Whoever does not read what he gets could otherwise fill the memory with pongs. Rejections
        # are bounded by the window.
        if type(frame) is not Pong or self._connection.writable:
            self._connection.send(frame)

    def writing_resumed(self) -> None:
        self._acknowledge_stored()

    def connection_lost(self, error: TransportError) -> None:
        if self.alive:
            self.alive = False
            self._server.parted(self, error)

    def welcome(self, state: ProducerState) -> None:
        self._connection.send(self.session.welcome(state))

    def push(self, push: Push) -> None:
        if self.alive:
            self._connection.send(push)

    def acknowledge(self, batch: ProducerBatch) -> None:
        self._server.stored(batch)
        self._stored = max(self._stored, batch.last)
        # A listener that does not read is not acknowledged, so that its window bounds what it can
        # send; one acknowledgement makes up for all when it reads again.
        if self._connection.writable:
            self._acknowledge_stored()

    def _acknowledge_stored(self) -> None:
        ack = self.session.acknowledge(self._stored) if self.alive else None
        if ack is not None:
            self._connection.send(ack)

    def tick(self, now: float) -> None:
        try:
            ping = self.session.tick(now)
        except TransportError as exc:
            self.fail(exc)
            return
        if ping is not None:
            self._connection.send(ping)

    def fail(self, error: TransportError) -> None:
        match error:
            case PeerError():
                self.part(GoodbyeCode.PROTOCOL, str(error))
            case FencedError():
                self.part(GoodbyeCode.FENCED, str(error))
            case UsageError():
                self.part(GoodbyeCode.REFUSED, str(error))
            case ConnectionLostError():
                self._end(error)
            case _:
                self.part(GoodbyeCode.UNAVAILABLE, str(error), self._server.config.retry_after)

    def part(self, code: GoodbyeCode, reason: str, retry_after: float = 0.0) -> None:
        if self.alive:
            self._connection.send(Goodbye(code, reason, retry_after))
            self._end(ConnectionLostError(f"{code.value}: {reason}"))

    def _end(self, error: TransportError) -> None:
        self._connection.close()
        self.connection_lost(error)


class _OwnRecord:
    """Admission for a server without a queue: what it acknowledged is its memory."""

    def __init__(self) -> None:
        self._record = Record()

    async def admit(self, greeting: Greeting) -> ProducerState:
        producer, listener, known, _ = greeting
        return self._record.admit(producer, "own", listener, known, 0.0)

    def stored(self, batch: ProducerBatch) -> None:
        self._record.stored(batch.producer, batch.state.epoch, batch.last)


class Server:
    """What `listen` returns. `receive` hands over batches; each must be answered with one of
    `Incoming`'s verbs, in the order of arrival, or it is sent again after the next reconnect."""

    def __init__(self, config: ServerConfig, admit: Admit | None) -> None:
        self.config = config
        self.urls: list[str] = []
        """Where it listens, with the ports that were chosen."""
        self.now = asyncio.get_running_loop().time
        self.can_store: Callable[[], bool] = lambda: True
        """Whether what is received can be stored now; to be set by who stores it."""
        self._own = _OwnRecord()
        self._admit: Admit = admit or self._own.admit
        self._admissions: set[asyncio.Task[None]] = set()
        self._peers: set[_Peer] = set()
        self._by_producer: dict[Producer, _Peer] = {}
        self._by_listener: dict[tuple[Producer, str], _Peer] = {}
        self._pushes: dict[str, dict[str, Push]] = {}
        self._inbox: list[Incoming] = []
        self._inbox_bytes = 0
        self._arrival = asyncio.Event()
        self._stopping = False
        self._ticker: asyncio.TimerHandle | None = None

    @property
    def url(self) -> str:
        """The first of `urls`."""
        return self.urls[0]

    @property
    def connections(self) -> int:
        """Listeners that are connected now."""
        return len(self._peers)

    @property
    def ready(self) -> bool:
        """Whether it is of use to a listener to connect."""
        return not self._stopping and self.can_store()

    async def receive(self) -> list[Incoming]:
        """Wait for batches and take all that have arrived, of all listeners; empty once `stop` was
        called and nothing is left. Safe to cancel."""
        while not self._inbox and not self._stopping:
            self._arrival.clear()
            await self._arrival.wait()
        taken, self._inbox = self._inbox, []
        self._inbox_bytes = 0
        return taken

    def stop(self) -> None:
        """Take no more batches or connections: what has arrived can still be received and answered,
        and what has not been answered when the server closes is sent again to the next one."""
        self._stopping = True
        self._arrival.set()

    def resync(self, queue_epoch: str) -> int:
        """Tell every listener that was welcomed under another queue epoch that the queue lost its
        memory; returns how many there were."""
        strangers = [
            peer
            for peer in self._by_producer.values()
            if peer.session.state.queue_epoch != queue_epoch
        ]
        for peer in strangers:
            peer.part(GoodbyeCode.RESYNC, "the queue lost its memory")
        return len(strangers)

    def push(self, backend: str, push: Push) -> None:
        """Tell all listeners of `backend`, those that are connected now and those that will be; a
        lower version than what was told of this kind is ignored. One push of each kind is kept for
        each backend."""
        kept = self._pushes.setdefault(backend, {})
        if push.kind in kept and kept[push.kind].version >= push.version:
            return
        kept[push.kind] = push
        for producer, peer in self._by_producer.items():
            if producer.backend == backend:
                peer.push(push)

    def accept(self, connection: Connection) -> FrameSink:
        """A transport's new connection."""
        peer = _Peer(self, connection)
        self._peers.add(peer)
        if self._stopping:
            peer.part(GoodbyeCode.CLOSING, "this operator is stopping")
        return peer

    def greeted(self, peer: _Peer, greeting: Greeting) -> None:
        """A listener said who it is."""
        listener = (greeting.producer, greeting.listener)
        other = self._by_listener.get(listener)
        # Of two connections of one process the newer counts, and before anybody is asked to let one
        # of them in: an epoch for the older would fence the newer.
        if other is not None and other.number > peer.number:
            peer.part(GoodbyeCode.REPLACED, "the same listener has connected again")
            return
        self._by_listener[listener] = peer
        if other is not None:
            other.part(GoodbyeCode.REPLACED, "the same listener has connected again")
        task = asyncio.create_task(self._let_in(peer, greeting))
        self._admissions.add(task)
        task.add_done_callback(self._admissions.discard)

    def arrived(self, incoming: Incoming) -> None:
        """A listener's batch arrived."""
        if self._stopping:
            return
        if self._inbox and self._inbox_bytes + incoming.size > self.config.inbox_bytes:
            incoming._peer.part(  # noqa: SLF001 (one module)
                GoodbyeCode.UNAVAILABLE, "the operator is overloaded", self.config.retry_after
            )
            return
        self._inbox.append(incoming)
        self._inbox_bytes += incoming.size
        self._arrival.set()

    def stored(self, batch: ProducerBatch) -> None:
        """A batch was acknowledged."""
        self._own.stored(batch)

    def parted(self, peer: _Peer, error: TransportError) -> None:
        """A connection ended."""
        self._peers.discard(peer)
        greeting = peer.session.greeting
        if greeting is not None:
            listener = (greeting.producer, greeting.listener)
            if self._by_listener.get(listener) is peer:
                del self._by_listener[listener]
            if self._by_producer.get(greeting.producer) is peer:
                del self._by_producer[greeting.producer]
        logger.info("%s left: %s", peer, error)

    async def _let_in(self, peer: _Peer, greeting: Greeting) -> None:
        try:
            state = await self._admit(greeting)
        except TransportError as exc:
            logger.warning("%s is not let in: %s", peer, exc)
            peer.fail(exc)
            return
        if not peer.alive:
            return
        older = self._by_producer.get(greeting.producer)
        if older is not None:
            if older.session.state.epoch > state.epoch:
                peer.part(GoodbyeCode.FENCED, "a newer listener of this backend reports now")
                return
            older.part(GoodbyeCode.FENCED, "a newer listener of this backend reports now")
        self._by_producer[greeting.producer] = peer
        peer.welcome(state)
        for push in self._pushes.get(greeting.producer.backend, {}).values():
            peer.push(push)
        logger.info("%s reports, epoch %d from sequence %d", peer, state.epoch, state.sequence + 1)

    def tick(self) -> None:
        """Look at the heartbeats, now and from then on."""
        now = self.now()
        for peer in list(self._peers):
            peer.tick(now)
        self._ticker = asyncio.get_running_loop().call_later(self.config.session.tick, self.tick)

    async def aclose(self) -> None:
        """Say goodbye to everybody. Idempotent."""
        self.stop()
        if self._ticker is not None:
            self._ticker.cancel()
        for task in self._admissions:
            task.cancel()
        await asyncio.gather(*self._admissions, return_exceptions=True)
        for peer in list(self._peers):
            peer.part(GoodbyeCode.CLOSING, "this operator is stopping")


@asynccontextmanager
async def listen(
    *urls: str, admit: Admit | None = None, config: ServerConfig | None = None
) -> AsyncIterator[Server]:
    """Accept listeners at each of `urls` (port 0 picks a free one) until the context is left.

    `admit` decides where a producer stands; None keeps a record in this process, for tests and
    servers without a queue.

    Raises:
        AddressInUseError, UsageError, MissingExtraError: as `transport_for` and `Transport.listen`.
    """
    config = config or ServerConfig()
    async with AsyncExitStack() as stack:
        server = Server(config, admit)
        link = LinkConfig(
            limits=config.session.limits,
            tls=config.tls,
            open_timeout=config.open_timeout,
            max_connections=config.max_connections,
            ready=lambda: server.ready,
            deployed=config.deployed,
        )
        for url in urls:
            endpoint: Endpoint = await transport_for(url).listen(url, server.accept, link)
            stack.push_async_callback(endpoint.aclose)
            server.urls.append(endpoint.url)
        stack.push_async_callback(server.aclose)
        server.tick()
        yield server
