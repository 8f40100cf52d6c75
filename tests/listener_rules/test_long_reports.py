"""Whatever the cluster holds, a report of it can be sent, and the log says that it was cut."""

import logging
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from osmo_listener.listeners import PodStatusMode, WorkflowConfig, WorkflowListener
from osmo_listener.listeners.objects import (
    NodeCondition,
    NodeSpec,
    NodeStatus,
    NodeTaint,
    Pod,
)
from osmo_reports.bodies import PodExists, SnapshotEnd, UpdateNode, UpdatePod, decode_body
from osmo_reports.fitting import MAX_REPORT
from osmo_transport import Limits, Refusal
from osmo_transport.message import Message, Version, encode_message
from tests.listener_rules.harness import T0, condition, ended, make_pod, waiting
from tests.listener_rules.nodes import make_listener, make_node

EPOCH = 7
MEGABYTE = "x" * 1_100_000


def new_listener(mode: PodStatusMode = PodStatusMode.EXACT) -> WorkflowListener:
    """A workflow listener in epoch 7."""
    listener = WorkflowListener(WorkflowConfig(status_mode=mode))
    listener.restart(EPOCH)
    return listener


LARGE: dict[str, Pod] = {
    "message": make_pod("Failed", reason="Evicted", message=MEGABYTE),
    "container": make_pod("Failed", containers=(ended("user", 1, "Error", MEGABYTE),)),
    "containers": make_pod(
        "Failed", containers=tuple([ended(f"c{n}", n, "Error", "m" * 900) for n in range(1, 1000)])
    ),
    "condition": make_pod("Running", conditions=(condition("Ready", message=MEGABYTE),)),
    "conditions": make_pod(
        "Running", conditions=tuple([condition(f"C{n}", message="m" * 400) for n in range(2000)])
    ),
    "waits": make_pod("Pending", containers=(waiting("user", "ErrImagePull", MEGABYTE),)),
}


@pytest.mark.parametrize("mode", PodStatusMode)
@pytest.mark.parametrize("pod", LARGE.values(), ids=LARGE)
def test_pods(pod: Pod, mode: PodStatusMode, caplog: pytest.LogCaptureFixture) -> None:
    """Its status is told, and again when it is deleted; what is cut is logged once and counted."""
    listener = new_listener(mode)
    with caplog.at_level(logging.WARNING):
        messages = listener.on_change(None, pod, 1, T0) + listener.on_change(pod, None, 2, T0)
    told, deleted = [decode_body(message.kind, message.payload) for message in messages]
    assert told.status == deleted.status
    assert (told.deleted, deleted.deleted) == (False, True)
    for message in messages:
        assert len(encode_message(message)) < Limits().message_bytes
        assert len(message.payload) <= MAX_REPORT
    if listener.cut:
        assert listener.cut == 2
        (record,) = caplog.records
        assert "w1/t1/0" in record.getMessage()
    else:
        # The first system told less of what containers say.
        assert mode is PodStatusMode.LEGACY


def test_what_is_cut_is_no_news() -> None:
    """The same long message is sent once."""
    listener = new_listener()
    pod = LARGE["message"]
    assert len(listener.on_change(None, pod, 1, T0)) == 1
    again = msgspec.structs.replace(
        pod, metadata=msgspec.structs.replace(pod.metadata, resource_version="2")
    )
    assert listener.on_change(pod, again, 2, T0) == []


def test_nodes(caplog: pytest.LogCaptureFixture) -> None:
    """A node with thousands of labels, conditions and taints is reported, an inventory is whole."""
    listener = make_listener()
    node = msgspec.structs.replace(
        make_node(labels={f"label-{n}": "v" * 60 for n in range(9000)}),
        spec=NodeSpec(taints=tuple([NodeTaint(f"t{n}", "v" * 60) for n in range(9000)])),
        status=NodeStatus(
            {f"example.com/r{n}": "1" for n in range(9000)},
            tuple([NodeCondition(f"Condition{n}", "True") for n in range(9000)]),
        ),
    )
    with caplog.at_level(logging.WARNING):
        (message,) = listener.on_change(None, node, 1, T0)
    assert len(message.payload) <= MAX_REPORT
    body: UpdateNode = decode_body(message.kind, message.payload)
    for part in (body.labels, body.taints, body.allocatable, body.conditions):
        assert 100 < len(part) < 9000
    assert listener.cut == 1
    assert "n1" in caplog.text
    many = [make_node("n" * 60 + str(number)) for number in range(4000)]
    *_, inventory = listener.snapshot(many, 9, T0)
    assert len(decode_body(inventory.kind, inventory.payload).nodes) == 4000
    assert len(inventory.payload) > MAX_REPORT


SIZES = st.sampled_from([0, 10, 60_000, 1_100_000])
COUNTS = st.sampled_from([0, 1, 5, 1000])


@given(
    SIZES, SIZES, COUNTS, COUNTS, st.sampled_from(PodStatusMode), st.text(min_size=1, max_size=2)
)
def test_any_pod(
    message: int, text: int, containers: int, conditions: int, mode: PodStatusMode, part: str
) -> None:
    """Long texts, many containers and many conditions, in any script."""
    short = part * (text // max(containers, conditions, 1))
    pod = make_pod(
        "Failed",
        message=part * message,
        containers=tuple([ended(f"c{n}", 1, "Error", short) for n in range(containers)]),
        conditions=tuple([condition(f"C{n}", message=short) for n in range(conditions)]),
    )
    (report,) = new_listener(mode).on_change(None, pod, 1, T0)
    assert len(report.payload) <= MAX_REPORT
    body: UpdatePod = decode_body(report.kind, report.payload)
    assert body.status.startswith("FAILED")
    assert body.created_at == pod.metadata.creation_timestamp


# What cannot be sent in spite of all that.


def refuse(listener: WorkflowListener, message: Message) -> list[Message]:
    """What the listener says instead of a message."""
    return listener.refused(Refusal("id", message.kind, message.key, "no", message.version), T0)


def test_instead_of_a_report_that_cannot_be_stored() -> None:
    """The task exists, with the same version, and the snapshot does not count it."""
    listener = new_listener()
    snapshot = listener.snapshot([make_pod(rv=5), make_pod(rv=6, task="t2")], 9, T0)
    report = next(snapshot)
    (instead,) = refuse(listener, report)
    assert (instead.kind, instead.key, instead.version) == (
        "pod_exists",
        report.key,
        Version(EPOCH, 5),
    )
    assert decode_body(instead.kind, instead.payload) == PodExists("w1", "t1", 0)
    *_, end = snapshot
    assert decode_body(end.kind, end.payload) == SnapshotEnd("update_pod", 1)


def test_instead_of_a_deletion_that_cannot_be_stored() -> None:
    """The task exists no longer."""
    listener = new_listener()
    pod = make_pod(rv=5, retry="3")
    listener.on_change(None, pod, 5, T0)
    (deletion,) = listener.on_change(pod, None, 6, T0)
    (instead,) = refuse(listener, deletion)
    assert instead.version == Version(EPOCH, 6)
    assert decode_body(instead.kind, instead.payload) == PodExists("w1", "t1", 3, deleted=True)


def test_a_snapshot_does_not_count_a_deletion_that_cannot_be_stored() -> None:
    """Of the task nothing is stored in this epoch."""
    listener = new_listener()
    pods = [make_pod(rv=5), make_pod(rv=6, task="t2")]
    snapshot = listener.snapshot(pods, 9, T0)
    next(snapshot)
    (deletion,) = listener.on_change(pods[0], None, 10, T0)
    refuse(listener, deletion)
    *_, end = snapshot
    assert decode_body(end.kind, end.payload) == SnapshotEnd("update_pod", 1)


def _restarted(listener: WorkflowListener, message: Message) -> Message:
    listener.restart(EPOCH + 1)
    return message


def _of_another_kind(_: WorkflowListener, message: Message) -> Message:
    return msgspec.structs.replace(message, kind="update_node")


@pytest.mark.parametrize("become", [_restarted, _of_another_kind])
def test_refusals_that_need_no_answer(
    become: Callable[[WorkflowListener, Message], Message],
) -> None:
    """Of an epoch that is over, and of what others report."""
    listener = new_listener()
    (report,) = listener.on_change(None, make_pod(), 1, T0)
    assert refuse(listener, become(listener, report)) == []


def test_existence_that_is_refused_is_not_told_again() -> None:
    """There is nothing smaller to say."""
    listener = new_listener()
    found, _ = listener.snapshot([make_pod("Unknown")], 1, T0)
    assert refuse(listener, found) == []
