"""Deployed workers read strictly: what they refuse they drop whole, and what their database refuses
they try for ever (2.2). So whatever a listener of ours reports is something that they can take."""

import json
import math
from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from osmo_deployed.layout import OsmoLayout
from osmo_listener.listeners.pod_rules.states import PodStatus
from osmo_reports import bodies
from osmo_reports.bodies import encode_body
from osmo_transport import Message, QueueConfig, Version, batch_of
from osmo_transport.queues.delivery import Producer, ProducerState

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC).timestamp()

# What they read, as 2.1 and 2.2 have it: every field, no other, and of these types.

Int32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
Text = Annotated[str, msgspec.Meta(pattern=r"\A[^\0]*\Z")]
"""PostgreSQL takes no U+0000."""
Texts = dict[Text, Text]
Naive = Annotated[datetime, msgspec.Meta(tz=False)]
"""Times are UTC without saying so."""


Status = Literal[
    "SCHEDULING",
    "INITIALIZING",
    "RUNNING",
    "COMPLETED",
    "FAILED",
    "FAILED_EVICTED",
    "FAILED_START_ERROR",
    "FAILED_BACKEND_ERROR",
    "FAILED_IMAGE_PULL",
    "FAILED_PREEMPTED",
]
"""What 3.1 makes of a pod."""


class Strict(msgspec.Struct, forbid_unknown_fields=True):
    """A model that forbids what it does not know."""


class ConditionMessage(Strict):
    reason: Text
    message: Text
    timestamp: Naive
    status: bool
    type: Text


class UpdatePodBody(Strict):
    workflow_uuid: Text
    task_uuid: Text
    retry_id: Int32
    container: Text
    node: Text
    pod_ip: Text
    message: Text
    status: Status
    exit_code: Int32
    backend: Text
    conditions: list[ConditionMessage]


class Taint(Strict):
    key: Text
    value: Text
    effect: Text
    time_added: Text
    """A time, or empty."""


class UpdateNodeBody(Strict):
    hostname: Text
    available: bool
    conditions: list[Text]
    processed_fields: Texts
    allocatable_fields: Texts
    label_fields: Texts
    taints: list[Taint]
    delete: bool


class UpdateNodeUsageBody(Strict):
    hostname: Text
    usage_fields: Texts
    non_workflow_usage_fields: Texts


class NodeInventoryBody(Strict):
    hostnames: list[Text]


class PodEventBody(Strict):
    pod_name: Text
    reason: Text
    message: Text
    timestamp: Naive


class LoggingBody(Strict):
    type: Literal["INFO", "DEBUG", "WARNING", "EXCEPTION"]
    text: Text
    workflow_uuid: Text


class ListenerMessage(Strict):
    uuid: Text
    timestamp: Naive
    update_pod: UpdatePodBody | msgspec.UnsetType = msgspec.UNSET
    update_node: UpdateNodeBody | msgspec.UnsetType = msgspec.UNSET
    update_node_usage: UpdateNodeUsageBody | msgspec.UnsetType = msgspec.UNSET
    node_inventory: NodeInventoryBody | msgspec.UnsetType = msgspec.UNSET
    pod_event: PodEventBody | msgspec.UnsetType = msgspec.UNSET
    logging: LoggingBody | msgspec.UnsetType = msgspec.UNSET


def read(payload: bytes) -> ListenerMessage:
    """The message, as a deployed worker reads it and goes on with its times."""
    message = msgspec.convert(json.loads(payload), ListenerMessage)
    times = [message.timestamp]
    if isinstance(message.update_pod, UpdatePodBody):
        times += [condition.timestamp for condition in message.update_pod.conditions]
    if isinstance(message.pod_event, PodEventBody):
        times.append(message.pod_event.timestamp)
    if isinstance(message.update_node, UpdateNodeBody):
        taints = message.update_node.taints
        times += [msgspec.convert(t.time_added, Naive) for t in taints if t.time_added]
    for time in times:
        time.timestamp()  # compared with the last one that was shown
    return message


def told(kind: str, body: msgspec.Struct, timestamp: float = NOW, id_: str = "id") -> list[bytes]:
    """What the stream gets of a report."""
    layout = OsmoLayout("osmo", QueueConfig(), wall=lambda: NOW)
    message = Message(kind, "key", Version(1, 1), id_, timestamp, encode_body(body))
    batch = batch_of(Producer("east", "pods"), ProducerState("q", 1, 0), 1, [message])
    return [payload for payload in layout.appended(batch).payloads if payload]


# What a listener may report.

_texts = st.text(st.characters(codec="utf-8"), max_size=6) | st.just("a\0\\u0000")
_maps = st.dictionaries(_texts, _texts, max_size=2)
_lists = st.lists(_texts, max_size=2).map(tuple)
_numbers = st.integers(-(2**63), 2**63 - 1)
_times = st.one_of(
    st.sampled_from(
        [
            *("", "soon", "null", "0001-01-01T00:00:00Z", "1969-12-31T23:59:59Z"),
            *("9999-12-31T23:59:59.999999Z", "2026-01-02T03:04:05.123456789Z", "2026-01-02"),
            *("2026-01-02T03:04:05+14:00", "1970-01-01T00:00:00+14:00", "x" * 100, "\0"),
        ]
    ),
    st.datetimes().map(lambda at: f"{at.isoformat()}Z"),
)
_statuses = st.sampled_from([status.value for status in PodStatus if status != "UNKNOWN"])
"""What is unknown is not reported."""

REPORTS: dict[str, st.SearchStrategy[msgspec.Struct]] = {
    "update_pod": st.builds(
        bodies.UpdatePod,
        workflow_uuid=_texts,
        task_uuid=_texts,
        retry_id=st.integers(-(2**31), 2**31 - 1),
        status=_statuses,
        container=_texts,
        node=_texts,
        pod_ip=_texts,
        message=_texts,
        exit_code=_numbers,
        conditions=st.lists(
            st.builds(bodies.Condition, _texts, st.booleans(), _texts, _texts, _times), max_size=2
        ).map(tuple),
        pod=_texts,
        created_at=_times,
        deleted=st.booleans(),
    ),
    "update_node": st.builds(
        bodies.UpdateNode,
        node=_texts,
        hostname=_texts,
        available=st.booleans(),
        conditions=_lists,
        allocatable=_maps,
        labels=_maps,
        taints=st.lists(st.builds(bodies.Taint, _texts, _texts, _texts, _times), max_size=2).map(
            tuple
        ),
        processed=_maps,
        deleted=st.booleans(),
    ),
    "update_node_usage": st.builds(bodies.UpdateNodeUsage, _texts, _texts, _maps, _maps),
    "node_inventory": st.builds(bodies.NodeInventory, _lists),
    "pod_event": st.builds(bodies.PodEvent, _texts, _texts, _texts, _texts, _times, _numbers),
    "logging": st.builds(bodies.Logging, st.sampled_from(bodies.LogType), _texts, _texts),
    "heartbeat": st.builds(
        bodies.Registration,
        *(_texts, _texts, _texts, _texts),
        st.dictionaries(_texts, st.floats(0.0, 1e6), max_size=4),
    ),
}

_any_report = st.one_of([st.tuples(st.just(kind), body) for kind, body in REPORTS.items()])


@given(_any_report, st.floats(), _texts)
@example(("pod_event", bodies.PodEvent("osmo/p", "Pulled")), math.nan, "id")
def test_whatever_is_reported_can_be_read(
    report: tuple[str, msgspec.Struct], timestamp: float, id_: str
) -> None:
    """By a model that forbids what it does not know, with times that it can calculate with, and
    with texts and numbers that their database takes."""
    (payload,) = told(*report, timestamp, id_)
    read(payload)


def pod(**fields: object) -> bodies.UpdatePod:
    """A failed pod with a condition of a time of its own."""
    condition = bodies.Condition("Ready", False, timestamp=str(fields.pop("condition")))
    return bodies.UpdatePod("w", "t", 0, "FAILED", conditions=(condition,), **fields)  # type: ignore[arg-type]  # the fields given by name have types of their own


@pytest.mark.parametrize(
    ("time", "created_at", "shown"),
    [
        ("2026-01-02T03:04:05Z", "", datetime(2026, 1, 2, 3, 4, 5)),  # noqa: DTZ001 - theirs
        ("", "2026-01-01T00:00:00Z", datetime(2026, 1, 1)),  # noqa: DTZ001
        ("0001-01-01T00:00:00Z", "2026-01-01T00:00:00Z", datetime(2026, 1, 1)),  # noqa: DTZ001
        ("soon", "never", datetime(2026, 1, 2, 12)),  # noqa: DTZ001
        ("", "", datetime(2026, 1, 2, 12)),  # noqa: DTZ001
    ],
)
def test_a_condition_without_a_time(time: str, created_at: str, shown: datetime) -> None:
    """Has the time at which its pod was created, which stays the same however often it is told, or
    where that is not known the time of the report."""
    (payload,) = told("update_pod", pod(condition=time, created_at=created_at))
    body = read(payload).update_pod
    assert isinstance(body, UpdatePodBody)
    assert body.status == "FAILED"
    assert [condition.timestamp for condition in body.conditions] == [shown]


@pytest.mark.parametrize(
    "timestamp", [math.nan, math.inf, -math.inf, -1e308, 1e308, -1.0, NOW + 2 * 86_400]
)
def test_a_report_of_no_time_is_of_now(timestamp: float) -> None:
    """A time ahead by more than a day would keep all later reports from their rows."""
    (payload,) = told("update_node", bodies.UpdateNode("n", "n"), timestamp)
    assert read(payload).timestamp.replace(tzinfo=UTC).timestamp() == NOW


@pytest.mark.parametrize(("code", "shown"), [(2**40, 2**31 - 1), (-(2**40), -(2**31)), (137, 137)])
def test_an_exit_code_fits(code: int, shown: int) -> None:
    """As a number of 32 bits, which is what their column holds."""
    (payload,) = told("update_pod", pod(condition="", exit_code=code))
    body = read(payload).update_pod
    assert isinstance(body, UpdatePodBody)
    assert body.exit_code == shown


def test_another_task_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    """A retry beyond 32 bits has no place there, and no other number stands for it."""
    report = bodies.UpdatePod("w", "t", 2**31, "RUNNING")
    assert told("update_pod", report) == []
    assert "retry" in caplog.text
