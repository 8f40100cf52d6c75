"""Semantics 3.5: the table `pod_events`, one row per occurrence."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from osmo_reports import bodies
from osmo_reports.bodies import encode_body
from osmo_transport import Ack, Message, Reject, new_message
from osmo_worker.store import PodEvent, StateStore, open_store
from osmo_worker.store.kinds.events import MAX_TEXT
from tests.worker.harness import BACKEND, STORE, apply, apply_in_every_order, delivery, pod_event

POD = "osmo/pod-1"
NOW = datetime(2026, 3, 4, 5, 6, 7, 891000, tzinfo=UTC)


async def _only(store: StateStore) -> PodEvent:
    (row,) = await store.pod_events(POD)
    return row


def sent(message: Message, at: float) -> Message:
    """The message, as if its listener had made it at that time."""
    return msgspec.structs.replace(message, timestamp=at)


async def test_an_event_becomes_a_row(store_url: str) -> None:
    """Every field is there, in types that a program can use."""
    async with open_store(store_url, STORE, clock=NOW.timestamp) as store:
        assert await apply(store, pod_event(count=3)) == [Ack()]
        row = await _only(store)
    assert len(row.id) == 32
    assert row == PodEvent(
        backend=BACKEND,
        id=row.id,
        pod=POD,
        type="Normal",
        reason="Pulled",
        message="pulled the image",
        happened_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        count=3,
        reported_at=NOW,
    )


async def test_an_event_that_comes_again_adds_no_row(store: StateStore) -> None:
    """Within a batch, in a later one, and written as another API version writes its time."""
    again = pod_event(timestamp="2026-01-02T03:04:05.000000Z")
    await apply(store, pod_event(), pod_event())
    before = await _only(store)
    assert await apply(store, pod_event(), again) == [Ack(), Ack()]
    assert await _only(store) == before


async def test_two_within_a_millisecond_are_two(store: StateStore) -> None:
    """The cluster tells them apart by microseconds."""
    times = ["2026-01-02T03:04:05.123456Z", "2026-01-02T03:04:05.123457Z"]
    await apply(store, *(pod_event(timestamp=time) for time in times))
    rows = await store.pod_events(POD)
    assert [row.happened_at.microsecond for row in rows] == [123457, 123456]


async def test_of_one_occurrence_the_highest_count_stays(store: StateStore) -> None:
    """A listener that restarts may count otherwise; the order does not matter."""
    for backend in await apply_in_every_order(store, [pod_event(count=n) for n in (1, 2, 3)]):
        (row,) = await store.pod_events(POD, backend)
        assert row.count == 3


@pytest.mark.parametrize(
    "other",
    [
        {"reason": "Failed"},
        {"message": "pulled another image"},
        {"timestamp": "2026-01-02T03:04:06Z"},
    ],
    ids=lambda fields: next(iter(fields)),
)
async def test_another_occurrence_is_another_row(store: StateStore, other: dict[str, Any]) -> None:
    """What it says or when it happened makes the difference."""
    await apply(store, pod_event(), pod_event(**other))
    assert len(await store.pod_events(POD)) == 2


async def test_the_newest_events_of_a_pod(store: StateStore) -> None:
    """The newest first, as many as are wanted, of no other pod and of each backend by itself."""
    times = [f"2026-01-02T03:04:0{second}Z" for second in (3, 9, 1, 5)]
    await apply(store, *(pod_event(message=time, timestamp=time) for time in times))
    await apply(store, pod_event("osmo/pod-2"))
    await store.handle_batch([delivery(pod_event(message="else"), backend="another")])
    found = [row.message for row in await store.pod_events(POD, BACKEND)]
    assert found == sorted(times, reverse=True)
    assert [row.message for row in await store.pod_events(POD, limit=2)] == [found[0], "else"]
    assert [row.backend for row in await store.pod_events(POD, "another")] == ["another"]
    assert await store.pod_events("osmo/pod-3") == []


@pytest.mark.parametrize("timestamp", ["", "yesterday", "99999-01-01T00:00:00Z"])
async def test_an_event_without_a_time_has_that_of_its_report(
    store: StateStore, timestamp: str
) -> None:
    """So that it has its place among the others; the report that is sent again adds no row."""
    message = sent(pod_event(timestamp=timestamp), 1_000_000.5)
    await apply(store, message, message)
    assert (await _only(store)).happened_at.timestamp() == 1_000_000.5


@pytest.mark.parametrize("at", [float("nan"), float("inf"), -1e300, 1e18])
async def test_a_report_without_a_time_either_has_that_of_the_worker(
    store_url: str, at: float
) -> None:
    """No number that a listener calls its time stops a worker."""
    async with open_store(store_url, STORE, clock=NOW.timestamp) as store:
        assert await apply(store, sent(pod_event(timestamp=""), at)) == [Ack()]
        assert (await _only(store)).happened_at == NOW


async def test_long_and_odd_texts_are_stored(store: StateStore) -> None:
    """Cut, and without U+0000; what differs only beyond the cut is told apart all the same."""
    long = "x" * MAX_TEXT
    await apply(store, pod_event(message=long), pod_event(message=f"{long}1"))
    await apply(store, pod_event(message=f"{long}2"), pod_event(message="a\0b"))
    cut = long[:-1] + "…"
    texts = [row.message for row in await store.pod_events(POD)]
    assert sorted(texts) == sorted([long, cut, cut, "a\ufffdb"])


async def test_what_cannot_be_handled_is_rejected_for_itself_alone(store: StateStore) -> None:
    """A count that no database holds, a payload that is none."""
    body = encode_body(bodies.PodEvent(POD, "Pulled", count=2**63))
    outcomes = await apply(
        store,
        pod_event(),
        new_message("pod_event", POD, body),
        new_message("pod_event", POD, b"\xc1"),
    )
    reasons = [outcome.reason if isinstance(outcome, Reject) else "" for outcome in outcomes]
    assert reasons[0] == ""
    assert "<= 9223372036854775807" in reasons[1]
    assert "cannot be decoded" in reasons[2]
    assert (await _only(store)).count == 1
