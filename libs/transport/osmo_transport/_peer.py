"""One connection of a client at the server: what it sends, what is held for it, what it is told."""

import asyncio
import logging
from collections import deque
from itertools import count
from typing import TYPE_CHECKING

from osmo_transport._crowds import Holding
from osmo_transport._gate import Pass
from osmo_transport._quota import Meter
from osmo_transport._text import shown
from osmo_transport.errors import (
    ConnectionLostError,
    CredentialExpiredError,
    CredentialRefusedError,
    FencedError,
    OccupiedError,
    PeerError,
    TransportError,
    UsageError,
)
from osmo_transport.frames import Credential, Frame, Goodbye, GoodbyeCode, Occupied, Pong, Push
from osmo_transport.peers import host_of, network_of
from osmo_transport.queues.delivery import ProducerBatch, ProducerState
from osmo_transport.session import Arrival, Greeting, ServerSession
from osmo_transport.transports.abc import Connection, FrameSink

if TYPE_CHECKING:
    from osmo_transport._hub import Hub

logger = logging.getLogger("osmo_transport.server")

MESSAGE_OVERHEAD = 64
"""Bytes that holding a message takes beyond its own."""

OVERTAKEN = "a newer client of this backend reports now"
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
        self.told = False
        """Whether the log has why it has to go."""
        self.alive = True
        self.admission: asyncio.Task[None] | None = None
        """While it is asked for whether to let it in; ends with the connection."""
        self.holding = Holding()
        """What is held for its backend, once that is known."""
        self._meter: Meter | None = None
        self._held: deque[tuple[int, int]] = deque()
        """Of the batches that wait for their answers, the last sequence number and the bytes."""
        self._stored = 0
        self.awaited_until = 0.0
        """Until when its next batch is one that was stayed awake for."""
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
        self.holding = self._hub.holding(backend)
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
        self.holding.bytes += incoming.size

    def let_go(self, last: int) -> None:
        """The batches up to the one that ends with the sequence number `last` are answered."""
        held = self._held
        while held and held[0][0] <= last:
            self.holding.bytes -= held.popleft()[1]

    def acknowledge(self, batch: ProducerBatch) -> None:
        """A batch of its is stored."""
        last = batch.last
        self._stored = max(self._stored, last)
        # A client that does not read is not acknowledged, so that its window bounds what it can
        # send; one acknowledgement makes up for all when it reads again.
        if self._connection.writable:
            self._acknowledge_stored()
        self.let_go(last)
        self._hub.stored(batch.producer, batch.state.epoch, last)

    def _acknowledge_stored(self) -> None:
        stored = self.session.acknowledge(self._stored) if self.alive else None
        if stored is not None:
            self._connection.send(stored)
            if not self._connection.local:
                self.awaited_until = self._hub.polling.expect()

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
        self.told = True
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
