"""The configuration refuses what cannot work."""

from typing import Any

import pytest

from osmo_transport import QueueConfig
from osmo_worker import StoreConfig, WorkerConfig
from osmo_worker.config import default_name


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"max_in_flight": 10, "read_limit": 11}, "max_in_flight"),
        ({"handler_timeout": 5.0}, "handler_timeout"),
        ({"limits": QueueConfig(max_attempts=3)}, "snapshot_attempts"),
    ],
)
def test_limits_that_contradict_each_other_are_named(fields: dict[str, Any], named: str) -> None:
    """Two limits that cannot both hold are an error at start, not a worker that stands still."""
    with pytest.raises(ValueError, match=named):
        WorkerConfig(**fields)


def test_the_defaults_fit_together() -> None:
    """Nothing has to be set, and the name is the same for the whole life of the process."""
    config = WorkerConfig()
    assert config.store_limits == StoreConfig()
    assert config.name == default_name()
