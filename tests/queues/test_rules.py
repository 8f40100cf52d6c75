"""Rules that the queues share."""

from osmo_transport.queues.abc import QueueConfig
from osmo_transport.queues.rules import retry_delay


def test_the_delay_doubles_up_to_its_maximum() -> None:
    """Delays between attempts grow from `retry_base` to `retry_maximum`, and never overflow."""
    config = QueueConfig(retry_base=0.5, retry_maximum=5.0)
    delays = [retry_delay(config, attempt) for attempt in (1, 2, 3, 4, 5, 10_000)]
    assert delays == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]
