"""A client session, a server's sessions and a store, and between them a link that tests can break.

It does what `Client`, `Server` and the operator's relay do with the sessions, one small step at a
time, and keeps a ledger of everything that was put, sent, stored and acknowledged.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from msgspec.structs import replace

from osmo_transport import (
    ConnectionLostError,
    Message,
    Policy,
    ProducerBatch,
    ProducerState,
    Version,
    kind_of,
    new_message,
    read_message,
)
from osmo_transport.errors import TransportError
from osmo_transport.frames import Batch, Frame, Goodbye, GoodbyeCode, Limits, Stored, Welcome
from osmo_transport.queues.delivery import Producer
from osmo_transport.session import (
    Arrival,
    ClientSession,
    Greeting,
    ServerSession,
    SessionConfig,
)
from osmo_transport.session.admission import Border, Place, admit

PRODUCER = Producer("backend", "listener")


class Store:
    """A queue that keeps the contract of `Queue` for one producer, and a log for the tests."""

    def __init__(self) -> None:
        self.wipes = 0
        self.place: Place | None = None
        self.log: list[tuple[int, Message]] = []
        """Each stored message, with the epoch under which it came."""

    @property
    def queue_epoch(self) -> str:
        return f"memory-{self.wipes}"

    @property
    def messages(self) -> list[Message]:
        return [message for _, message in self.log]

    def wipe(self) -> None:
        """Lose everything, as FLUSHALL does."""
        self.wipes += 1
        self.place = None
        self.log = []

    def admit(self, greeting: Greeting) -> ProducerState:
        """Let the client in, by the product's own rule."""
        instance, known = greeting.instance, greeting.known
        self.place = admit(self.place, Border(), self.queue_epoch, instance, known, 0.0)
        return ProducerState(self.queue_epoch, self.place.epoch, self.place.sequence)

    def append(self, batch: ProducerBatch) -> bool:
        """Whether the batch is stored; False: the store does not remember what came before it."""
        place = self.place
        if place is None or batch.state.queue_epoch != self.queue_epoch:
            return False
        if batch.state.epoch != place.epoch or batch.first > place.sequence + 1:
            return False
        fresh = batch.after(place.sequence)
        self.log += [(place.epoch, read_message(data)) for _, data in fresh]
        self.place = replace(place, sequence=max(place.sequence, batch.last))
        return True


@dataclass
class Wire:
    """One connection: what is on its way, and what the server did not finish."""

    server: ServerSession
    to_server: deque[Frame] = field(default_factory=deque)
    to_client: deque[Frame] = field(default_factory=deque)
    greeting: Greeting | None = None
    welcomed: bool = False
    received: deque[ProducerBatch] = field(default_factory=deque)
    stored: deque[ProducerBatch] = field(default_factory=deque)
    next_sequence: int = 0
    """What the client has to send next, once it is welcomed."""
    alive: bool = True
    """Whether the server's side has not seen the end."""


class World:
    """Everything; the steps are methods, the ledger attributes, `check` the invariants."""

    def __init__(
        self,
        config: SessionConfig,
        make_client: Callable[..., ClientSession] = ClientSession,
        make_server: Callable[..., ServerSession] = ServerSession,
    ) -> None:
        self.client = make_client(PRODUCER, "one", config)
        self.config = config
        self.limits = config.limits
        self.make_server = make_server
        self.store = Store()
        self.now = 0.0
        self.wire: Wire | None = None
        self.old_wires: list[Wire] = []
        self.puts: list[Message] = []
        self.sent: dict[tuple[int, int], bytes] = {}
        self.refused: set[str] = set()
        self.acknowledged: set[str] = set()
        self.wiped: set[str] = set()
        """Ids that were stored and then wiped."""
        self.epochs: list[int] = []
        self.broken = False
        self.ends: tuple[type[TransportError], ...] = (ConnectionLostError,)
        """What may end a connection at the client."""

    # the listener

    def put(
        self,
        kind: str,
        key: str,
        size: int,
        *,
        final: bool = False,
        at_once: bool = False,
        taken: bool = True,
    ) -> None:
        """`at_once`: it may leave at once; `taken`: if it does, the link takes it."""
        version = Version(self.client.epoch, len(self.puts) + 1)
        message = new_message(kind, key, b"x" * size, version=version, final=final)
        wire = self.wire
        batch = self.client.put(message, at_once)
        self.puts.append(message)
        if batch is None:
            return
        if wire is None or not taken:
            self.client.take_back()
        else:
            self._check_batch(wire, batch)
            wire.to_server.append(batch)

    # the link

    def connect(self) -> None:
        assert self.wire is None
        hello = self.client.connect(self.now)
        self.wire = Wire(self.make_server(SessionConfig(limits=self.limits), self.now))
        self.wire.to_server.append(hello)

    def lose(self, frames_that_arrive: int = 0) -> None:
        """The client sees the end; some of what is on its way still reaches the server."""
        wire = self.wire
        assert wire is not None
        self.client.disconnect()
        while len(wire.to_server) > frames_that_arrive:
            wire.to_server.pop()
        self.old_wires.append(wire)
        self.wire = None

    def flush(self, batches: int = 1000) -> int:
        """The client sends up to so many batches; how many there were."""
        wire = self.wire
        if wire is None:
            return 0
        for count in range(batches):
            batch = self.client.next_batch()
            if batch is None:
                return count
            self.refused |= {refusal.id for refusal in self.client.refusals}
            self._check_batch(wire, batch)
            wire.to_server.append(batch)
        return batches

    def deliver_to_server(self, wire: Wire, frames: int = 1000) -> None:
        while wire.to_server and frames and wire.alive:
            frames -= 1
            try:
                got = wire.server.receive(wire.to_server.popleft(), self.now, wire.to_client.append)
            except ConnectionLostError:
                wire.alive = False
                continue
            if isinstance(got, Greeting):
                wire.greeting = got
            elif isinstance(got, Arrival):
                place = wire.server.state
                wire.received.append(
                    ProducerBatch(PRODUCER, place, got.first, got.kinds, got.encoded)
                )

    def deliver_to_client(self, frames: int = 1000) -> None:
        while self.wire is not None and self.wire.to_client and frames:
            frames -= 1
            self._client_receives(self.wire, self.wire.to_client.popleft())

    def _client_receives(self, wire: Wire, frame: Frame) -> None:
        before = self.client.sequence
        epoch = self.client.epoch
        try:
            answer = self.client.receive(frame, self.now)
        except self.ends:
            self.lose(len(wire.to_server))
            return
        self.refused |= {refusal.id for refusal in self.client.refusals}
        if isinstance(frame, Welcome):
            wire.welcomed = True
            wire.next_sequence = frame.sequence + 1
            self.epochs.append(self.client.epoch)
        if isinstance(frame, Stored | Welcome) and self.client.epoch == epoch:
            self._check_acknowledged(epoch, before + 1, self.client.sequence)
        if answer is not None:
            wire.to_server.append(answer)

    # the operator

    def admit(self, wire: Wire) -> None:
        if wire.greeting is None or not wire.alive:
            return
        greeting, wire.greeting = wire.greeting, None
        try:
            state = self.store.admit(greeting)
        except TransportError as exc:
            self.part(wire, GoodbyeCode.FENCED, str(exc))
            return
        wire.to_client.append(wire.server.welcome(state))

    def append(self, wire: Wire, batches: int = 1000) -> None:
        """Store batches, also those of a connection that has ended meanwhile."""
        while wire.received and batches:
            batches -= 1
            batch = wire.received.popleft()
            if self.store.append(batch):
                wire.stored.append(batch)
            else:
                wire.received.clear()
                self.part(wire, GoodbyeCode.RESYNC, "the queue lost its memory")

    def acknowledge(self, wire: Wire, batches: int = 1000) -> None:
        while wire.stored and batches:
            batches -= 1
            answer = wire.server.acknowledge(wire.stored.popleft().last)
            if answer is not None and wire.alive:
                wire.to_client.append(answer)

    def part(self, wire: Wire, code: GoodbyeCode, reason: str) -> None:
        if wire.alive:
            wire.to_client.append(Goodbye(code, reason))
            wire.alive = False

    def restart(self, limits: Limits | None = None) -> None:
        """The operator's process starts anew; the store lives on."""
        self.old_wires.clear()
        if self.wire is not None:
            self.lose()
            self.old_wires.clear()
        self.limits = limits or self.limits

    def wipe(self) -> None:
        """The store forgets; what it had acknowledged is lost."""
        self.wiped |= {message.id for message in self.store.messages}
        self.store.wipe()

    # time

    def tick(self, seconds: float) -> None:
        """Time passes at both ends."""
        self.now += seconds
        if self.wire is None:
            return
        try:
            ping = self.client.tick(self.now)
        except ConnectionLostError:
            self.lose()
            return
        if ping is not None:
            self.wire.to_server.append(ping)

    # the end

    def settle(self) -> None:
        """No more faults: everything goes through."""
        for _ in range(1000):
            if not self.client.unsettled:
                break
            if self.wire is None:
                self.connect()
            wire = self.wire
            assert wire is not None
            self.flush()
            self.deliver_to_server(wire)
            if not wire.alive and not wire.to_client:
                self.lose()
                continue
            self.admit(wire)
            self.append(wire)
            self.acknowledge(wire)
            self.deliver_to_client()
        self._require(not self.client.unsettled, "it does not come to rest")

    # the invariants

    def check(self) -> None:
        """What holds after every step."""
        client, limits = self.client, self.config.limits
        total = client.settled + client.in_flight + len(client.outbox)
        self._require(total == len(self.puts), "the ledger does not balance")
        self._require(client.in_flight <= limits.window_messages, "more than the window")
        self._require(self.epochs == sorted(self.epochs), "an epoch went back")
        self._check_order()

    def _require(self, condition: bool, violation: str) -> None:
        if not condition:
            self.broken = True
            raise AssertionError(violation)

    def _check_batch(self, wire: Wire, batch: Batch) -> None:
        self._require(wire.welcomed, "a batch before the welcome")
        self._require(batch.first == wire.next_sequence, "a gap or a step back")
        wire.next_sequence += len(batch.messages)
        for sequence, message in enumerate(batch.messages, batch.first):
            taken = self.client._window[sequence - self.client.sequence - 1]
            self._require(message in (taken, b""), "another message than in the window")
            known = self.sent.setdefault((self.client.epoch, sequence), taken)
            self._require(known == taken, "another message under the same number")
        epoch, acknowledged = self.client.epoch, self.client.sequence
        in_flight = [self.sent[epoch, n] for n in range(acknowledged + 1, wire.next_sequence)]
        agreed = self.config.limits.agreed(self.limits)
        self._require(len(in_flight) <= agreed.window_messages, "more in flight than agreed")
        before = sum(map(len, in_flight[:-1]))
        self._require(before < agreed.window_bytes, "more bytes in flight than agreed")

    def _check_acknowledged(self, epoch: int, first: int, last: int) -> None:
        stored = {message.id for message in self.store.messages}
        for sequence in range(first, last + 1):
            message = read_message(self.sent[epoch, sequence]).id
            known = message in stored | self.wiped | self.refused
            self._require(known, "acknowledged and not stored")
            self.acknowledged.add(message)

    def _check_order(self) -> None:
        newest: dict[tuple[int, str, str], int] = {}
        for epoch, message in self.store.log:
            place = (epoch, message.kind, message.key)
            rises = newest.get(place, 0) < message.version.revision
            self._require(rises, "the order of a key")
            newest[place] = message.version.revision

    def check_complete(self) -> None:
        """What holds when everything has settled."""
        stored = {message.id for message in self.store.messages}
        lost_by_store = self.wiped & self.acknowledged
        excused = self.refused | lost_by_store
        every = [m.id for m in self.puts if kind_of(m.kind).policy is Policy.EVERY]
        missing = [name for name in every if name not in stored | excused]
        counted = len(missing) <= self.client.outbox.dropped
        self._require(counted, "lost without being counted")
        keys = {message.key for message in self.puts if message.id in excused}
        newest = _newest(self.puts, keys)
        same = newest == _newest(self.store.messages, keys)
        self._require(same, "the newest is not there")


def _newest(messages: list[Message], excused: set[str]) -> dict[tuple[str, str], Message]:
    """What a store keeps of `latest` kinds after these reports, some keys left out."""
    kept: dict[tuple[str, str], Message] = {}
    for message in messages:
        if kind_of(message.kind).policy is Policy.LATEST and message.key not in excused:
            place = (message.kind, message.key)
            if place not in kept or message.supersedes(kept[place]):
                kept[place] = message
    return kept
