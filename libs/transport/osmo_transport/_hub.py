"""The server's connections: who is let in, what has arrived, and who is told what."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from weakref import WeakValueDictionary

from osmo_transport import _tasks
from osmo_transport._crowds import Crowd, Holding
from osmo_transport._gate import Gate
from osmo_transport._peer import FORGOTTEN, OVERTAKEN, Incoming, Peer
from osmo_transport._places import Hold, Places, Renew
from osmo_transport._polling import BusyPoll
from osmo_transport._quota import QuotaConfig, Quotas
from osmo_transport._text import shown
from osmo_transport.errors import OccupiedError, QueueUnavailableError, TransportError, UsageError
from osmo_transport.frames import GoodbyeCode, Push
from osmo_transport.lean import dataclass
from osmo_transport.message import check_name, new_id
from osmo_transport.queues.delivery import Producer, ProducerState
from osmo_transport.queues.leases import AT_ONCE, Claim
from osmo_transport.session import MAX_PUSHED_KINDS, Greeting, SessionConfig
from osmo_transport.transports.abc import Connection, FrameSink

logger = logging.getLogger("osmo_transport.server")

Admit = Callable[[Greeting], Awaitable[ProducerState]]
"""Decides whether a client is let in, and where it stands, as `Queue.open_producer` tells. It
raises a `TransportError` for one that is not; a `UsageError` tells it never to come back."""
RECONNECTED = "the same client has connected again"
STOPPING = "this server is stopping"


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


class Hub:
    """What a `Server` stands on."""

    def __init__(
        self,
        config: HubConfig,
        admit: Admit,
        stored: Callable[[Producer, int, int], None] = lambda *_: None,
        renew: Renew | None = None,
        gate: Gate | None = None,
    ) -> None:
        """`stored` is told of each batch that is acknowledged: whose, of which epoch, and its last
        sequence number. Without `renew` there are no leases, and without `gate` everybody is let in
        who says for whom he reports."""
        self.name = new_id()
        self.config = config
        self.stored = stored
        self._loop = asyncio.get_running_loop()
        self.now = self._loop.time
        self.peers: dict[Peer, None] = {}
        """In the order of their arrival: what is done to all of them repeats itself in a test."""
        self.goodbyes: Counter[GoodbyeCode] = Counter()
        """How often a client was told to go, by what it was told."""
        self.refused = 0
        """Messages that were refused for themselves alone."""
        self.quotas = Quotas(config.quota, self._loop)
        self.polling = BusyPoll(self._loop, config.session.busy_poll)
        """For what follows an acknowledgement."""
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
        self._holdings: WeakValueDictionary[str, Holding] = WeakValueDictionary()
        self._receivers: list[asyncio.Future[None]] = []
        """Of those who wait in `receive`."""
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
        peer, size = incoming.peer, incoming.size
        of_backend = peer.holding.bytes
        if (self._inbox and self._inbox_bytes + size > self.config.inbox_bytes) or (
            of_backend and of_backend + size > self.config.inbox_backend_bytes
        ):
            peer.part(GoodbyeCode.UNAVAILABLE, "the server is overloaded", self.config.retry_after)
            return
        if not self._inbox:
            self._wake_receivers()
        self._inbox.append(incoming)
        self._inbox_bytes += size
        peer.holds(incoming)
        self.polling.met(peer.awaited_until)

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
        # Why somebody was refused is told already.
        known = peer.told or not greeting
        logger.log(logging.DEBUG if known else logging.INFO, "%s left: %s", peer, error)

    async def receive(self) -> list[Incoming]:
        """See `Server.receive`."""
        while not self._inbox and not self.stopping:
            # Not an event of asyncio: every round trip waits here.
            arrival = self._loop.create_future()
            self._receivers.append(arrival)
            try:
                await arrival
            finally:
                self._receivers.remove(arrival)
        return self.taken()

    def _wake_receivers(self) -> None:
        for arrival in self._receivers:
            if not arrival.done():
                arrival.set_result(None)

    def taken(self) -> list[Incoming]:
        """See `Server.arrived`."""
        taken, self._inbox = self._inbox, []
        self._inbox_bytes = 0
        return taken

    def holding(self, backend: str) -> Holding:
        """What is held for `backend`; forgotten when nobody holds or sends anything for it."""
        return self._holdings.setdefault(backend, Holding())

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
        peer.told = True
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
        self._ticker = self._loop.call_later(self.config.session.tick, self.tick)

    def stop(self) -> None:
        """See `Server.stop`."""
        self.stopping = True
        self._wake_receivers()

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
