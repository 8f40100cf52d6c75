"""Words that people read."""

import pytest

from osmo_runtime.texts import counted


@pytest.mark.parametrize(
    ("count", "what", "said"),
    [
        (0, "delivery", "0 deliveries"),
        (1, "delivery", "1 delivery"),
        (2, "dead letter", "2 dead letters"),
    ],
)
def test_counted(count: int, what: str, said: str) -> None:
    """One is no plural."""
    assert counted(count, what) == said
