"""Delivery under any order of faults: sessions, outbox and store as one state machine."""

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, Verbosity, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from osmo_runtime.build import core
from osmo_transport import (
    Limits,
    MessageTooLargeError,
    OutboxConfig,
    SessionConfig,
)
from osmo_transport.frames import Batch, Credential, Frame
from osmo_transport.session import Arrival, ClientSession, Greeting, ServerSession
from osmo_transport.testing.kinds import EVENT, OTHER, STATE
from tests.transport.world import Wire, World

LIMITS = Limits(window_messages=6, window_bytes=1500, message_bytes=600, batch_bytes=500)
NARROW = Limits(window_messages=3, window_bytes=700, message_bytes=400, batch_bytes=300)
OUTBOX = OutboxConfig(max_every_entries=16, max_every_bytes=5000)

KINDS = st.sampled_from([STATE, OTHER, EVENT, "testing_unknown"])
KEYS = st.sampled_from(["a", "b", "c", "d"])
SIZES = st.sampled_from([0, 10, 200, 332, 532])
"""Of payloads; the last two are as large as the limits above allow, or just over them."""
REPORTS = st.tuples(KINDS, KEYS, SIZES, st.booleans())
FEW = st.integers(1, 5)
FAULTS = ("cut", "cut", "restart", "narrow", "wipe", "renew", "pause", "none")
PLACES = st.integers(0, 3)


class Delivery(RuleBasedStateMachine):
    """Each rule is one small step of one of the parties, or a fault."""

    steps = 0
    make_client: Callable[..., ClientSession] = ClientSession
    make_server: Callable[..., ServerSession] = ServerSession

    def __init__(self) -> None:
        super().__init__()
        config = SessionConfig(limits=LIMITS, outbox=OUTBOX)
        cls = type(self)
        self.world = World(config, cls.make_client, cls.make_server)

    def _wire(self, place: int) -> Wire | None:
        """The present connection, or a former one that the server has not finished with."""
        world = self.world
        if place == 0 or not world.old_wires:
            return world.wire
        return world.old_wires[-min(place, len(world.old_wires))]

    @rule(
        reports=st.lists(REPORTS, min_size=1, max_size=8),
        at_once=st.booleans(),
        taken=st.booleans(),
    )
    def put(self, reports: list[tuple[str, str, int, bool]], at_once: bool, taken: bool) -> None:
        for kind, key, size, final in reports:
            with suppress(MessageTooLargeError):
                self.world.put(kind, key, size, final=final, at_once=at_once, taken=taken)

    @precondition(lambda self: self.world.wire is None)
    @rule(slowly=st.sampled_from([False, False, True]))
    def connect(self, slowly: bool) -> None:
        self.world.connect()
        wire = self.world.wire
        if not slowly and wire is not None:
            self.world.deliver_to_server(wire)
            self.world.admit(wire)
            self.world.deliver_to_client()

    @precondition(lambda self: self.world.client.welcomed)
    @rule(batches=FEW)
    def flush(self, batches: int) -> None:
        self.world.flush(batches)

    @rule(place=PLACES, frames=FEW, batches=FEW)
    def server_works(self, place: int, frames: int, batches: int) -> None:
        """Read, let in, store; the acknowledgements stay behind."""
        if wire := self._wire(place):
            self.world.deliver_to_server(wire, frames)
            self.world.admit(wire)
            self.world.append(wire, batches)

    @rule(place=PLACES, frames=FEW)
    def server_reads(self, place: int, frames: int) -> None:
        if wire := self._wire(place):
            self.world.deliver_to_server(wire, frames)

    @precondition(lambda self: self.world.wire is not None)
    @rule(place=PLACES, batches=FEW, frames=FEW)
    def acknowledge(self, place: int, batches: int, frames: int) -> None:
        if wire := self._wire(place):
            self.world.acknowledge(wire, batches)
            self.world.deliver_to_client(frames)

    @precondition(lambda self: self.world.wire is not None and self.world.wire.to_client)
    @rule(frames=FEW)
    def client_reads(self, frames: int) -> None:
        self.world.deliver_to_client(frames)

    @rule(fault=st.sampled_from(FAULTS), frames_that_arrive=FEW)
    def strike(self, fault: str, frames_that_arrive: int) -> None:
        world = self.world
        match fault:
            case "cut" if world.wire is not None:
                world.lose(frames_that_arrive - 1)
            case "restart":
                world.restart(LIMITS)
            case "narrow":
                world.restart(NARROW)
            case "wipe":
                world.wipe()
            case "renew":
                world.client.renew_epoch()
                if world.wire is not None:
                    world.lose()
            case "pause":
                world.tick(16.0)
            case _:
                world.tick(1.0)

    @invariant()
    def holds(self) -> None:
        type(self).steps += 1
        self.world.check()

    def teardown(self) -> None:
        if not self.world.broken:
            self.world.settle()
            self.world.check()
            self.world.check_complete()


def _run(machine: type[Delivery], examples: int, **options: Any) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=50,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
            **options,
        ),
    )


def test_nothing_is_lost_whatever_happens() -> None:
    """Every invariant of the world holds after every step, and everything arrives in the end."""
    long = settings.get_current_profile_name() == "long"
    Delivery.steps = 0
    _run(Delivery, 4000 if long else 100, derandomize=not long)
    logging.getLogger(__name__).info("%d steps", Delivery.steps)
    assert Delivery.steps >= (100_000 if long else 2_000)


class _AcknowledgesAtOnce(ServerSession):
    def receive(
        self, frame: Frame, now: float, send: Callable[[Frame], None]
    ) -> Greeting | Arrival | Credential | None:
        got = super().receive(frame, now, send)
        if isinstance(got, Arrival):
            answer = self.acknowledge(got.first + len(got.encoded) - 1)
            if answer is not None:
                send(answer)
        return got


class _ResendsOutOfOrder(ClientSession):
    def _take_again(self, offset: int, count: int, room: int) -> list[bytes]:
        return super()._take_again(offset, count, room)[::-1]


class _DropsWhenFull(ClientSession):
    def next_batch(self) -> Batch | None:
        batch = super().next_batch()
        if batch is None and self.welcomed and len(self.outbox):
            self.outbox.take(1, 1)
            self.settled += 1
        return batch


class _AcknowledgesBeforeAppend(Delivery):
    make_server = _AcknowledgesAtOnce


class _Reorders(Delivery):
    make_client = _ResendsOutOfOrder


class _Drops(Delivery):
    make_client = _DropsWhenFull


@pytest.mark.skipif(core() == "compiled core", reason="no bug can be planted in compiled code")
@pytest.mark.parametrize(
    ("machine", "finding"),
    [
        (_AcknowledgesBeforeAppend, "acknowledged and not stored"),
        (_Reorders, "another message than in the window"),
        (_Drops, "lost without being counted|the newest is not there"),
    ],
)
def test_a_planted_bug_is_found(machine: type[Delivery], finding: str) -> None:
    """The machine can fail: it catches each of three classic mistakes."""
    with pytest.raises(AssertionError, match=finding):
        _run(machine, 300, derandomize=True, phases=[Phase.generate], verbosity=Verbosity.quiet)
