"""What the event listener makes of one Event, case by case; the numbers are those of the rules."""

import logging
from typing import Any

import msgspec
import pytest

from osmo_listener.kubernetes.json_decoding import JsonDecoder
from osmo_listener.kubernetes.protobuf_decoding import ProtobufDecoder
from osmo_listener.listeners.event import (
    MAX_MESSAGE,
    MAX_SEARCHED,
    MAX_WORD,
    EventListener,
)
from osmo_listener.listeners.objects import Event
from osmo_protos import kubernetes_pb2 as pb
from osmo_reports.bodies import PodEvent
from osmo_transport.message import Version
from tests.listener import protobuf, wire
from tests.listener_rules.events import (
    EPOCH,
    NEWER,
    TTL,
    Sent,
    bodies,
    make_event,
    new_listener,
    sent,
    tell,
)
from tests.listener_rules.harness import SINCE, T0


@pytest.fixture
def listener() -> EventListener:
    """A listener with the default settings, in epoch 7."""
    return new_listener()


def test_body(listener: EventListener) -> None:
    """3.5: a report says which pod, why, what, how severe, when and how often; its number is
    not the version of its Event."""
    event = make_event("pod-9", "FailedMount", "no volume", last=SINCE, count=3, rv=42)
    (message,) = tell(listener, event)
    assert message.version == Version(EPOCH, 1)
    assert message.timestamp == T0
    assert message.key == "osmo/pod-9"
    assert bodies([message]) == [
        PodEvent("osmo/pod-9", "FailedMount", "no volume", "Warning", SINCE, 3)
    ]


@pytest.mark.parametrize(
    ("times", "timestamp"),
    [
        pytest.param({"last": NEWER, "series": (2, SINCE), "time": SINCE}, NEWER, id="3.5-last"),
        pytest.param({"series": (2, NEWER), "time": SINCE, "first": SINCE}, NEWER, id="3.5-series"),
        pytest.param({"time": NEWER, "first": SINCE, "created": SINCE}, NEWER, id="3.5-event-time"),
        pytest.param({"series": (2, None), "time": NEWER}, NEWER, id="3.5-series-without-time"),
        pytest.param({"first": NEWER, "created": SINCE}, NEWER, id="3.5-first"),
        pytest.param({"created": NEWER}, NEWER, id="3.5-created"),
        pytest.param({}, SINCE, id="3.5-now"),
        pytest.param({"last": "", "time": NEWER}, NEWER, id="3.5-empty"),
        pytest.param({"last": "soon", "time": NEWER}, NEWER, id="3.5-unreadable"),
        pytest.param(
            {"time": "2026-01-02T03:04:05.120000Z"}, "2026-01-02T03:04:05.120000Z", id="3.5-micro"
        ),
        pytest.param({"last": "2026-01-02T04:05:06+01:00"}, NEWER, id="3.5-zone"),
    ],
)
def test_timestamp(listener: EventListener, times: dict[str, Any], timestamp: str) -> None:
    """3.5: the first of the times that an Event gives, in UTC; the present where it gives none."""
    event = make_event(**{"last": None, **times})
    assert [body.timestamp for body in bodies(tell(listener, event))] == [timestamp]


@pytest.mark.parametrize(
    ("fields", "count"),
    [
        pytest.param({"count": 0}, 1, id="3.5-none"),
        pytest.param({"count": 5}, 5, id="3.5-count"),
        pytest.param({"count": 0, "series": (4, NEWER)}, 4, id="3.5-series"),
        pytest.param({"count": 2, "series": (4, NEWER)}, 4, id="3.5-both"),
    ],
)
def test_first_count(listener: EventListener, fields: dict[str, Any], count: int) -> None:
    """3.5: an Event that was not known counts as often as it says."""
    assert [body.count for body in bodies(tell(listener, make_event(**fields)))] == [count]


@pytest.mark.parametrize(
    ("first", "second", "more"),
    [
        pytest.param({"count": 2}, {"count": 5}, 3, id="3.5-count-rises"),
        pytest.param({"count": 2}, {"count": 5, "last": NEWER}, 3, id="3.5-both-rise"),
        pytest.param({"count": 2}, {"count": 2, "last": NEWER}, 1, id="3.5-time-rises"),
        pytest.param({"count": 5}, {"count": 2, "last": NEWER}, 1, id="3.5-count-began-anew"),
        pytest.param(
            {"last": None, "time": SINCE},
            {"last": None, "time": SINCE, "series": (2, NEWER)},
            1,
            id="3.5-becomes-a-series",
        ),
        pytest.param({"count": 2}, {"count": 2}, 0, id="3.5-unchanged"),
        pytest.param({"last": None}, {"last": None}, 0, id="3.5-unchanged-without-time"),
        pytest.param({"count": 2, "last": NEWER}, {"count": 1}, 0, id="3.5-older-state"),
    ],
)
def test_increments(first: dict[str, Any], second: dict[str, Any], more: int) -> None:
    """3.5: of a known Event counts by how much its count rose, or once if only its time did."""
    listener = new_listener(dedupe_ttl=0.0)
    tell(listener, make_event(**first, rv=1))
    listener.due(T0)
    counts = [body.count for body in bodies(tell(listener, make_event(**second, rv=2), T0 + 5))]
    assert counts == ([more] if more else [])


PREEMPTION = "Pod osmo/train-0 was preempted by osmo/urgent-0 in queue a"


@pytest.mark.parametrize(
    "noted_by",
    [
        pytest.param({"component": "kai-scheduler"}, id="3.5-source"),
        pytest.param({"reporting": "kai-scheduler"}, id="3.5-reporting-component"),
        pytest.param({"controller": "kai-scheduler"}, id="3.5-reporting-controller"),
    ],
)
def test_preemption(listener: EventListener, noted_by: dict[str, Any]) -> None:
    """3.5: that the scheduler evicted a pod of a PodGroup is an event of that pod."""
    event = make_event("group", "Evict", PREEMPTION, kind="PodGroup", type="Normal", **noted_by)
    (body,) = bodies(tell(listener, event))
    assert body == PodEvent("osmo/train-0", "Evict", PREEMPTION, "Normal", SINCE, 1)


@pytest.mark.parametrize(
    ("message", "pod"),
    [
        pytest.param("Pod osmo/a was preempted", "a", id="3.5-whole"),
        pytest.param("the  Pod\tosmo/a \n was preempted for b", "a", id="3.5-white-space"),
        pytest.param("Pod x/osmo/a was preempted", "a", id="3.5-last-slash"),
        pytest.param("Pod osmo/a was preempted. Pod osmo/b was preempted", "a", id="3.5-first"),
        pytest.param("Pod osmo/a was evicted", "", id="3.5-no-preemption"),
        pytest.param("Pod a was preempted", "", id="3.5-no-namespace"),
        pytest.param("pod osmo/a was preempted", "", id="3.5-case"),
        pytest.param("x" * MAX_SEARCHED + PREEMPTION, "", id="3.5-too-far"),
    ],
)
def test_preemption_text(listener: EventListener, message: str, pod: str) -> None:
    """3.5: the pod is read from the message."""
    event = make_event("group", "Evict", message, kind="PodGroup", component="kai-scheduler")
    assert [report.pod for report in sent(tell(listener, event))] == ([pod] if pod else [])
    assert listener.ignored == (not pod)


def test_preemption_of_several_pods(listener: EventListener) -> None:
    """3.5: an Event whose message moves on to another pod counts for that one from then on."""
    fields: dict[str, Any] = {"kind": "PodGroup", "component": "kai-scheduler", "reason": "Evict"}
    first = make_event("group", message="Pod osmo/a was preempted", count=2, **fields)
    second = make_event("group", message="Pod osmo/b was preempted", count=3, **fields)
    assert sent(tell(listener, first)) == [Sent("a", "Evict", 2)]
    assert sent(tell(listener, second)) == [Sent("b", "Evict", 1)]


@pytest.mark.parametrize("message", ["Pod " + "/" * 10**6, "Pod a/" + "b/" * 10**6 + " was"])
def test_preemption_search_is_bounded(listener: EventListener, message: str) -> None:
    """3.5: a message that would keep the search busy for hours does not."""
    event = make_event("g", "Evict", message, kind="PodGroup", component="kai-scheduler")
    assert tell(listener, event) == []


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"kind": "Node"}, id="3.5-node"),
        pytest.param({"kind": ""}, id="3.5-no-kind"),
        pytest.param({"pod": ""}, id="3.5-no-name"),
        pytest.param({"namespace": "other"}, id="3.5-other-namespace"),
        pytest.param({"kind": "PodGroup"}, id="3.5-podgroup"),
        pytest.param(
            {"kind": "PodGroup", "reason": "Evict", "message": PREEMPTION},
            id="3.5-evicted-by-another",
        ),
        pytest.param(
            {"kind": "PodGroup", "message": PREEMPTION, "component": "kai-scheduler"},
            id="3.5-other-reason",
        ),
    ],
)
def test_ignored(listener: EventListener, fields: dict[str, Any]) -> None:
    """3.5: what is about nothing that is reported is counted once for each Event, whatever it is
    shown again."""
    for count in (1, 1, 2):
        assert tell(listener, make_event(**fields, count=count)) == []
    listener.restart(EPOCH + 1)
    assert list(listener.snapshot([make_event(**fields, count=2)], 9, T0)) == []
    assert (listener.ignored, listener.tracked) == (1, 0)


MICRO = "2026-01-02T03:04:05.000123Z"


@pytest.mark.parametrize("decoder", [JsonDecoder, ProtobufDecoder])
@pytest.mark.parametrize(
    ("times", "reported"),
    [
        ({"eventTime": MICRO}, MICRO),
        ({"series": {"count": 2, "lastObservedTime": MICRO}, "eventTime": SINCE}, MICRO),
        ({"lastTimestamp": SINCE, "eventTime": MICRO}, SINCE),
        (
            {"lastTimestamp": None, "eventTime": "2026-01-02T03:04:05.120000Z"},
            f"{SINCE[:-1]}.120000Z",
        ),
        ({"eventTime": "2026-01-02T03:04:05.000000Z"}, SINCE),
    ],
    ids=["eventTime", "series", "seconds", "trailing zeros", "a whole second"],
)
def test_times_keep_their_microseconds(
    listener: EventListener,
    decoder: type[JsonDecoder[Event]],
    times: dict[str, Any],
    reported: str,
) -> None:
    """From what the API server writes, in either encoding, to the report."""
    made = {
        "metadata": {"name": "e", "namespace": "osmo", "uid": "u", "resourceVersion": "7"},
        "involvedObject": {"kind": "Pod", "name": "pod-1"},
        "reason": "BackOff",
        **times,
    }
    if decoder is JsonDecoder:
        frame = wire.event("ADDED", made)
    else:
        frame = protobuf.event("ADDED", protobuf.message_of(pb.Event, made))[4:]
    event = decoder(Event).event(frame).object
    assert event is not None
    assert bodies(tell(listener, event))[0].timestamp == reported


def test_what_differs_by_a_microsecond_are_two_events() -> None:
    """The counts of the two are not added up."""
    listener = new_listener(dedupe_ttl=0)
    first = make_event(last=None, time=MICRO, count=0, uid="a", rv=1)
    second = make_event(last=None, time="2026-01-02T03:04:05.000124Z", count=0, uid="b", rv=2)
    assert [sent(tell(listener, event))[0].times for event in (first, second)] == [1, 1]


def test_long_texts_are_cut(listener: EventListener) -> None:
    """A message, a reason or a type without end is reported up to its limit, with a mark."""
    event = make_event(reason="r" * 10_000, message="m" * 10_000, type="t" * 10_000)
    (body,) = bodies(tell(listener, event))
    for text, limit in (
        (body.reason, MAX_WORD),
        (body.message, MAX_MESSAGE),
        (body.type, MAX_WORD),
    ):
        assert 0.9 * limit < len(text.encode()) <= limit
        assert "characters left out" in text


def test_a_deletion_is_nothing_to_report(listener: EventListener) -> None:
    """3.5: an Event that is deleted has expired; what was held back of it is reported in time."""
    event = make_event(count=2, last=NEWER)
    tell(listener, make_event(count=1))
    tell(listener, event, T0 + 1)
    last = msgspec.structs.replace(
        event, metadata=msgspec.structs.replace(event.metadata, resource_version="8")
    )
    assert listener.on_change(last, None, 8, T0 + 2) == []
    assert list(listener.listed([], 9, T0 + 3)) == []
    assert (listener.vanished, listener.history_lost) == (0, 0)
    assert sent(listener.due(T0 + TTL)) == [Sent("pod-1", "BackOff", 1, NEWER)]


@pytest.mark.parametrize("told_by", ["listed", "snapshot"])
def test_lost_history_is_counted(
    listener: EventListener, told_by: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Events that a further list no longer holds are counted and logged, and so is the gap."""
    events = [make_event(f"pod-{number}", uid=f"u{number}", rv=number + 1) for number in range(3)]
    for event in events:
        tell(listener, event)
    for event in events[:2]:
        listener.on_change(event, None, 9, T0)
    with caplog.at_level(logging.WARNING, "osmo_listener"):
        list(getattr(listener, told_by)(events[2:], 9, T0))
        list(listener.listed(events[2:], 10, T0))
    assert (listener.vanished, listener.history_lost) == (2, 1)
    assert [record.getMessage() for record in caplog.records] == [
        "2 events were gone after a gap in the watch: what was noted in it may be lost"
    ]


OLDER_FORM = b"""{
  "kind": "Event", "apiVersion": "v1",
  "metadata": {"name": "a.1", "namespace": "osmo", "uid": "u1", "resourceVersion": "12",
    "creationTimestamp": "2026-01-02T03:04:05Z", "managedFields": []},
  "involvedObject": {"kind": "Pod", "namespace": "osmo", "name": "a", "uid": "p",
    "fieldPath": "spec.containers{user}"},
  "reason": "BackOff", "message": "Back-off restarting failed container",
  "source": {"component": "kubelet", "host": "node-1"},
  "firstTimestamp": "2026-01-02T03:04:05Z", "lastTimestamp": "2026-01-02T03:05:06Z",
  "count": 4, "type": "Warning", "eventTime": null,
  "reportingComponent": "kubelet", "reportingInstance": "node-1"}"""

NEWER_FORM = b"""{
  "metadata": {"name": "a.2", "namespace": "osmo", "uid": "u2", "resourceVersion": "13",
    "creationTimestamp": "2026-01-02T03:04:05Z"},
  "involvedObject": {"kind": "Pod", "namespace": "osmo", "name": "a"},
  "reason": "Scheduled", "message": "assigned", "source": {},
  "firstTimestamp": null, "lastTimestamp": null, "type": "Normal",
  "eventTime": "2026-01-02T03:04:05.000001Z",
  "series": {"count": 3, "lastObservedTime": "2026-01-02T03:05:06.500000Z"},
  "action": "Binding", "reportingComponent": "kai-scheduler", "reportingInstance": "kai-0"}"""


def test_both_forms_are_decoded(listener: EventListener) -> None:
    """The API server's two forms of an Event, nulls included, give what they say."""
    decoder = JsonDecoder(Event)
    body = b'{"metadata": {"resourceVersion": "20"}, "items": [%s, %s]}' % (OLDER_FORM, NEWER_FORM)
    page = decoder.page(body)
    reports = [body for event in page.objects for body in bodies(tell(listener, event))]
    text = "Back-off restarting failed container"
    assert reports == [
        PodEvent("osmo/a", "BackOff", text, "Warning", NEWER, 4),
        PodEvent("osmo/a", "Scheduled", "assigned", "Normal", "2026-01-02T03:05:06.500000Z", 3),
    ]
