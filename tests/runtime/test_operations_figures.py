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
