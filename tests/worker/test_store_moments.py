"""Moments at the ends of the calendar, and as other programs write them."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from osmo_worker.store import open_store
from tests.worker.harness import STORE, apply, report

FIRST = datetime.min.replace(tzinfo=UTC)
LAST = datetime.max.replace(tzinfo=UTC)


@pytest.fixture(params=["America/New_York", "UTC", "Asia/Tokyo"], autouse=True)
def machine_zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The time zone of the machine, which has no say in what is read."""
    with monkeypatch.context() as patched:
        patched.setenv("TZ", request.param)
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("0001-01-01T00:00:00.000Z", FIRST),
        ("0001-01-01T00:00:00.000", FIRST),
        ("0001-01-01T00:00:00+09:00", FIRST),
        ("9999-12-31T23:59:59.999999", LAST),
        ("9999-12-31T23:59:59-09:00", LAST),
        ("2026-01-02T03:04:05", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02T03:04:05-01:00", datetime(2026, 1, 2, 4, 4, 5, tzinfo=UTC)),
    ],
)
async def test_a_row_is_read_whatever_its_moment(
    text: str, moment: datetime, tmp_path: Path
) -> None:
    """Without a zone it is UTC; what UTC's calendar does not hold is its first or last moment."""
    async with open_store(f"sqlite:///{tmp_path}/store.db", STORE) as store:
        await apply(store, report())

        def write() -> None:
            with store._database.transaction() as connection:
                connection.exec_driver_sql("UPDATE tasks SET created_at = ?", (text,))

        await store._database.call(write)
        (task,) = await store.tasks()
        assert task.created_at == moment
        assert task.created_at.tzinfo is UTC
