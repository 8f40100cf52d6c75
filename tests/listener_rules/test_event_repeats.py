"""When the event listener reports: repeats, new epochs and bounds, case by case."""

from typing import Any

import pytest

from osmo_listener.listeners.event import DUE_AT_ONCE, EventListener
from osmo_reports.bodies import PodEvent
from osmo_transport.message import Version
from tests.listener_rules.events import (
    EPOCH,
    NEWER,
    TTL,
    Sent,
    at,
    bodies,
    make_event,
    new_listener,
    sent,
    tell,
)
from tests.listener_rules.harness import T0


@pytest.fixture
def listener() -> EventListener:
    """A listener with the default settings, in epoch 7."""
    return new_listener()


@pytest.mark.parametrize(
    ("other", "reported"),
    [
        pytest.param({}, False, id="3.5-same"),
        pytest.param({"message": "other"}, False, id="3.5-other-message"),
        pytest.param({"type": "Normal"}, True, id="3.5-other-type"),
        pytest.param({"reason": "Other"}, True, id="3.5-other-reason"),
        pytest.param({"pod": "pod-2"}, True, id="3.5-other-pod"),
    ],
)
def test_key(listener: EventListener, other: dict[str, Any], reported: bool) -> None:
    """3.5: type, reason and pod decide what is a repeat."""
    assert len(tell(listener, make_event())) == 1
    assert bool(tell(listener, make_event(**other, uid="u2"))) is reported


@pytest.mark.parametrize(
    ("after", "count"),
    [
        pytest.param(0.0, None, id="3.5-at-once"),
        pytest.param(TTL - 1, None, id="3.5-within"),
        pytest.param(TTL, 1, id="3.5-at-the-end"),
        pytest.param(2 * TTL, 1, id="3.5-later"),
    ],
)
def test_within_the_time(listener: EventListener, after: float, count: int | None) -> None:
    """3.5: a repeat is sent only when the time since the last report is up."""
    tell(listener, make_event(count=4))
    repeated = tell(listener, make_event(count=5, last=NEWER, rv=2), T0 + after)
    assert sent(repeated) == ([] if count is None else [Sent("pod-1", "BackOff", count, NEWER)])
    assert listener.held_back == (count is None)


def test_held_back_is_reported_when_the_time_is_up(listener: EventListener) -> None:
    """3.5: what was noted meanwhile comes as one report, with the newest message, without another
    Event, and is followed by nothing."""
    tell(listener, make_event(count=1))
    tell(listener, make_event(count=3, message="newest", last=NEWER, rv=5), T0 + 10)
    tell(listener, make_event(uid="u2", message="older", rv=6), T0 + 20)
    assert listener.next_deadline() == T0 + TTL
    assert listener.due(T0 + TTL - 1) == []
    (message,) = listener.due(T0 + TTL)
    assert message.version == Version(EPOCH, 2)
    assert bodies([message]) == [
        PodEvent("osmo/pod-1", "BackOff", "newest", "Warning", NEWER, count=3)
    ]
    assert listener.next_deadline() == T0 + 2 * TTL
    assert listener.due(T0 + 2 * TTL) == []
    assert listener.tracked == 0
    assert listener.next_deadline() is None


def test_a_clock_that_is_set_back_delays_no_more_than_the_time(listener: EventListener) -> None:
    """What is held back comes at most one time later, not when the clock is there again."""
    tell(listener, make_event(count=1))
    tell(listener, make_event(count=3, rv=5), T0 + 10)
    before = T0 - 86_400
    assert listener.due(before) == []
    assert listener.next_deadline() == before + TTL
    assert [body.count for body in bodies(listener.due(before + TTL))] == [3]


def test_a_late_owner_loses_nothing(listener: EventListener) -> None:
    """3.5: an Event that comes after the time and before `due` carries what was held back."""
    tell(listener, make_event(count=1))
    tell(listener, make_event(count=3, rv=2), T0 + 10)
    late = tell(listener, make_event(count=4, last=NEWER, rv=3), T0 + TTL + 1)
    assert sent(late) == [Sent("pod-1", "BackOff", 3, NEWER)]
    assert listener.due(T0 + TTL + 1) == []


def test_what_is_due_comes_in_the_order_of_the_reports(listener: EventListener) -> None:
    """3.5: of several pods the one that was reported first is due first."""
    for number in range(3):
        tell(listener, make_event(f"pod-{number}", uid=f"u{number}"), T0 + number)
        tell(listener, make_event(f"pod-{number}", uid=f"u{number}", count=2), T0 + 3)
    assert [report.pod for report in sent(listener.due(T0 + TTL + 1))] == ["pod-0", "pod-1"]
    assert listener.next_deadline() == T0 + TTL + 2


def test_what_is_due_at_once_is_bounded(listener: EventListener) -> None:
    """3.5: of very many that are due in one moment a call takes a part, and asks for another."""
    for number in range(DUE_AT_ONCE + 1):
        event = make_event(f"pod-{number}", uid=f"u{number}")
        tell(listener, event)
    tell(listener, make_event(event.involved_object.name, uid="again"), T0 + 1)
    assert listener.due(T0 + TTL) == []
    assert listener.next_deadline() == T0 + TTL
    assert [report.pod for report in sent(listener.due(T0 + TTL))] == [f"pod-{DUE_AT_ONCE}"]


def test_the_same_words_count_on(listener: EventListener) -> None:
    """3.5: what repeats the message and the time of the report before, of which a store keeps the
    highest count, is told with the count of both."""
    tell(listener, make_event(uid="container-1"))
    tell(listener, make_event(uid="container-2"))
    tell(listener, make_event(uid="container-3"))
    assert sent(listener.due(T0 + TTL)) == [Sent("pod-1", "BackOff", 3)]
    tell(listener, make_event(uid="container-3", count=2, last=NEWER), T0 + TTL + 1)
    assert sent(listener.due(T0 + 2 * TTL)) == [Sent("pod-1", "BackOff", 1, NEWER)]


def test_no_time_reports_everything() -> None:
    """3.5: with a time of 0 nothing is held back, and no more remembered than the last report."""
    listener = new_listener(dedupe_ttl=0.0)
    reports = [
        sent(tell(listener, make_event(count=count, last=at(T0 + count)), T0 + count))
        for count in (1, 2, 2, 5)
    ]
    assert [[report.times for report in each] for each in reports] == [[1], [1], [], [3]]
    assert listener.held_back == 0
    assert listener.due(T0 + 5) == []
    assert (listener.tracked, listener.next_deadline()) == (0, None)


def test_a_time_without_end_does_not_hang() -> None:
    """3.5: a time too short to be told apart from none ends `due` all the same."""
    listener = new_listener(dedupe_ttl=1e-9)
    tell(listener, make_event())
    assert listener.due(T0) == []


def test_the_table_is_bounded() -> None:
    """At the bound the one reported longest ago is forgotten and counted; what was held back of it
    is reported then, and the next time it is noted, at once."""
    listener = new_listener(max_keys=2)
    tell(listener, make_event("a", uid="a"), T0)
    tell(listener, make_event("b", uid="b"), T0 + 1)
    tell(listener, make_event("a", uid="a", count=3, last=NEWER), T0 + 2)
    pushed = sent(tell(listener, make_event("c", uid="c"), T0 + 3))
    assert [(report.pod, report.times) for report in pushed] == [("a", 2), ("c", 1)]
    assert (listener.tracked, listener.forgotten) == (2, 1)
    again = sent(tell(listener, make_event("a", uid="a", count=4), T0 + 4))
    assert [(report.pod, report.times) for report in again] == [("a", 1)]
    assert (listener.tracked, listener.forgotten) == (2, 2)


def test_memory_follows_the_events() -> None:
    """What is kept of an Event goes with it, and so does what is kept of its pod after the time."""
    listener = new_listener()
    for number in range(1000):
        event = make_event(f"pod-{number}", uid=f"u{number}", rv=number + 1)
        tell(listener, event, T0 + number)
        listener.on_change(event, None, number + 1, T0 + number)
        listener.due(T0 + number)
        assert len(listener._events) == 0
        assert listener.tracked <= TTL + 1


def test_a_resync_is_nothing_new(listener: EventListener) -> None:
    """An Event that is shown once more is not noted once more, however long after."""
    event = make_event(count=3)
    tell(listener, event)
    listener.due(T0 + TTL)
    assert listener.on_change(event, event, 1, T0 + 3 * TTL) == []


def test_the_first_snapshot_is_what_was_not_told(listener: EventListener) -> None:
    """Events that existed before are reported at start, once, whether they are told as changes or
    by the snapshot, and nothing ends the snapshot."""
    told, untold = make_event("a", uid="a", count=2), make_event("b", uid="b", count=3)
    tell(listener, told)
    assert sent(listener.snapshot([told, untold], 9, T0)) == [Sent("b", "BackOff", 3)]
    assert tell(listener, untold) == []


def test_the_first_snapshot_repeats_nothing() -> None:
    """What the current epoch has told is not told again, also where nothing is held back."""
    listener = new_listener(dedupe_ttl=0.0)
    tell(listener, make_event())
    listener.due(T0)
    assert list(listener.snapshot([make_event()], 9, T0)) == []


def test_a_snapshot_forgets_what_is_gone(listener: EventListener) -> None:
    """An Event that no longer lives is not kept, be it that nobody told of its end."""
    tell(listener, make_event())
    list(listener.snapshot([], 9, T0))
    assert len(listener._events) == 0


def test_a_new_epoch_repeats_the_last_reports(listener: EventListener) -> None:
    """Within the time a new epoch repeats each last report as it was; what was held back stays held
    back."""
    event = make_event(count=2, rv=3)
    (first,) = tell(listener, event)
    later = make_event(count=5, last=NEWER, rv=4)
    tell(listener, later, T0 + 10)
    listener.restart(EPOCH + 1)
    (again,) = listener.snapshot([later], 9, T0 + 20)
    assert (again.payload, again.version) == (first.payload, Version(EPOCH + 1, 2))
    assert sent(listener.due(T0 + TTL)) == [Sent("pod-1", "BackOff", 3, NEWER)]


def test_a_new_epoch_reports_what_lives_anew(listener: EventListener) -> None:
    """What was last reported longer ago is reported from the Events that live, each with its whole
    count, and then not again within the time."""
    event = make_event(count=2, rv=3)
    tell(listener, event)
    listener.due(T0 + TTL)
    listener.restart(EPOCH + 1)
    now = T0 + 2 * TTL
    assert sent(listener.snapshot([event], 9, now)) == [Sent("pod-1", "BackOff", 2)]
    assert tell(listener, make_event(count=3, last=NEWER, rv=4), now + 1) == []
    assert list(listener.snapshot([event], 9, now + 1)) == []


def test_a_new_epoch_without_a_time_reports_what_lives_anew() -> None:
    """So is everything that lives where nothing is held back."""
    listener = new_listener(dedupe_ttl=0.0)
    tell(listener, make_event(count=1))
    tell(listener, make_event(count=3))
    listener.due(T0)
    listener.restart(EPOCH + 1)
    assert sent(listener.snapshot([make_event(count=3)], 9, T0)) == [Sent("pod-1", "BackOff", 3)]


@pytest.mark.parametrize("how", ["change", "due", "pushed out"])
def test_a_last_report_is_repeated_before_it_is_replaced(how: str) -> None:
    """Before its snapshot an epoch may see a change, or time pass: no last report gets lost."""
    listener = new_listener(max_keys=1)
    tell(listener, make_event(count=1))
    listener.restart(EPOCH + 1)
    if how == "change":
        messages = tell(listener, make_event(count=2, last=NEWER, rv=2), T0 + TTL)
        expected = [Sent("pod-1", "BackOff", 1), Sent("pod-1", "BackOff", 1, NEWER)]
    elif how == "due":
        messages = listener.due(T0 + TTL)
        expected = [Sent("pod-1", "BackOff", 1)]
    else:
        messages = tell(listener, make_event("pod-2", uid="u2"))
        expected = [Sent("pod-1", "BackOff", 1), Sent("pod-2", "BackOff", 1)]
    assert sent(messages) == expected
    assert {message.version.epoch for message in messages} == {EPOCH + 1}


def test_a_restart_ends_the_snapshot(listener: EventListener) -> None:
    """A snapshot whose epoch is over says no more, be the new epoch the same number."""
    events = [make_event(f"pod-{number}", uid=f"u{number}") for number in range(3)]
    snapshot = listener.snapshot(events, 9, T0)
    next(snapshot)
    listener.restart(EPOCH)
    assert list(snapshot) == []
    assert len(list(listener.snapshot(events, 9, T0))) == 3


def test_versions_that_went_back(listener: EventListener) -> None:
    """A cluster restored from a backup goes on where the backup ends: what is noted then counts,
    also while its counts are below those of before."""
    before = make_event(count=9, rv=90, last=at(T0 + 100))
    tell(listener, before, T0 + 100)
    restored = make_event(count=5, rv=10, last=at(T0))
    assert listener.on_change(before, restored, 10, T0 + 200) == []
    listener.restart(EPOCH + 1)
    assert len(list(listener.snapshot([restored], 20, T0 + 200))) == 1
    noted = make_event(count=6, rv=21, last=at(T0 + 300))
    assert listener.on_change(restored, noted, 21, T0 + 300) == []
    assert [report.times for report in sent(listener.due(T0 + 100 + TTL))] == [1]
