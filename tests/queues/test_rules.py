"""Rules that the queues share."""

import pytest

from osmo_transport.queues._rules import next_epoch, retry_delay
from osmo_transport.queues.abc import QueueConfig


def test_the_delay_doubles_up_to_its_maximum() -> None:
    """Delays between attempts grow from `retry_base` to `retry_maximum`, and never overflow."""
    config = QueueConfig(retry_base=0.5, retry_maximum=5.0)
    delays = [retry_delay(config, attempt) for attempt in (1, 2, 3, 4, 5, 10_000)]
    assert delays == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]


@pytest.mark.parametrize(
    ("stored", "known", "now", "expected"),
    [(0, 0, 7.0, 7000), (9000, 0, 7.0, 9001), (0, 9500, 7.0, 9501), (9000, 9500, 7.0, 9501)],
)
def test_epochs_rise(stored: int, known: int, now: float, expected: int) -> None:
    """A new epoch is higher than the stored one, the known one and the time."""
    assert next_epoch(stored, known, now) == expected
