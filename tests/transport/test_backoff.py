"""Delays between tries."""

import pytest

from osmo_transport import BackoffConfig
from osmo_transport.backoff import Backoff

CONFIG = BackoffConfig(base=0.5, maximum=4.0, healthy_after=10.0)


def test_the_cap_doubles_up_to_the_maximum() -> None:
    """The longest delay of each try."""
    backoff = Backoff(CONFIG, lambda: 1.0)
    assert [backoff.next_delay() for _ in range(6)] == [0.5, 1.0, 2.0, 4.0, 4.0, 4.0]


def test_a_delay_is_drawn_below_its_cap() -> None:
    """So that a thousand clients that fail together do not return together."""
    draws = iter([0.0, 0.25, 0.5])
    backoff = Backoff(CONFIG, lambda: next(draws))
    assert [backoff.next_delay() for _ in range(3)] == [0.0, 0.25, 1.0]


def test_any_number_of_tries_can_be_counted() -> None:
    """The exponent does not overflow."""
    backoff = Backoff(CONFIG, lambda: 1.0)
    assert {backoff.next_delay() for _ in range(5000)} == {0.5, 1.0, 2.0, 4.0}


@pytest.mark.parametrize(("lived", "delay"), [(9.9, 2.0), (10.0, 0.5)])
def test_a_healthy_connection_starts_the_count_anew(lived: float, delay: float) -> None:
    """One that broke at once does not."""
    backoff = Backoff(CONFIG, lambda: 1.0)
    backoff.next_delay()
    backoff.next_delay()
    backoff.healthy(lived)
    assert backoff.next_delay() == delay


def test_by_default_delays_are_random() -> None:
    """Within the caps."""
    backoff = Backoff(BackoffConfig(base=1.0, maximum=1.0))
    delays = [backoff.next_delay() for _ in range(50)]
    assert len(set(delays)) > 40
    assert all(0 <= delay < 1 for delay in delays)
