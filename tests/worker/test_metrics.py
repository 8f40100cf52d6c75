"""The histogram and the ledger."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osmo_worker.metrics import GROWTH, SMALLEST, Histogram


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


def test_a_duration_beyond_every_bucket_is_kept() -> None:
    """A message that waited for a year is counted, and the maximum is exact."""
    histogram = Histogram()
    histogram.record(3e7)
    assert histogram.maximum == 3e7
    assert histogram.count == 1


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
    assert true * 0.999999 <= histogram.percentile(percent) <= true * GROWTH * 1.000001
    assert histogram.mean == pytest.approx(sum(durations) / len(durations))
