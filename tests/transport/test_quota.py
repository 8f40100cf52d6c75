"""How much a backend may send, and for how long it is not read when that was more."""

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osmo_transport import Limits, QuotaConfig
from osmo_transport._bucket import Bucket
from osmo_transport._quota import (
    LOG_INTERVAL,
    LONGEST_PAUSE,
    LONGEST_WAIT,
    MAX_NAMED,
    OTHERS,
    SHORTEST_PAUSE,
    SLOWED_BATCH,
    SLOWED_FOR,
    Meter,
    Quotas,
)

RATES = st.floats(0.1, 1e6)
BURSTS = st.floats(0, 60)
SENDINGS = st.lists(st.tuples(st.floats(0, 20), st.integers(0, 10_000)), max_size=50)


@given(RATES, BURSTS, SENDINGS)
def test_who_waits_keeps_the_rate(
    rate: float, burst: float, sendings: list[tuple[float, int]]
) -> None:
    """Whatever is sent and whenever, by who waits as long as he is told: up to any moment it is no
    more than the burst, what came in the time until then, and the debt that is forgiven, which is
    only what one sending has beyond the longest pause."""
    bucket = Bucket(rate, burst, LONGEST_PAUSE)
    now = sent = forgiven = 0.0
    for pause, tokens in sendings:
        now += pause
        wait = bucket.take(tokens, now)
        assert wait <= LONGEST_PAUSE + 1e-6
        sent += tokens
        forgiven += max(0.0, tokens - LONGEST_PAUSE * rate)
        now += max(0.0, wait)
        assert sent <= (burst + now) * rate * (1 + 1e-9) + forgiven + 1e-6


@given(RATES, BURSTS, SENDINGS)
def test_who_keeps_the_rate_never_waits(
    rate: float, burst: float, sendings: list[tuple[float, int]]
) -> None:
    """Who sends no more than the burst at once, and no more than came in since the time before."""
    bucket = Bucket(rate, burst, LONGEST_PAUSE)
    now = 0.0
    for pause, wished in sendings:
        tokens = min(wished, int(rate * burst))
        now += max(pause, tokens / rate)
        assert bucket.take(tokens, now) <= 1e-6
    assert bucket.is_full(now + burst + 1e-6)


class Clock:
    """An event loop's time, and what is due at which; a test moves it."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> Any:
        entry = when, callback
        self._due.append(entry)

        class Handle:
            def cancel(_) -> None:  # noqa: N805
                self._due.remove(entry)

        return Handle()

    def move(self, seconds: float) -> None:
        until = self.now + seconds
        while due := [entry for entry in self._due if entry[0] <= until]:
            first = min(due, key=lambda entry: entry[0])
            self._due.remove(first)
            self.now = max(self.now, first[0])
            first[1]()
        self.now = until

    @property
    def waits(self) -> int:
        return len(self._due)


class Line:
    """A connection; it says how often it was paused, and whether it is."""

    def __init__(self) -> None:
        self.pauses = 0
        self.paused = False

    def pause(self) -> None:
        self.pauses += 1
        self.paused = True

    def resume(self) -> None:
        self.paused = False


def new_quotas(clock: Clock, messages: int = 10, size: int = 0, burst: float = 2.0) -> Quotas:
    loop: Any = clock
    return Quotas(QuotaConfig(messages=messages, bytes=size, burst=burst), loop)


def metered(quotas: Quotas, backend: str = "a") -> tuple[Meter, Line]:
    line = Line()
    meter = quotas.meter(backend, line)
    assert meter is not None
    return meter, line


def test_without_a_quota_nothing_is_accounted_for() -> None:
    """There is nothing to be called for each batch."""
    assert new_quotas(Clock(), messages=0).meter("a", Line()) is None


def test_within_its_quota_nobody_is_paused() -> None:
    """The burst at once, and the rate for ever."""
    clock = Clock()
    meter, line = metered(new_quotas(clock))
    meter.charge(20, 0, clock.now)
    for _ in range(100):
        clock.move(0.5)
        meter.charge(5, 0, clock.now)
    assert (line.pauses, clock.waits) == (0, 0)


@pytest.mark.parametrize(("messages", "size"), [(10, 0), (0, 10), (10, 1000), (1000, 10)])
def test_over_it_a_connection_is_paused_until_that_is_paid(messages: int, size: int) -> None:
    """For messages and for bytes, whichever is more, and what comes while the pause begins too."""
    clock = Clock()
    quotas = new_quotas(clock, messages, size, burst=0.0)
    meter, line = metered(quotas)
    meter.charge(5, 5, clock.now)
    meter.charge(5, 5, clock.now)
    assert (line.paused, line.pauses) == (True, 1)
    clock.move(0.99)
    assert meter.pauses
    clock.move(0.02)
    assert not line.paused
    assert not meter.pauses
    assert quotas.slowed == {"a": pytest.approx(1.0)}


def test_who_is_slowed_down_has_small_batches_and_no_precedence() -> None:
    """As long as it may still send what was held back."""
    clock = Clock()
    meter, _ = metered(new_quotas(clock, burst=0.0))
    assert not meter.slows(clock.now)
    meter.charge(1, 0, clock.now)
    clock.move(0.1)
    assert meter.slows(clock.now)
    clock.move(SLOWED_FOR)
    assert not meter.slows(clock.now)
    quiet, narrow = Limits(), Limits(batch_bytes=1000)
    assert QuotaConfig().narrowed(quiet) == quiet
    for quota in (QuotaConfig(messages=1), QuotaConfig(bytes=1)):
        assert quota.narrowed(quiet) == replace(quiet, batch_bytes=SLOWED_BATCH)
        assert quota.narrowed(narrow) == narrow


def test_a_pause_is_neither_short_nor_long() -> None:
    """Not worth its while otherwise, or others would take the client for dead."""
    clock = Clock()
    meter, line = metered(new_quotas(clock, 1000, burst=0.0))
    meter.charge(1, 0, clock.now)
    clock.move(SHORTEST_PAUSE * 0.99)
    assert line.paused
    clock.move(SHORTEST_PAUSE)
    assert not line.paused
    meter.charge(1_000_000, 0, clock.now)
    clock.move(LONGEST_PAUSE * 0.99)
    assert line.paused
    clock.move(LONGEST_PAUSE)
    assert not line.paused


def test_connections_of_a_backend_share_and_others_do_not() -> None:
    """The one that sends waits, for what the other has sent too; who is silent is not paused."""
    clock = Clock()
    quotas = new_quotas(clock, burst=0.0)
    (one, first), (two, second) = metered(quotas), metered(quotas)
    other, third = metered(quotas, "b")
    one.charge(10, 0, clock.now)
    assert (first.paused, second.paused, third.paused) == (True, False, False)
    two.charge(10, 0, clock.now)
    other.charge(1, 0, clock.now)
    clock.move(1.5)
    assert (first.paused, second.paused, third.paused) == (True, True, False)
    clock.move(1.0)
    assert not first.paused
    assert not second.paused


def test_who_connects_anew_owes_what_was_sent_before() -> None:
    """However many connections there are, and however often they are made."""
    clock = Clock()
    quotas = new_quotas(clock, burst=0.0)
    meter, _ = metered(quotas)
    meter.charge(20, 0, clock.now)
    meter.close()
    later, line = metered(quotas)
    assert line.paused
    clock.move(1.9)
    assert line.paused
    clock.move(0.2)
    assert not line.paused
    later.close()


def test_no_connection_is_held_back_for_ever_for_others() -> None:
    """Or its client would take the server for dead."""
    clock = Clock()
    quotas = new_quotas(clock, burst=0.0)
    (one, first), (two, _) = metered(quotas), metered(quotas)
    one.charge(100, 0, clock.now)
    waited = 0.0
    while first.paused:
        two.charge(100, 0, clock.now)
        clock.move(0.5)
        waited += 0.5
    assert waited == pytest.approx(LONGEST_WAIT, abs=0.6)


def test_a_flood_is_held_to_its_quota_for_hours() -> None:
    """Ten times as much as that would be sent by each of three connections: what is let through is
    the quota, each has a third of it, and nothing is left over."""
    clock = Clock()
    quotas = new_quotas(clock, 100, burst=10.0)
    lines = [metered(quotas) for _ in range(3)]
    through = [0, 0, 0]
    for _ in range(36_000):
        clock.move(0.1)
        for number, (meter, line) in enumerate(lines):
            if not line.paused:
                meter.charge(100, 0, clock.now)
                through[number] += 100
    assert sum(through) == pytest.approx(100 * 3600 + 1000, rel=0.01)
    assert min(through) == pytest.approx(max(through), rel=0.05)
    for meter, _ in lines:
        meter.close()
    assert clock.waits == 0
    clock.move(LONGEST_PAUSE + 10)
    quotas.tick(clock.now)
    assert not quotas._accounts


def test_who_comes_back_has_not_been_forgiven() -> None:
    """What a backend owes is remembered until it is paid, and no longer."""
    clock = Clock()
    quotas = new_quotas(clock, burst=1.0)
    meter, line = metered(quotas)
    meter.charge(40, 0, clock.now)
    meter.close()
    assert clock.waits == 0
    clock.move(1.0)
    quotas.tick(clock.now)
    meter, line = metered(quotas)
    meter.charge(1, 0, clock.now)
    assert line.paused
    meter.close()
    clock.move(3.3)
    quotas.tick(clock.now)
    assert not quotas._accounts


@pytest.mark.parametrize("messages", [0, 10])
def test_who_was_never_slowed_down_is_counted_with_nothing(messages: int) -> None:
    """From the moment at which he comes, so that a first time is seen to be one."""
    quotas = new_quotas(Clock(), messages)
    quotas.meter("a", Line())
    assert quotas.slowed == {"a": 0.0}


def test_names_that_are_counted_are_bounded() -> None:
    """Further ones are counted together."""
    clock = Clock()
    quotas = new_quotas(clock, burst=0.0)
    for number in range(MAX_NAMED + 2):
        meter, _ = metered(quotas, str(number))
        meter.charge(10, 0, clock.now)
    clock.move(1.0)
    assert len(quotas.slowed) == MAX_NAMED + 1
    assert quotas.slowed[OTHERS] == pytest.approx(2.0)


def test_an_operator_is_told_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    """Who is slowed down: a line for each backend, in a minute."""
    clock = Clock()
    quotas = new_quotas(clock, burst=0.0)
    meter, _ = metered(quotas, "evil\nname")
    caplog.set_level(logging.WARNING)
    for _ in range(100):
        meter.charge(10, 0, clock.now)
        clock.move(LOG_INTERVAL / 50)
    (first, _) = caplog.messages
    assert first == r"evil\nname sends more than its quota: it is slowed down"
