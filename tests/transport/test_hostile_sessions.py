"""Sessions whose other side says anything, at any time: two state machines."""

from contextlib import suppress
from dataclasses import fields

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from osmo_transport import (
    ConnectionLostError,
    CredentialRefusedError,
    FencedError,
    Limits,
    MessageTooLargeError,
    OutboxConfig,
    PeerError,
    SessionConfig,
    UsageError,
)
from osmo_transport.frames import Batch, Frame, Ping, Pong, Push, Refused, Stored, Welcome
from osmo_transport.session import Arrival, Greeting, ServerSession
from osmo_transport.session.client import KEPT_REFUSALS, MAX_PUSHED_KINDS
from osmo_transport.testing.kinds import EVENT, STATE
from tests.transport.builders import FRAMES, FRESH, HELLOS
from tests.transport.world import World

OWN = Limits(window_messages=6, window_bytes=1500, message_bytes=600, batch_bytes=500)
CONFIG = SessionConfig(limits=OWN, outbox=OutboxConfig(max_every_entries=16, max_every_bytes=5000))

REPORTS = st.tuples(
    st.sampled_from([STATE, EVENT]), st.sampled_from("abc"), st.sampled_from([0, 200, 532])
)
NEAR = st.integers(-1, 8)
SMALL_LIMITS = st.builds(
    Limits, **{each.name: st.sampled_from([0, 1, 100, 10_000]) for each in fields(Limits)}
)


class HostileServer(RuleBasedStateMachine):
    """A client keeps its ledger and its bounds, whatever it is told, and delivers what is left to
    the good server that it meets in the end."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(CONFIG)
        self.client = self.world.client
        self.connected = False
        self.epoch = 1

    @rule(reports=st.lists(REPORTS, min_size=1, max_size=6))
    def put(self, reports: list[tuple[str, str, int]]) -> None:
        for kind, key, size in reports:
            with suppress(MessageTooLargeError):
                self.world.put(kind, key, size)

    @precondition(lambda self: not self.connected)
    @rule(
        limits=SMALL_LIMITS,
        welcomes=st.booleans(),
        queue_epoch=st.sampled_from(["hostile", "memory-0"]),
        step=st.sampled_from([1, 10**14]),
    )
    def connect(self, limits: Limits, welcomes: bool, queue_epoch: str, step: int) -> None:
        self.client.connect(self.world.now)
        self.connected = True
        if welcomes:
            self.epoch += step
            self._say(Welcome(queue_epoch, self.epoch, 0, limits))

    @precondition(lambda self: self.connected)
    @rule(frame=FRAMES)
    def say_anything(self, frame: Frame) -> None:
        self._say(frame)

    @precondition(lambda self: self.connected)
    @rule(near=NEAR, refused=st.booleans(), text=st.text(max_size=2000))
    def answer(self, near: int, refused: bool, text: str) -> None:
        """What is in flight, or nearly."""
        number = max(0, self.client.sequence + near)
        self._say(Refused(number, text) if refused else Stored(number))

    @precondition(lambda self: self.connected)
    @rule(kind=st.integers(0, 2 * MAX_PUSHED_KINDS), version=NEAR)
    def push(self, kind: int, version: int) -> None:
        self._say(Push(f"kind-{kind}", max(0, version), b"pushed"))

    @rule(batches=st.integers(1, 4))
    def flush(self, batches: int) -> None:
        for _ in range(batches):
            batch = self.client.next_batch()
            assert batch is None or self.client.welcomed

    @rule(seconds=st.sampled_from([0.5, 1.0, 100.0]))
    def wait(self, seconds: float) -> None:
        self.world.now += seconds
        try:
            assert isinstance(self.client.tick(self.world.now), Ping | None)
        except ConnectionLostError:
            self._part()

    def _say(self, frame: Frame) -> None:
        try:
            answer = self.client.receive(frame, self.world.now)
        except (
            PeerError,
            CredentialRefusedError,
            FencedError,
            UsageError,
            ConnectionLostError,
        ):
            self._part()
        else:
            assert isinstance(answer, Pong | None)

    def _part(self) -> None:
        self.client.disconnect()
        self.connected = False

    @invariant()
    def within_bounds(self) -> None:
        self.world.check()
        window = list(self.client._window)
        assert sum(map(len, window[:-1])) <= OWN.window_bytes
        assert len(self.client.pushes) <= MAX_PUSHED_KINDS
        assert len(self.client.refusals) <= KEPT_REFUSALS

    def teardown(self) -> None:
        """A good server takes over."""
        self.client.disconnect()
        self.world.ends = (ConnectionLostError, PeerError)
        self.world.settle()


class HostileClient(RuleBasedStateMachine):
    """A server hands on what arrives without a gap, within its bounds, or ends the connection."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[Frame] = []
        self._begin()

    def _begin(self) -> None:
        self.server = ServerSession(CONFIG, 0.0)
        self.greeting: Greeting | None = None
        self.welcomed = False
        self.next = 1
        self.sizes: dict[int, int] = {}
        """Of the arrivals that are not acknowledged, by their last number."""

    @rule(frame=FRAMES)
    def say_anything(self, frame: Frame) -> None:
        self._say(frame)

    @precondition(lambda self: self.greeting is None)
    @rule(hello=HELLOS)
    def greet(self, hello: Frame) -> None:
        self._say(hello)

    @precondition(lambda self: self.greeting is not None and not self.welcomed)
    @rule()
    def welcome(self) -> None:
        self.server.welcome(FRESH)
        self.welcomed = True

    @precondition(lambda self: self.welcomed)
    @rule(messages=st.lists(st.binary(max_size=700), max_size=8), near=st.sampled_from([0, 0, 1]))
    def send(self, messages: list[bytes], near: int) -> None:
        self._say(Batch(self.next + near, tuple(messages)))

    @precondition(lambda self: self.sizes)
    @rule()
    def acknowledge(self) -> None:
        last = min(self.sizes)
        del self.sizes[last]
        assert self.server.acknowledge(last) == Stored(last)

    @rule(seconds=st.sampled_from([0.0, 1.0, 1000.0]))
    def wait(self, seconds: float) -> None:
        with suppress(ConnectionLostError, PeerError):
            assert isinstance(self.server.tick(seconds), Ping | None)

    def _say(self, frame: Frame) -> None:
        self.answers.clear()
        try:
            got = self.server.receive(frame, 0.0, self.answers.append)
        except (PeerError, UsageError, ConnectionLostError):
            self._begin()
            return
        if isinstance(got, Greeting):
            self.greeting = got
        elif isinstance(got, Arrival):
            assert self.welcomed
            assert got.first == self.next
            assert len(got.kinds) == len(got.encoded)
            assert all(map(len, got.encoded)) or self.answers
            self.next += len(got.encoded)
            self.sizes[self.next - 1] = got.size
        assert all(isinstance(answer, Pong | Refused) for answer in self.answers)

    @invariant()
    def within_bounds(self) -> None:
        sizes = list(self.sizes.values())
        assert sum(sizes[:-1]) <= OWN.window_bytes
        assert self.next - 1 - (min(self.sizes, default=self.next) - 1) <= OWN.window_messages + 8


TestHostileServer = HostileServer.TestCase
TestHostileClient = HostileClient.TestCase
