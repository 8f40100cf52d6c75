"""Durations in buckets."""

import math
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osmo_runtime.operations.figures import BOUNDS, LARGEST, PER_DECADE, SMALLEST, Histogram


def test_an_empty_histogram_answers_zero() -> None:
    """Before the first message there is nothing to divide by."""
    histogram = Histogram()
    assert (histogram.count, histogram.mean, histogram.maximum) == (0, 0.0, 0.0)
    assert histogram.percentile(99) == 0.0


@pytest.mark.parametrize("duration", [-5.0, -math.inf, math.inf, math.nan, 0.0])
def test_a_duration_that_is_none_counts_as_zero(duration: float) -> None:
    """A listener whose clock is ahead, or that tells no time, spoils no figure."""
    histogram = Histogram()
    histogram.record(duration)
    assert (histogram.count, histogram.mean, histogram.percentile(50)) == (1, 0.0, 0.0)


@pytest.mark.parametrize("duration", [3e7, 1e15, 1e303, sys.float_info.max])
def test_a_duration_beyond_every_bucket_counts_as_the_largest(duration: float) -> None:
    """A message that waited for a year, and one whose time is nonsense: the figures stay such."""
    histogram = Histogram()
    for _ in range(2):
        histogram.record(duration)
    figures = histogram.mean, histogram.maximum, histogram.percentile(50)
    assert (histogram.count, *figures) == (2, LARGEST, LARGEST, LARGEST)


@given(st.lists(st.floats(), min_size=1, max_size=20))
def test_every_figure_can_be_told(durations: list[float]) -> None:
    """Whatever was recorded."""
    histogram = Histogram()
    for duration in durations:
        histogram.record(duration)
    for figure in (histogram.mean, histogram.maximum, histogram.percentile(99)):
        assert 0 <= figure <= LARGEST


@settings(max_examples=100)
@given(
    st.lists(st.floats(SMALLEST, 1e5), min_size=1, max_size=200),
    st.sampled_from([0, 50, 90, 99, 100]),
)
def test_percentiles_are_at_most_a_bucket_too_high(durations: list[float], percent: float) -> None:
    """A percentile is never below the true one and at most one bucket above it."""
    histogram = Histogram()
    for duration in durations:
        histogram.record(duration)
    rank = max(1, math.ceil(len(durations) * percent / 100))
    true = sorted(durations)[rank - 1]
    assert (
        true * 0.999999 <= histogram.percentile(percent) <= true * 10 ** (1 / PER_DECADE) * 1.000001
    )
    assert histogram.mean == pytest.approx(sum(durations) / len(durations))


@given(st.lists(st.floats(0, 2e3), max_size=50))
def test_what_is_told_has_everything_once(durations: list[float]) -> None:
    """Each duration is in the bucket of the first bound that it does not exceed, give or take the
    rounding of a bound to three digits."""
    histogram = Histogram()
    for duration in durations:
        histogram.record(duration)
    told = histogram.told()
    assert (len(told), sum(told)) == (len(BOUNDS) + 1, len(durations))
    reached = 0
    for bound, count in zip(BOUNDS, told, strict=False):
        reached += count
        assert sum(d <= bound * 0.997 for d in durations) <= reached
        assert reached <= sum(d <= bound * 1.003 for d in durations)


def test_a_duration_may_stand_for_several() -> None:
    """Of a sample of many."""
    once, times = Histogram(), Histogram()
    for _ in range(7):
        once.record(0.25)
    times.record(0.25, 7)
    assert (times.count, times.total, times.told()) == (once.count, once.total, once.told())


def test_histograms_can_be_seen_as_one() -> None:
    """As those of all kinds."""
    parts, whole = (Histogram(), Histogram()), Histogram()
    for number, seconds in enumerate((0.001, 0.5, 0.25, 8.0)):
        parts[number % 2].record(seconds)
        whole.record(seconds)
    found = Histogram.sum_of(parts)
    assert (found.count, found.total, found.maximum) == (4, whole.total, 8.0)
    assert found.told() == whole.told()
    assert Histogram.sum_of([]).percentile(99) == 0


@pytest.mark.parametrize("bucket", range(0, 500, 7))
def test_a_duration_is_in_the_first_bucket_that_holds_it(bucket: int) -> None:
    """At its edges too, whatever floats make of them: a percentile is at most 5 % too high."""
    for seconds in (
        SMALLEST * 10 ** (bucket / PER_DECADE) * part for part in (0.9999, 1.0, 1.0001)
    ):
        histogram = Histogram()
        histogram.record(seconds)
        histogram.record(2 * LARGEST)
        assert seconds <= histogram.percentile(50) * (1 + 1e-9)
        assert histogram.percentile(50) <= max(seconds * 1.05, SMALLEST)


@pytest.mark.parametrize(
    "durations",
    [
        [],
        [0.5],
        [0.1 * n for n in range(1, 200)],
        [SMALLEST * 10 ** (n / PER_DECADE) for n in range(600)],
        [2.0, 0.0, -1.0, 3.0],
        [1.0, math.nan, 0.5],
        [1.0, math.inf],
        [1.0, 2 * LARGEST],
    ],
)
def test_durations_are_added_together_as_one_by_one(durations: list[float]) -> None:
    """Whatever is among them."""
    together, single = Histogram(), Histogram()
    together.record_all(durations)
    for seconds in durations:
        single.record(seconds)
    percents = (0.0, 1.0, 25.0, 50.0, 75.0, 99.0, 100.0)
    assert together.count == single.count
    assert together.total == pytest.approx(single.total)
    assert together.maximum == single.maximum
    assert list(together.told()) == list(single.told())
    assert list(map(together.percentile, percents)) == list(map(single.percentile, percents))
