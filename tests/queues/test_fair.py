"""The order in which a consumer reads the streams."""

from collections import Counter

import hypothesis.strategies as st
import pytest
from hypothesis import example, given, settings

from osmo_transport.queues.fair import FairOrder
from osmo_transport.testing.kinds import FIRST, LAST, SECOND, THIRD, WEIGHTS


def read(order: FairOrder, holding: set[str]) -> str:
    """One read of a single entry, by a consumer that does not know who holds entries."""
    empty: list[str] = []
    for stream in order.order():
        if stream in holding:
            order.done([stream], empty)
            return stream
        empty.append(stream)
    raise AssertionError("nothing to read")


def test_begins_with_the_heaviest() -> None:
    """At first the streams are tried by weight."""
    assert FairOrder(WEIGHTS).order() == [FIRST, SECOND, THIRD, LAST]


def test_shares_by_weight() -> None:
    """Over `sum(weights)` reads each stream has exactly its weight's share."""
    order = FairOrder(WEIGHTS)
    reads = Counter(read(order, set(WEIGHTS)) for _ in range(sum(WEIGHTS.values())))
    assert reads == WEIGHTS


def test_shares_by_weight_while_others_are_idle() -> None:
    """Idle streams leave the proportion between the others as it is."""
    order = FairOrder(WEIGHTS)
    reads = Counter(read(order, {FIRST, LAST}) for _ in range(90))
    assert reads == {FIRST: 80, LAST: 10}


def test_idleness_earns_nothing() -> None:
    """A stream that was idle for long does not lock the others out when it wakes."""
    order = FairOrder({"a": 1, "b": 1})
    for _ in range(100):
        read(order, {"a"})
    assert Counter(read(order, {"a", "b"}) for _ in range(10)) == {"a": 5, "b": 5}


@settings(max_examples=100, deadline=None)
@example(weights=[1, 1], patient=1, moves=[set(), {0}, {0}])
@example(weights=[1, 2], patient=0, moves=[set(), {0, 1}, {0, 1}, {0, 1}])
@given(
    weights=st.lists(st.integers(1, 9), min_size=2, max_size=5),
    patient=st.integers(0, 4),
    moves=st.lists(st.sets(st.integers(0, 4)), max_size=80),
)
def test_starves_none(weights: list[int], patient: int, moves: list[set[int]]) -> None:
    """Whatever the others do, a stream that holds entries is read within `sum(weights)` reads."""
    streams = {str(i): weight for i, weight in enumerate(weights)}
    order = FairOrder(streams)
    waits = 0
    for holding in moves:
        mine = str(patient % len(weights))
        others = {str(i) for i in holding if i < len(weights)}
        waits = 0 if read(order, others | {mine}) == mine else waits + 1
        assert waits < sum(weights)


@pytest.mark.parametrize("weights", [{"a": 3, "b": 7}, {"a": 5, "b": 5, "c": 1}])
def test_is_exact_over_long_runs(weights: dict[str, int]) -> None:
    """No rounding: the shares are exact after any multiple of `sum(weights)` reads."""
    order = FairOrder(weights)
    for _ in range(1000):
        reads = Counter(read(order, set(weights)) for _ in range(sum(weights.values())))
        assert reads == weights
