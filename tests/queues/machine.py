"""A state machine that uses a queue in every way at once, and a naive account to check it."""

import asyncio
import itertools
from collections.abc import Coroutine
from typing import Any, ClassVar, TypeVar

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from osmo_transport.errors import FencedError
from osmo_transport.kinds import kind_of
from osmo_transport.message import Message
from osmo_transport.queues.abc import AppendOutcome, Consumer, Queue, QueueConfig
from osmo_transport.queues.delivery import (
    NEW,
    Ack,
    Delivery,
    Outcome,
    ProducerState,
    Reject,
    Retry,
)
from osmo_transport.testing.cancellation import cancel_at
from osmo_transport.testing.feeder import Feeder, report
from tests.queues.harness import MemoryHarness, RedisHarness, current

T = TypeVar("T")
LEASE = 10.0
CONFIG = QueueConfig(
    lease=LEASE, claim_interval=1.0, retry_base=1.0, retry_maximum=4.0, max_attempts=3
)
PATIENCE = 10.0
KINDS = ["update_pod", "snapshot_end", "update_node", "pod_event", "update_node_usage", "odd"]
BACKENDS = ["east", "west"]
NAMES = ["w0", "w1", "w2"]

names = st.sampled_from(NAMES)
producers = st.sampled_from(BACKENDS)
kinds = st.lists(st.sampled_from([*KINDS, ""]), min_size=1, max_size=5)
outcomes = st.lists(st.sampled_from("aarRxx"), min_size=1, max_size=6)
cuts = st.sampled_from([1, 1, 1, 2, 2, 3, 4, 5, 6, 7, 8, 10])


class QueueMachine(RuleBasedStateMachine):
    """The account: what was stored and not lost, and of that what was acknowledged as handled.

    Subclasses say which harness to use, and which messages.
    """

    tries_once_more: ClassVar[bool] = False
    """Whether what is taken over is delivered also after its last attempt, as another last one."""
    steps: ClassVar[int] = 0
    numbers: ClassVar["itertools.count[int]"] = itertools.count()

    def new_harness(self, name: str) -> MemoryHarness | RedisHarness:
        raise NotImplementedError

    def report(self, key: str, kind: str) -> Message:
        return report(key, kind)

    def arrives_as(self, sent: Message, delivery: Delivery) -> bool:
        """Whether this is the message that was sent, where it belongs."""
        return sent == delivery.message and delivery.stream == kind_of(sent.kind).stream

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.harness = self.new_harness(f"machine{next(self.numbers)}")
        self.consumers: dict[str, Consumer] = {}
        if isinstance(self.harness, RedisHarness):
            self.harness.live = self.consumers.values()
        self.held: dict[str, dict[str, Delivery]] = {name: {} for name in NAMES}
        self.stale: list[Delivery] = []
        self.retired: list[tuple[Feeder, ProducerState]] = []
        self.forget()

    def forget(self) -> None:
        """The store lost everything."""
        self.stored: dict[str, Message] = {}
        self.handled: set[str] = set()
        self.place: dict[str, tuple[str, int]] = {}
        self.first_seen: dict[tuple[str, str], int] = {}
        self.entry_of: dict[str, tuple[str, str]] = {}
        self.attempts: dict[str, int] = {}
        for held in self.held.values():
            held.clear()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        async def bounded() -> T:
            async with asyncio.timeout(PATIENCE):
                return await coroutine

        return self.runner.run(bounded())

    @initialize()
    def open(self) -> None:
        self.queue: Queue = self.run(self.harness.open_queue(current(CONFIG)))
        self.feeders = {backend: Feeder(self.queue, backend) for backend in BACKENDS}
        self.sent: dict[str, list[Message | None]] = {}
        for feeder in self.feeders.values():
            self.admit(feeder, NEW)

    def admit(self, feeder: Feeder, known: ProducerState) -> None:
        before = feeder.state
        self.run(feeder.open(known))
        if feeder.state.epoch != before.epoch:
            assert feeder.state.epoch > before.epoch
            assert feeder.state.sequence == 0
            self.sent[feeder.producer.backend] = []

    def make(self, chosen: list[str]) -> list[Message | None]:
        return [self.report(f"k{next(self.numbers)}", kind) if kind else None for kind in chosen]

    def record(self, feeder: Feeder, fresh: list[Message | None]) -> None:
        backend = feeder.producer.backend
        for message in fresh:
            self.sent[backend].append(message)
            if message is not None:
                self.stored[message.id] = message
                self.place[message.id] = (backend, next(self.numbers))
        assert feeder.state.sequence == len(self.sent[backend])

    # Producers

    @rule(backend=producers, chosen=kinds)
    def append(self, backend: str, chosen: list[str]) -> None:
        feeder, fresh = self.feeders[backend], self.make(chosen)
        assert self.run(feeder.append(*fresh)) is AppendOutcome.STORED
        self.record(feeder, fresh)

    @rule(backend=producers, back=st.integers(1, 8), chosen=kinds)
    def resend(self, backend: str, back: int, chosen: list[str]) -> None:
        """The end of what is stored comes again, with more after it."""
        feeder, fresh = self.feeders[backend], self.make(chosen)
        sent = self.sent[backend]
        again = sent[-back:]
        first = len(sent) - len(again) + 1
        assert self.run(feeder.append(*again, *fresh, first=first)) is AppendOutcome.STORED
        self.record(feeder, fresh)

    @rule(backend=producers, chosen=kinds, k=cuts)
    def append_cut(self, backend: str, chosen: list[str], k: int) -> None:
        """An append is cancelled somewhere, and comes again."""
        feeder, fresh = self.feeders[backend], self.make(chosen)
        self.run(cancel_at(k, self.queue.append([feeder.batch(*fresh)])))
        assert self.run(feeder.append(*fresh)) is AppendOutcome.STORED
        self.record(feeder, fresh)

    @rule(backend=producers, chosen=kinds, gap=st.integers(1, 3))
    def skip(self, backend: str, chosen: list[str], gap: int) -> None:
        feeder, fresh = self.feeders[backend], self.make(chosen)
        first = feeder.state.sequence + 1 + gap
        assert self.run(feeder.append(*fresh, first=first)) is AppendOutcome.LOST

    @rule(backend=producers, knows=st.booleans())
    def reopen(self, backend: str, knows: bool) -> None:
        """A process that goes on, or the one that takes its place."""
        feeder = self.feeders[backend]
        if not knows:
            old = Feeder(self.queue, backend)
            old.instance, feeder.instance = feeder.instance, old.instance
            self.retired.append((old, feeder.state))
        self.admit(feeder, feeder.state if knows else NEW)

    @rule(backend=producers, late=st.sampled_from([NEW, ProducerState("", 1, 0)]))
    def ask_late(self, backend: str, late: ProducerState) -> None:
        """A question that the process gave up long ago is carried out."""
        feeder = self.feeders[backend]
        asked = self.queue.open_producer(feeder.producer, feeder.instance, late)
        assert self.run(asked) == feeder.state

    @precondition(lambda self: self.retired)
    @rule(data=st.data(), chosen=kinds)
    def append_from_the_past(self, data: st.DataObject, chosen: list[str]) -> None:
        feeder, state = data.draw(st.sampled_from(self.retired))
        feeder.queue, feeder.state = self.queue, state
        assert self.run(feeder.append(*self.make(chosen))) is not AppendOutcome.STORED
        try:
            self.run(feeder.open())
        except FencedError:
            return
        raise AssertionError("a fenced producer was admitted")

    # Consumers

    @rule(name=names, limit=st.integers(1, 12))
    def receive(self, name: str, limit: int) -> None:
        consumer = self.consumers.get(name)
        if consumer is None:
            consumer = self.consumers[name] = self.queue.consumer("workers", name)
            self.held[name].clear()
        waiting = sum(self.run(self.queue.status()).waiting.values())
        try:
            taken = self.run(self._receive(consumer, limit, PATIENCE / 2 if waiting else 0.01))
        except TimeoutError:
            assert not waiting, "there are entries, and none is delivered"
            return
        assert 1 <= len(taken) <= limit
        for delivery in taken:
            self.check(delivery)
            self.held[name][delivery.message.id] = delivery

    async def _receive(self, consumer: Consumer, limit: int, patience: float) -> list[Delivery]:
        async with asyncio.timeout(patience):
            return await consumer.receive(limit)

    def check(self, delivery: Delivery) -> None:
        message = delivery.message
        assert self.arrives_as(self.stored[message.id], delivery)
        assert message.id not in self.handled, "a settled entry is delivered again"
        for held in self.held.values():
            assert message.id not in held, "an entry is on lease twice"
        backend, place = self.place[message.id]
        assert delivery.backend == backend
        entry = (delivery.stream, delivery.id)
        assert self.entry_of.setdefault(message.id, entry) == entry, "a message is stored twice"
        if message.id not in self.attempts:
            line = (backend, delivery.stream)
            assert place > self.first_seen.get(line, -1), "out of order"
            self.first_seen[line] = place
        attempts = self.attempts.get(message.id, 0)
        if not (self.tries_once_more and attempts == CONFIG.max_attempts):
            attempts += 1
        assert attempts <= delivery.attempt <= CONFIG.max_attempts
        self.attempts[message.id] = delivery.attempt

    def holder(self, name: str) -> str:
        """A consumer that holds something, this one if it does."""
        return next((n for n in (name, *NAMES) if self.held[n]), name)

    def choose(self, name: str, letters: list[str]) -> list[tuple[Delivery, Outcome]]:
        answers: dict[str, Outcome] = {
            "a": Ack(),
            "r": Retry("later", after=0.0),
            "R": Retry("much later"),
            "x": Reject("no"),
        }
        held = self.held[name].values()
        return [(d, answers[letter]) for d, letter in zip(held, letters, strict=False)]

    def settled(self, name: str, pairs: list[tuple[Delivery, Outcome]]) -> None:
        for delivery, outcome in pairs:
            del self.held[name][delivery.message.id]
            self.stale.append(delivery)
            if isinstance(outcome, Ack):
                self.handled.add(delivery.message.id)

    @rule(name=names, letters=outcomes)
    def settle(self, name: str, letters: list[str]) -> None:
        name = self.holder(name)
        if pairs := self.choose(name, letters):
            self.run(self.consumers[name].settle(pairs))
            self.settled(name, pairs)

    @rule(name=names, letters=outcomes, k=cuts)
    def settle_cut(self, name: str, letters: list[str], k: int) -> None:
        """A settlement is cancelled somewhere, and comes again."""
        name = self.holder(name)
        if pairs := self.choose(name, letters):
            self.run(cancel_at(k, self.consumers[name].settle(pairs)))
            self.run(self.consumers[name].settle(pairs))
            self.settled(name, pairs)

    @precondition(lambda self: self.stale)
    @rule(name=names, data=st.data())
    def settle_late(self, name: str, data: st.DataObject) -> None:
        """A delivery that was settled or lost is settled once more: no effect."""
        delivery = data.draw(st.sampled_from(self.stale))
        # What was given back comes again as the same attempt, and is the same delivery then.
        if name in self.consumers and delivery != self.held[name].get(delivery.message.id):
            self.run(self.consumers[name].settle([(delivery, Ack())]))

    @rule(name=names)
    def crash(self, name: str) -> None:
        if consumer := self.consumers.pop(name, None):
            self.run(self.harness.crash(consumer))
            self.stale += self.held[name].values()
            self.held[name].clear()

    @rule(name=names, k=st.sampled_from([0, 0, 0, 1, 2, 3, 4, 6, 8]))
    def leave(self, name: str, k: int) -> None:
        """A consumer leaves, perhaps cancelled while it does."""
        if consumer := self.consumers.pop(name, None):
            for delivery in self.held[name].values():
                # Given back, it comes with the same attempt again.
                self.attempts[delivery.message.id] = delivery.attempt - 1
                self.stale.append(delivery)
            self.held[name].clear()
            self.run(cancel_at(k, consumer.aclose()) if k else consumer.aclose())

    # People

    @rule(count=st.integers(1, 4), k=st.sampled_from([0, 0, 1, 2, 3, 5]))
    def replay(self, count: int, k: int) -> None:
        """Dead letters are put back, perhaps cut short and then again, as entries that are new."""
        letters = self.run(self.queue.dead_letters(count))
        named = [letter.id for letter in letters]
        if k:
            self.run(cancel_at(k, self.queue.replay(named)))
        self.run(self.queue.replay(named))
        for letter in letters:
            assert letter.message is not None
            self.entry_of.pop(letter.message.id, None)
            self.attempts[letter.message.id] = 0

    # The world

    @rule(seconds=st.sampled_from([0.5, 1.0, LEASE]))
    def pass_time(self, seconds: float) -> None:
        self.run(self.harness.pass_time(seconds))

    @rule(chance=st.integers(0, 9))
    def wipe(self, chance: int) -> None:
        if chance:
            return  # rarely, or nothing else would come to pass
        before = self.queue
        self.queue = self.run(self.harness.wipe(self.queue))
        if self.queue is not before:
            self.consumers.clear()
        for held in self.held.values():
            self.stale += held.values()
        self.forget()
        self.retired.clear()
        for feeder in self.feeders.values():
            feeder.queue = self.queue
            lost = self.report("lost", KINDS[0])
            assert self.run(feeder.append(lost)) is AppendOutcome.LOST
            self.admit(feeder, feeder.state)

    # What must always hold

    @invariant()
    def everything_is_accounted_for(self) -> None:
        type(self).steps += 1
        status = self.run(self.queue.status())
        waiting, pending = sum(status.waiting.values()), sum(status.pending.values())
        letters = self.run(self.queue.dead_letters(10_000))
        dead = [letter.message.id for letter in letters if letter.message]
        assert len(dead) == len(set(dead)) == status.dead
        assert set(dead) <= self.stored.keys() - self.handled
        assert waiting + pending + len(dead) + len(self.handled) == len(self.stored)
        assert pending >= sum(map(len, self.held.values()))

    def teardown(self) -> None:
        """Everything that is not handled or dead is delivered to a last consumer."""
        try:
            if hasattr(self, "queue"):
                self.run(self._finish())
        finally:
            self.runner.close()

    async def _finish(self) -> None:
        for consumer in self.consumers.values():
            await consumer.aclose()
        self.consumers.clear()
        self.held = {"last": {}}
        self.attempts = {mid: attempt - 1 for mid, attempt in self.attempts.items()}
        await self.harness.pass_time(10 * LEASE)
        async with self.queue as queue, queue.consumer("workers", "last") as last:
            held: set[str] = set()
            while True:
                status = await queue.status()
                left = sum(status.waiting.values()) + sum(status.pending.values())
                if left == len(held):
                    break
                try:
                    taken = await self._receive(last, 100, PATIENCE / 5)
                except TimeoutError:
                    raise AssertionError(f"{left - len(held)} entries are not delivered") from None
                held |= {delivery.message.id for delivery in taken}
            letters = await queue.dead_letters(10_000)
            dead = {letter.message.id for letter in letters if letter.message}
            assert held | dead | self.handled == self.stored.keys()
            assert len(held) + len(dead) + len(self.handled) == len(self.stored)
