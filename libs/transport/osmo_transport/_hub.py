"""The server's connections: who is let in, what has arrived, and who is told what."""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass
from itertools import count

from osmo_transport import _tasks
from osmo_transport._crowds import Crowd
from osmo_transport._gate import Gate, Pass
from osmo_transport._places import Hold, Places, Renew
from osmo_transport._quota import Meter, QuotaConfig, Quotas
from osmo_transport._text import shown
from osmo_transport.errors import (
    ConnectionLostError,
    CredentialExpiredError,
    CredentialRefusedError,
    FencedError,
    OccupiedError,
    PeerError,
    QueueUnavailableError,
    TransportError,
    UsageError,
)
from osmo_transport.frames import Credential, Frame, Goodbye, GoodbyeCode, Occupied, Pong, Push
from osmo_transport.message import check_name, new_id
from osmo_transport.peers import host_of, network_of
from osmo_transport.queues.delivery import Producer, ProducerBatch, ProducerState
from osmo_transport.queues.leases import AT_ONCE, Claim
from osmo_transport.session import MAX_PUSHED_KINDS, Arrival, Greeting, ServerSession, SessionConfig
from osmo_transport.transports.abc import Connection, FrameSink

logger = logging.getLogger("osmo_transport.server")

Admit = Callable[[Greeting], Awaitable[ProducerState]]
"""Decides whether a client is let in, and where it stands, as `Queue.open_producer` tells. It
raises a `TransportError` for one that is not; a `UsageError` tells it never to come back."""

MESSAGE_OVERHEAD = 64
"""Bytes that holding a message takes beyond its own."""

OVERTAKEN = "a newer client of this backend reports now"
RECONNECTED = "the same client has connected again"
STOPPING = "this server is stopping"
FORGOTTEN = "the queue lost its memory"


class Incoming(ProducerBatch, frozen=True, eq=False):
    """A batch of one client, to be stored and then answered with one of the verbs, be it that the
    client has gone: until then it counts among what is held for its backend."""

    peer: "Peer"
    """Whose it is; for the verbs."""
    size: int
    """Bytes that it holds in memory."""
    slowed: bool = False
    """Whether its backend is over its quota: others go first."""

    def acknowledge(self) -> None:
        """Tell the client that this batch, and so all before it, is stored."""
        self.peer.acknowledge(self)

    def fence(self) -> None:
        """Tell the client that a newer one took over."""
        self.peer.let_go(self.last)
        self.peer.fence(OVERTAKEN)

    def resync(self) -> None:
        """Tell the client that the queue lost its memory."""
        self.peer.let_go(self.last)
        self.peer.part(GoodbyeCode.RESYNC, FORGOTTEN)


@dataclass(frozen=True, kw_only=True)
class HubConfig:
    """See `ServerConfig`."""

    session: SessionConfig
    open_timeout: float
    inbox_bytes: int
    inbox_backend_bytes: int
    retry_after: float
    admit_timeout: float
    lease: float
    lease_grace: float
    quota: QuotaConfig
    address_connections: int
    backend_connections: int


_numbers = count()


class Peer(FrameSink):
    """One connection of a client."""

    def __init__(self, hub: "Hub", connection: Connection, scheme: str) -> None:
        self._hub = hub
        self._connection = connection
        self.scheme = scheme
        """Of the URL at which it came."""
        self.host = network_of(connection.peer)
        """Where it is, if that is an address."""
        self.entered = False
        """Whether it counts among the connections of its backend."""
        now = hub.now()
        self.session = ServerSession(
            hub.config.session,
            now,
            hello_by=(now if connection.since is None else connection.since)
            + hub.config.open_timeout,
            vouched=connection.vouched,
        )
        self.number = next(_numbers)
        """Rises from connection to connection."""
        self.name = f"{hub.name}-{self.number}"
        """Of the connection, unlike that of any other of any server."""
        self.presented = connection.presented
        """What it presented last."""
        self.pass_: Pass | None = None
        """What it was let in with, where the server asks for credentials."""
        self.waits = False
        """Whether it was told to wait for its turn."""
        self.alive = True
        self.admission: asyncio.Task[None] | None = None
        """While it is asked for whether to let it in; ends with the connection."""
        self._meter: Meter | None = None
        self._held: deque[tuple[int, int]] = deque()
        """Of the batches that wait for their answers, the last sequence number and the bytes."""
        self._stored = 0
        self._ponged = False

    def __str__(self) -> str:
        return f"{self._name} at {self._connection.peer}"

    @property
    def _name(self) -> str:
        greeting = self.session.greeting
        return str(greeting.producer) if greeting else "a stranger"

    @property
    def origin(self) -> str:
        """Who it is and where, the same with each try."""
        return f"{self._name} at {host_of(self._connection.peer)}"

    def frame_received(self, frame: Frame) -> None:
        if not self.alive:
            return
        now = self._hub.now()
        try:
            got = self.session.receive(frame, now, self._answer)
        except TransportError as exc:
            self._failed(exc)
            return
        if type(got) is Arrival:
            self._arrived(got, now)
            return
        # Whatever else it says is work as well.
        if self._meter is not None:
            self._meter.charge(1, 0, now)
        if type(got) is Greeting:
            self._hub.greeted(self, got)
        elif type(got) is Credential:
            self._hub.renewed(self, got.token)

    def _arrived(self, arrival: Arrival, now: float) -> None:
        session, encoded, meter = self.session, arrival.encoded, self._meter
        if session.greeting is None:
            return
        slowed = False
        if meter is not None:
            meter.charge(len(encoded), arrival.size, now)
            slowed = meter.slows(now)
        self._hub.arrived(
            Incoming(
                session.greeting.producer,
                session.state,
                arrival.first,
                arrival.kinds,
                encoded,
                self,
                arrival.size + MESSAGE_OVERHEAD * len(encoded),
                slowed,
            )
        )

    def _answer(self, frame: Frame) -> None:
        # Refusals are bounded by the window. Whoever only asks could fill the memory with answers,
        # and make a write buffer of a million pieces, which takes asyncio long: one answers all
        # that he asked in a turn.
        if type(frame) is Pong:
            if self._ponged or not self._connection.writable:
                return
            self._ponged = True
            asyncio.get_running_loop().call_soon(self._may_pong)
        else:
            self._hub.refused += 1
        self._connection.send(frame)

    def _may_pong(self) -> None:
        self._ponged = False

    def writing_resumed(self) -> None:
        self._acknowledge_stored()

    def connection_lost(self, error: TransportError) -> None:
        if self.alive:
            if isinstance(error, PeerError):
                self._hub.goodbyes[GoodbyeCode.PROTOCOL] += 1
                self._tell_refused(error)
            self.alive = False
            if self.admission is not None:
                self.admission.cancel()
            if self._meter is not None:
                self._meter.close()
            self._hub.parted(self, error)

    @property
    def address(self) -> str:
        """Where it is."""
        return shown(self._connection.peer)

    def stand_by(self, occupied: OccupiedError) -> None:
        """Let it wait for its turn."""
        if self.alive:
            holder = occupied.instance, occupied.address, occupied.since
            self._connection.send(Occupied(*holder))
            if not self.waits:
                logger.info("%s waits: %s", self, occupied)
            self.waits = True

    def fence(self, reason: str) -> None:
        """Tell it that a newer one took over."""
        greeting = self.session.greeting
        comes_back = greeting is not None and greeting.claim.waits and self._hub.places is not None
        self.part(GoodbyeCode.OVERTAKEN if comes_back else GoodbyeCode.FENCED, reason)

    def enter(self, backend: str) -> None:
        """It reports for `backend`, or waits for its turn."""
        self.entered = True
        self._meter = self._hub.quotas.meter(backend, self._connection)

    def welcome(self, state: ProducerState) -> None:
        """Let it in."""
        self._connection.send(self.session.welcome(state))

    def push(self, push: Push) -> None:
        """Tell it something, unless that is more than it takes: it would end the connection."""
        size, most = len(push.payload), self.session.limits.push_bytes
        if size > most:
            logger.error(
                "%s is not told of %s: %d bytes, and it takes %d", self, push.kind, size, most
            )
        elif self.alive:
            self._connection.send(push)

    def holds(self, incoming: Incoming) -> None:
        """A batch of its waits for its answer."""
        self._held.append((incoming.last, incoming.size))

    def let_go(self, last: int) -> None:
        """The batches up to the one that ends with the sequence number `last` are answered."""
        size = 0
        while self._held and self._held[0][0] <= last:
            size += self._held.popleft()[1]
        if size and self.session.greeting is not None:
            self._hub.let_go(self.session.greeting.producer.backend, size)

    def acknowledge(self, batch: ProducerBatch) -> None:
        """A batch of its is stored."""
        self.let_go(batch.last)
        self._hub.stored(batch)
        self._stored = max(self._stored, batch.last)
        # A client that does not read is not acknowledged, so that its window bounds what it can
        # send; one acknowledgement makes up for all when it reads again.
        if self._connection.writable:
            self._acknowledge_stored()

    def _acknowledge_stored(self) -> None:
        stored = self.session.acknowledge(self._stored) if self.alive else None
        if stored is not None:
            self._connection.send(stored)

    def tick(self, now: float) -> None:
        """Look at its heartbeat."""
        try:
            paused = self._meter is not None and self._meter.pauses
            ping = self.session.tick(now, paused=paused)
        except TransportError as exc:
            self._failed(exc)
            return
        if ping is not None:
            self._connection.send(ping)

    def _failed(self, error: TransportError) -> None:
        if isinstance(error, PeerError | UsageError):
            self._tell_refused(error)
        self.fail(error)

    def _tell_refused(self, error: TransportError) -> None:
        logger.warning("%s is refused: %s", self.origin, error)

    def fail(self, error: TransportError) -> None:
        """End the connection for `error`, of which the client is told what it should do."""
        match error:
            case PeerError():
                self.part(GoodbyeCode.PROTOCOL, str(error))
            case FencedError():
                self.fence(str(error))
            case CredentialExpiredError():
                self.part(GoodbyeCode.EXPIRED, str(error))
            case CredentialRefusedError():
                self.part(GoodbyeCode.DENIED, str(error))
            case UsageError():
                self.part(GoodbyeCode.REFUSED, str(error))
            case ConnectionLostError():
                self._end(error)
            case _:
                self.part(GoodbyeCode.UNAVAILABLE, str(error), self._hub.config.retry_after)

    def part(self, code: GoodbyeCode, reason: str, retry_after: float = 0.0) -> None:
        """Say goodbye."""
        if self.alive:
            self._hub.goodbyes[code] += 1
            self._connection.send(Goodbye(code, reason, retry_after))
            self._end(ConnectionLostError(f"{code.value}: {reason}"))

    def _end(self, error: TransportError) -> None:
        self._connection.close()
        self.connection_lost(error)


class Hub:
    """What a `Server` stands on."""

    def __init__(
        self,
        config: HubConfig,
        admit: Admit,
        stored: Callable[[ProducerBatch], None] = lambda _: None,
        renew: Renew | None = None,
        gate: Gate | None = None,
    ) -> None:
        """`stored` is called for each batch that is acknowledged; without `renew` there are no
        leases, and without `gate` everybody is let in who says for whom he reports."""
        self.name = new_id()
        self.config = config
        self.stored = stored
        self.now = asyncio.get_running_loop().time
        self.peers: dict[Peer, None] = {}
        """In the order of their arrival: what is done to all of them repeats itself in a test."""
        self.goodbyes: Counter[GoodbyeCode] = Counter()
        """How often a client was told to go, by what it was told."""
        self.refused = 0
        """Messages that were refused for themselves alone."""
        self.quotas = Quotas(config.quota, asyncio.get_running_loop())
        self.stopping = False
        self._admit = admit
        self._gate = gate
        self._admissions: set[asyncio.Task[None]] = set()
        self._of_addresses = Crowd(config.address_connections)
        self._of_backends = Crowd(config.backend_connections)
        self._by_producer: dict[Producer, Peer] = {}
        self._by_instance: dict[tuple[Producer, str], Peer] = {}
        self._pushes: dict[str, dict[str, Push]] = {}
        self._inbox: list[Incoming] = []
        self._inbox_bytes = 0
        self._held_of: Counter[str] = Counter()
        self._arrival = asyncio.Event()
        self._ticker: asyncio.TimerHandle | None = None
        self.places: Places | None = None
        self._keeping: asyncio.Task[None] | None = None
        if renew is not None:
            self.places = Places(renew, config.lease, self._holds, self.now)
            self._keeping = asyncio.create_task(self.places.run())
            self._keeping.add_done_callback(
                lambda task: _tasks.log_defect(task, logger, "the leases are renewed no more")
            )

    @property
    def backends(self) -> set[str]:
        """See `Server.backends`."""
        return {producer.backend for producer in self._by_producer}

    # What arrives

    @property
    def waiting_bytes(self) -> int:
        """See `Server.waiting_bytes`."""
        return self._inbox_bytes

    def accept(self, connection: Connection, scheme: str = "") -> FrameSink:
        """A transport's new connection, at a URL with this scheme."""
        peer = Peer(self, connection, scheme)
        self.peers[peer] = None
        crowded = self._of_addresses.enter(peer.host) if peer.host else ""
        if self.stopping:
            peer.part(GoodbyeCode.CLOSING, STOPPING)
        elif crowded:
            self._turn_away(peer, TransportError(f"this address has {crowded}"))
        return peer

    def greeted(self, peer: Peer, greeting: Greeting) -> None:
        """A client said who it is."""
        if self._gate is None:
            if self._enters(peer, greeting):
                self._start(peer, self._let_in(peer, greeting))
        else:
            self._start(peer, self._identify(self._gate, peer, greeting))

    def renewed(self, peer: Peer, token: str) -> None:
        """A client presents a newer token."""
        if self._gate is not None:
            self._gate.renew(peer, token)

    def _start(self, peer: Peer, admission: Coroutine[None, None, None]) -> None:
        peer.admission = asyncio.create_task(admission)
        self._admissions.add(peer.admission)
        peer.admission.add_done_callback(self._admissions.discard)

    def _enters(self, peer: Peer, greeting: Greeting) -> bool:
        """Whether it is this connection, of those of its process, that counts now."""
        if self.stopping:
            peer.part(GoodbyeCode.CLOSING, STOPPING)
            return False
        instance = (greeting.producer, greeting.instance)
        other = self._by_instance.get(instance)
        # Of two connections of one process the newer counts, and before anybody is asked to let one
        # of them in: an epoch for the older would fence the newer.
        if other is not None and other.number > peer.number:
            peer.part(GoodbyeCode.REPLACED, RECONNECTED)
            return False
        self._by_instance[instance] = peer
        if other is not None:
            other.part(GoodbyeCode.REPLACED, RECONNECTED)
        peer.enter(greeting.producer.backend)
        crowded = self._of_backends.enter(greeting.producer.backend)
        if crowded:
            self._turn_away(peer, TransportError(f"this backend has {crowded}"))
        return not crowded

    def arrived(self, incoming: Incoming) -> None:
        """A client's batch arrived."""
        if self.stopping:
            return
        backend, size = incoming.producer.backend, incoming.size
        of_backend = self._held_of[backend]
        if (self._inbox and self._inbox_bytes + size > self.config.inbox_bytes) or (
            of_backend and of_backend + size > self.config.inbox_backend_bytes
        ):
            incoming.peer.part(
                GoodbyeCode.UNAVAILABLE, "the server is overloaded", self.config.retry_after
            )
            return
        self._inbox.append(incoming)
        self._inbox_bytes += size
        incoming.peer.holds(incoming)
        self._held_of[backend] = of_backend + size
        self._arrival.set()

    def parted(self, peer: Peer, error: TransportError) -> None:
        """A connection ended."""
        self.peers.pop(peer, None)
        if peer.host:
            self._of_addresses.leave(peer.host)
        greeting = peer.session.greeting
        if greeting is not None:
            if peer.entered:
                self._of_backends.leave(greeting.producer.backend)
            instance = (greeting.producer, greeting.instance)
            if self._by_instance.get(instance) is peer:
                del self._by_instance[instance]
            if self._by_producer.get(greeting.producer) is peer:
                del self._by_producer[greeting.producer]
            if self.places is not None:
                # One whose connection broke comes back at once; if it has gone, nobody waits long.
                rest = 0.0 if peer.session.left else self.config.lease_grace
                self.places.end(greeting.producer, peer.name, rest)
        # Of those who never said who they are it is told why they were refused.
        logger.log(logging.INFO if greeting else logging.DEBUG, "%s left: %s", peer, error)

    async def receive(self) -> list[Incoming]:
        """See `Server.receive`."""
        while not self._inbox and not self.stopping:
            self._arrival.clear()
            await self._arrival.wait()
        return self.taken()

    def taken(self) -> list[Incoming]:
        """See `Server.arrived`."""
        taken, self._inbox = self._inbox, []
        self._inbox_bytes = 0
        return taken

    def let_go(self, backend: str, size: int) -> None:
        """So many bytes of a backend are held no more."""
        self._held_of[backend] -= size
        if self._held_of[backend] <= 0:
            del self._held_of[backend]

    # Who is let in

    async def _identify(self, gate: Gate, peer: Peer, greeting: Greeting) -> None:
        """Nothing is done for a client, or to another one, before it is known whose it is."""
        try:
            held = peer.pass_ = await gate.admit(peer.presented, greeting.producer.backend)
        except TransportError as exc:
            self._turn_away(peer, exc)
        except Exception:
            logger.exception("%s is not let in: a defect of this program", peer)
            peer.part(GoodbyeCode.UNAVAILABLE, "a defect of this side", self.config.retry_after)
        else:
            if self._enters(peer, greeting):
                await self._let_in(peer, greeting._replace(identity=held.identity))

    async def _let_in(self, peer: Peer, greeting: Greeting) -> None:
        timeout = self.config.admit_timeout
        try:
            state = await self._admitted(peer, greeting)
            self._welcome(peer, greeting, state)
        except TimeoutError:
            late = f"nobody could say within {timeout:g} s where this client stands"
            self._turn_away(peer, QueueUnavailableError(late))
        except TransportError as exc:
            self._turn_away(peer, exc)
        except Exception:
            logger.exception("%s is not let in: a defect of this program", peer)
            peer.part(GoodbyeCode.UNAVAILABLE, "a defect of this side", self.config.retry_after)

    async def _admitted(self, peer: Peer, greeting: Greeting) -> ProducerState:
        if self.places is None:
            asks = greeting._replace(claim=AT_ONCE)
        else:
            by = greeting.identity
            claim = Claim(
                greeting.claim.waits,
                self.config.lease,
                peer.name,
                peer.address,
                "" if by is None else shown(by.name),
            )
            asks = greeting._replace(claim=claim)
        while True:
            try:
                async with asyncio.timeout(self.config.admit_timeout):
                    return await self._admit(asks)
            except OccupiedError as exc:
                if self.places is None:
                    raise
                peer.stand_by(exc)
            await self.places.vacancy(greeting.producer)

    def _holds(self) -> Iterator[Hold]:
        for producer, peer in self._by_producer.items():
            yield Hold(producer, peer.name, peer.session.heard)

    def _turn_away(self, peer: Peer, error: TransportError) -> None:
        logger.warning("%s is not let in: %s", peer.origin, error)
        peer.fail(error)

    def _welcome(self, peer: Peer, greeting: Greeting, state: ProducerState) -> None:
        if not peer.alive:
            return
        producer = greeting.producer
        older = self._by_producer.get(producer)
        if older is not None:
            if older.session.state.epoch > state.epoch:
                peer.fence(OVERTAKEN)
                return
            older.fence(f"{OVERTAKEN}: {shown(greeting.instance)} at {peer.address}")
        self._by_producer[producer] = peer
        peer.welcome(state)
        for push in self._pushes.get(producer.backend, {}).values():
            peer.push(push)
        logger.info(
            "%s reports, epoch %d from sequence %d%s",
            peer,
            state.epoch,
            state.sequence + 1,
            "" if peer.pass_ is None else f", by {shown(peer.pass_.identity.name)}",
        )

    # Who is told what

    def resync(self, queue_epoch: str) -> int:
        """See `Server.resync`."""
        strangers = [
            peer
            for peer in self._by_producer.values()
            if peer.session.state.queue_epoch != queue_epoch
        ]
        for peer in strangers:
            peer.part(GoodbyeCode.RESYNC, FORGOTTEN)
        return len(strangers)

    def dismiss(self, backend: str, reason: str) -> None:
        """See `Server.dismiss`."""
        for peer in [each for of, each in self._by_producer.items() if of.backend == backend]:
            peer.part(GoodbyeCode.UNAVAILABLE, reason)

    def push(self, backend: str, push: Push) -> None:
        """See `Server.push`."""
        check_name("the kind of a push", push.kind)
        size, most = len(push.payload), self.config.session.limits.push_bytes
        if size > most:
            raise UsageError(f"a push of {size} bytes, and {most} may be told under these limits")
        kept = self._pushes.setdefault(backend, {})
        if push.kind not in kept and len(kept) >= MAX_PUSHED_KINDS:
            raise UsageError(f"{backend} is told of {MAX_PUSHED_KINDS} kinds: there may be no more")
        if push.kind in kept and kept[push.kind].version >= push.version:
            return
        kept[push.kind] = push
        for producer, peer in self._by_producer.items():
            if producer.backend == backend:
                peer.push(push)

    # The end

    def tick(self) -> None:
        """Look at the heartbeats, now and from then on."""
        now = self.now()
        for peer in list(self.peers):
            peer.tick(now)
        if self._gate is not None:
            self._gate.tick(self.peers)
        self.quotas.tick(now)
        self._ticker = asyncio.get_running_loop().call_later(self.config.session.tick, self.tick)

    def stop(self) -> None:
        """See `Server.stop`."""
        self.stopping = True
        self._arrival.set()

    async def aclose(self) -> None:
        """Say goodbye to everybody. Idempotent."""
        self.stop()
        if self._ticker is not None:
            self._ticker.cancel()
        await _tasks.end(*self._admissions, self._keeping)
        if self._gate is not None:
            await self._gate.aclose()
        for peer in list(self.peers):
            peer.part(GoodbyeCode.CLOSING, STOPPING)
        if self.places is not None:
            await self.places.flush()
