"""The event listener against a naive account of everything that was noted.

The account knows nothing of entries or epochs: it writes down what was noted when, and whoever
reads the reports keeps the highest count of those that say the same, as the store does. Whatever is
noted, shown again, deleted and timed, the two agree.
"""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from osmo_listener.listeners.objects import Event
from osmo_reports.bodies import PodEvent
from osmo_transport.message import Message
from tests.listener_rules.events import EPOCH, TTL, at, bodies, make_event, new_listener
from tests.listener_rules.harness import T0

KEYS = [
    {"pod": "a", "reason": "BackOff"},
    {"pod": "a", "reason": "Failed"},
    {"pod": "a", "reason": "Failed", "type": "Normal"},
    {"pod": "b", "reason": "Failed"},
]
"""What repeats are told apart by."""

Slot = tuple[int, int]
"""An Event: the index of its key, and which of the Events with this key."""


@dataclass
class World:
    """A listener whose owner is never late, and the account."""

    now: float = T0
    version: int = 0
    epoch: int = EPOCH
    live: dict[Slot, Event] = field(default_factory=dict)
    noted: dict[int, list[tuple[float, int]]] = field(default_factory=dict)
    """By key: when it was noted, and how often."""
    reports: dict[int, list[tuple[float, int]]] = field(default_factory=dict)
    """By key: when something new was reported, and by how much it raised the count."""
    vanished: int = 0

    def __post_init__(self) -> None:
        self.listener = new_listener()
        self._kept: dict[tuple[str, ...], int] = {}

    def note(self, slot: Slot, more: int, counted: bool) -> None:
        """Something is noted: of an Event that exists in its count or, once, in its time alone, if
        that rises."""
        old, self.version, moment = self.live.get(slot), self.version + 1, at(int(self.now))
        if old is None:
            name: dict[str, Any] = {"message": str(slot), **KEYS[slot[0]]}
            uid = f"{slot}-{self.version}"
            new = make_event(**name, uid=uid, rv=self.version, last=moment, count=more)
        else:
            counted = counted or moment == old.last_timestamp
            more = more if counted else 1
            metadata = msgspec.structs.replace(old.metadata, resource_version=str(self.version))
            count = old.count + more if counted else old.count
            new = msgspec.structs.replace(
                old, metadata=metadata, last_timestamp=moment, count=count
            )
        self.live[slot] = new
        self.noted.setdefault(slot[0], []).append((self.now, more))
        self.receive(self.listener.on_change(old, new, self.version, self.now))

    def show(self, slot: Slot) -> None:
        """An Event is shown once more."""
        event = self.live.get(slot)
        if event is not None:
            self.receive(self.listener.on_change(event, event, self.version, self.now))

    def delete(self, slot: Slot, seen: bool) -> None:
        """An Event goes, while somebody watches or not."""
        event = self.live.pop(slot, None)
        if event is not None:
            self.version += 1
            if seen:
                metadata = msgspec.structs.replace(
                    event.metadata, resource_version=str(self.version)
                )
                event = msgspec.structs.replace(event, metadata=metadata)
            self.vanished += not seen
            self.receive(self.listener.on_change(event, None, self.version, self.now))

    def wait(self, seconds: float) -> None:
        """Time passes."""
        end = self.now + seconds
        while (deadline := self.listener.next_deadline()) is not None and deadline <= end:
            self.now = deadline
            self.receive(self.listener.due(deadline))
        self.now = end

    def renew(self) -> None:
        """A new epoch, and its snapshot."""
        self.restart()
        self.snapshot()

    def restart(self) -> None:
        """A new epoch."""
        self.epoch += 1
        self.listener.restart(self.epoch)

    def snapshot(self) -> None:
        """The snapshot of the epoch."""
        snapshot = self.listener.snapshot(list(self.live.values()), self.version, self.now)
        self.receive(list(snapshot))

    def receive(self, messages: list[Message]) -> None:
        """Keep what says something new."""
        for message, body in zip(messages, bodies(messages), strict=True):
            assert message.version.epoch == self.epoch
            identity = (body.pod, body.type, body.reason, body.message, body.timestamp)
            more = body.count - self._kept.get(identity, 0)
            if more > 0:
                self._kept[identity] = body.count
                self.reports.setdefault(_key(body), []).append((self.now, more))

    def forget(self) -> None:
        """What was kept is lost."""
        self.reports.clear()
        self._kept.clear()

    def check(self, *, exact: bool) -> None:
        """Everything was reported, in time, not too often, and with the right counts; or, unless
        `exact`, with counts that are not too low."""
        self.wait(2 * TTL)
        assert self.listener.tracked == 0
        assert self.listener.vanished == self.vanished
        assert self.noted.keys() == self.reports.keys()
        for key, noted in self.noted.items():
            reports = self.reports[key]
            assert all(later - earlier >= TTL for (earlier, _), (later, _) in pairwise(reports))
            before = -1.0
            for moment, count in reports:
                since = [(when, times) for when, times in noted if before < when <= moment]
                assert all(moment - when <= TTL for when, _ in since)
                expected = sum(times for _, times in since)
                assert count == expected if exact else count >= expected
                before = moment
            assert noted[-1][0] <= before


def _key(body: PodEvent) -> int:
    pod = body.pod.removeprefix("osmo/")
    key = {"pod": pod, "reason": body.reason}
    return KEYS.index(key if body.type == "Warning" else {**key, "type": body.type})


SLOTS = st.tuples(st.integers(0, len(KEYS) - 1), st.integers(0, 1))
STEPS = st.one_of(
    st.tuples(st.just("note"), SLOTS, st.integers(1, 5), st.booleans()),
    st.tuples(st.just("show"), SLOTS),
    st.tuples(st.just("delete"), SLOTS, st.booleans()),
    st.tuples(st.just("wait"), st.sampled_from((10.0, TTL / 2, TTL, 1.5 * TTL))),
    st.tuples(st.just("renew")),
)
WITHOUT_EPOCHS = STEPS.filter(lambda step: step[0] != "renew")


def play(world: World, steps: list[tuple[Any, ...]]) -> None:
    for verb, *arguments in steps:
        getattr(world, verb)(*arguments)
        world.wait(0.25)


@settings(max_examples=150, deadline=None)
@given(st.lists(WITHOUT_EPOCHS, max_size=60))
def test_everything_noted_is_reported(steps: list[tuple[Any, ...]]) -> None:
    """Each burst is reported at once and then once in the time as long as it lasts, never more
    often, and the counts add up to all that was noted."""
    world = World()
    play(world, steps)
    world.check(exact=True)


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, max_size=60))
def test_new_epochs_lose_nothing(steps: list[tuple[Any, ...]]) -> None:
    """The same holds over new epochs, but that what is reported anew may be counted twice."""
    world = World()
    play(world, steps)
    world.check(exact=False)


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, max_size=40), st.lists(WITHOUT_EPOCHS, max_size=10))
def test_a_queue_that_lost_everything_gets_each_live_burst(
    before: list[tuple[Any, ...]], between: list[tuple[Any, ...]]
) -> None:
    """Of what was live when an epoch began and is so at its snapshot, whatever happened between the
    two, each pod, type and reason is reported in it."""
    world = World()
    play(world, before)
    world.forget()
    world.restart()
    lasting = {slot: event.metadata.uid for slot, event in world.live.items()}
    play(world, between)
    world.snapshot()
    live = {slot: event.metadata.uid for slot, event in world.live.items()}
    assert world.reports.keys() >= {slot[0] for slot, _ in lasting.items() & live.items()}
