"""The queue that a service is told to use."""

from pathlib import Path

import pytest

from osmo_runtime.queues import queue_url, store_url, with_all_streams
from osmo_transport import Policy, QueueConfig, UsageError, kinds, open_queue
from osmo_transport.registry import Group


def test_a_layout_is_for_redis() -> None:
    """It stands in the URL, and elsewhere it is refused."""
    assert queue_url("redis://host", "own") == "redis://host"
    assert queue_url("redis://host?a=b", "osmo") == "redis://host?a=b&layout=osmo"
    with pytest.raises(UsageError, match="--layout osmo is for a queue in Redis"):
        queue_url("memory://", "osmo")


def test_a_password_file_is_for_what_asks_for_a_password() -> None:
    """It stands in the URL, and elsewhere it is refused."""
    file = Path("/etc/a&b")
    both = "redis://host?layout=osmo&password_file=/etc/a%26b"
    assert queue_url("redis://host", "osmo", file) == both
    with pytest.raises(UsageError, match="--queue-password-file is for a queue in Redis"):
        queue_url("memory://", "own", file)
    assert store_url("sqlite:///x.db", None) == "sqlite:///x.db"
    assert store_url("postgresql://h/db?a=b", file) == (
        "postgresql://h/db?a=b&password_file=/etc/a%26b"
    )
    with pytest.raises(UsageError, match="--store-password-file is for PostgreSQL"):
        store_url("sqlite:///x.db", file)


async def test_streams_of_others_are_read_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a package that registers them after the settings were read; what a user says stays."""
    for name in ("_kinds", "_weights", "latest_kinds"):
        monkeypatch.setattr(kinds, name, getattr(kinds, name).copy())
    before = QueueConfig(weights={**kinds.stream_weights(), "pods": 5})

    def load(group: Group, name: str) -> None:
        assert (group.name, name) == ("osmo_reports.kinds", "theirs")
        kinds.register_stream("their stream", weight=3)
        kinds.register_kind("their kind", Policy.LATEST, "their stream")

    monkeypatch.setattr("osmo_reports.kinds.schemes", lambda _: ["theirs"])
    monkeypatch.setattr("osmo_reports.kinds.named", load)
    limits = with_all_streams(before)
    assert limits.weights == {**before.weights, "their stream": 3}
    with pytest.raises(UsageError, match="lack their stream"):
        await open_queue("memory://", before)
    async with await open_queue("memory://", limits) as queue:
        assert "their stream" in (await queue.status()).waiting
