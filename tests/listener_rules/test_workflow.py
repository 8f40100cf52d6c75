"""What the workflow listener sends, case by case."""

from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import pytest
from msgspec.structs import astuple

from osmo_listener.listeners import PodStatusMode, WorkflowConfig, WorkflowListener
from osmo_listener.listeners.objects import Pod, PodLabels
from osmo_reports.bodies import Condition, PodExists, SnapshotEnd, UpdatePod, decode_body
from osmo_transport.message import Message, Version
from tests.listener_rules.harness import (
    NOT_READY,
    SINCE,
    T0,
    condition,
    ended,
    make_pod,
    running,
    waiting,
)

EPOCH = 7
TTL = 900.0
KEY = "w1/t1/0"
STUCK = (waiting("user", "ContainerStatusUnknown"),)


class Sent(NamedTuple):
    """A message, as far as most tests look at it."""

    key: str
    version: tuple[int, int]
    status: str
    deleted: bool = False
    final: bool = False


def sent(messages: list[Message] | Iterator[Message]) -> list[Sent]:
    """The reports among `messages`."""
    found = []
    for message in messages:
        assert message.kind == "update_pod"
        body: UpdatePod = decode_body(message.kind, message.payload)
        epoch, revision = astuple(message.version)
        version = epoch, revision
        found.append(Sent(message.key, version, body.status, body.deleted, message.final))
    return found


@pytest.fixture
def listener() -> WorkflowListener:
    """A listener with the default settings, in epoch 7."""
    listener = WorkflowListener()
    listener.restart(EPOCH)
    return listener


def see(listener: WorkflowListener, pod: Pod, now: float = T0) -> list[Sent]:
    """Let the listener see `pod` as added or modified."""
    return sent(listener.on_change(None, pod, int(pod.metadata.resource_version), now))


def gone(listener: WorkflowListener, pod: Pod, rv: int, now: float = T0) -> list[Sent]:
    """Let the listener see that `pod` is gone."""
    return sent(listener.on_change(pod, None, rv, now))


def test_body(listener: WorkflowListener) -> None:
    """Every field of the body comes from where the rules say, conditions in order."""
    pod = make_pod(
        "Running",
        message="hello",
        conditions=(
            condition("PodScheduled", "True", "R", "M"),
            condition("Ready", "False", None, None, None),
            condition("Other", "Unknown"),
        ),
        retry="3",
        node="node-9",
        ip="10.0.0.7",
        rv=42,
    )
    (message,) = listener.on_change(None, pod, 42, T0)
    assert message.key == "w1/t1/3"
    assert message.version == Version(EPOCH, 42)
    assert message.timestamp == T0
    assert not message.final
    assert decode_body(message.kind, message.payload) == UpdatePod(
        workflow_uuid="w1",
        task_uuid="t1",
        retry_id=3,
        status="RUNNING",
        container="user",
        node="node-9",
        pod_ip="10.0.0.7",
        message="hello",
        exit_code=-1,
        conditions=(
            Condition("PodScheduled", True, "R", "M", SINCE),
            Condition("Ready", False),
            Condition("Other", False, timestamp=SINCE),
        ),
        pod="osmo/pod-1",
        created_at=SINCE,
    )


@pytest.mark.parametrize(
    ("label", "retry_id"),
    [
        (None, 0),
        ("", 0),
        ("2", 2),
        ("12ab", 12),
        ("-3", -3),
        ("+4", 4),
        ("x5", 0),
        ("007", 7),
        ("2147483647", 2147483647),
        ("2147483648", 0),
        ("٣", 0),
    ],
)
def test_retry_label(listener: WorkflowListener, label: str | None, retry_id: int) -> None:
    """The number at the start of the label, else 0."""
    assert see(listener, make_pod(retry=label))[0].key == f"w1/t1/{retry_id}"


def test_labels_may_be_empty_but_not_absent(listener: WorkflowListener) -> None:
    """Empty label values make a task, a missing label does not."""
    pod = make_pod()
    for labels, keys in (
        (PodLabels(workflow_uuid="", task_uuid=""), ["//0"]),
        (PodLabels(workflow_uuid="w1"), []),
        (PodLabels(task_uuid="t1"), []),
    ):
        metadata = msgspec.structs.replace(pod.metadata, labels=labels, uid=repr(labels))
        other = msgspec.structs.replace(pod, metadata=metadata)
        assert [each.key for each in see(listener, other)] == keys


def test_a_pod_without_containers_is_reported(listener: WorkflowListener) -> None:
    """An object that lacks its containers has an empty container name."""
    pod = msgspec.structs.replace(make_pod(), spec=type(make_pod().spec)())
    (message,) = listener.on_change(None, pod, 1, T0)
    assert decode_body(message.kind, message.payload).container == ""


def test_what_is_unchanged_is_sent_once(listener: WorkflowListener) -> None:
    """A newer resource version alone is no news."""
    assert len(see(listener, make_pod(rv=1))) == 1
    assert see(listener, make_pod(rv=2)) == []


@pytest.mark.parametrize(
    "changed",
    [
        make_pod(rv=2, node="node-2"),
        make_pod(rv=2, ip="10.0.0.1"),
        make_pod(rv=2, message="m"),
        make_pod(rv=2, conditions=(NOT_READY,)),
        make_pod("Succeeded", rv=2),
    ],
    ids=["node", "ip", "message", "conditions", "status"],
)
def test_every_column_counts(listener: WorkflowListener, changed: Pod) -> None:
    """Any change of what users see is sent, with the newer version."""
    see(listener, make_pod(rv=1))
    assert [each.version for each in see(listener, changed)] == [(EPOCH, 2)]


def test_a_change_of_the_exit_code_is_sent(listener: WorkflowListener) -> None:
    """Two failures that differ in nothing but the code are two reports."""
    see(listener, make_pod("Failed", rv=1, containers=(ended("user", 1),)))
    assert len(see(listener, make_pod("Failed", rv=2, containers=(ended("user", 2),)))) == 1


def test_back_and_forth_is_sent_three_times(listener: WorkflowListener) -> None:
    """A, B, A are three reports."""
    states = [make_pod("Pending", rv=1), make_pod("Running", rv=2), make_pod("Pending", rv=3)]
    statuses = [each.status for pod in states for each in see(listener, pod)]
    assert statuses == ["SCHEDULING", "RUNNING", "SCHEDULING"]


def test_an_unchanged_task_is_sent_again_after_the_ttl(listener: WorkflowListener) -> None:
    """A pod seen later than the TTL after the last report is sent again, with the same version."""
    first = see(listener, make_pod(rv=1))
    assert see(listener, make_pod(rv=1), T0 + TTL) == []
    assert see(listener, make_pod(rv=1), T0 + TTL + 1) == first
    assert see(listener, make_pod(rv=1), T0 + TTL + 2) == []


def test_a_ttl_of_zero_never_expires() -> None:
    """With `resend_after=0` what is unchanged is never sent again."""
    listener = WorkflowListener(WorkflowConfig(resend_after=0))
    see(listener, make_pod())
    assert see(listener, make_pod(), T0 + 1e9) == []


def test_a_terminal_status_is_final(listener: WorkflowListener) -> None:
    """The report of a terminal status is final, and no other follows but a terminal one."""
    assert see(listener, make_pod("Pending", rv=1))[0].final is False
    (failed,) = see(listener, make_pod("Failed", rv=2))
    assert (failed.status, failed.final) == ("FAILED", True)
    assert see(listener, make_pod("Running", rv=3)) == []
    assert see(listener, make_pod("Unknown", rv=4)) == []
    (completed,) = see(listener, make_pod("Succeeded", rv=5))
    assert (completed.status, completed.final) == ("COMPLETED", True)


def test_a_new_epoch_says_what_the_cluster_shows(listener: WorkflowListener) -> None:
    """A pod that has ended and is there again as it was before, because the cluster was restored,
    is reported so; from then on nothing but an end follows an end as before."""
    see(listener, make_pod("Running", rv=1))
    see(listener, make_pod("Succeeded", rv=2))
    assert see(listener, make_pod("Running", rv=1)) == []
    listener.restart(EPOCH + 1)
    (restored, _) = listener.snapshot([make_pod("Running", rv=1)], 1, T0)
    assert sent([restored]) == [Sent(KEY, (EPOCH + 1, 1), "RUNNING")]
    (failed,) = see(listener, make_pod("Failed", rv=2))
    assert (failed.status, failed.final) == ("FAILED", True)
    assert see(listener, make_pod("Running", rv=3)) == []


def test_what_is_repeated_of_an_unknown_pod_holds_nothing_back(listener: WorkflowListener) -> None:
    """That it had ended was said in an epoch before: the cluster may say otherwise by now."""
    see(listener, make_pod("Succeeded", rv=2))
    listener.restart(EPOCH + 1)
    (repeated, _) = listener.snapshot([make_pod("Unknown", rv=1)], 1, T0)
    assert sent([repeated]) == [Sent(KEY, (EPOCH + 1, 1), "COMPLETED", final=True)]
    assert see(listener, make_pod("Running", rv=2)) == [Sent(KEY, (EPOCH + 1, 2), "RUNNING")]


def test_what_was_told_as_passing_may_become_the_end(listener: WorkflowListener) -> None:
    """That nothing takes it back any more is news, be the text the same."""
    disrupted = (condition("DisruptionTarget", reason="x"),)
    (passing,) = see(listener, make_pod("Running", rv=1, conditions=disrupted))
    assert (passing.status, passing.final) == ("FAILED_BACKEND_ERROR", False)
    assert see(listener, make_pod("Failed", rv=1, conditions=disrupted)) == [
        Sent(KEY, (EPOCH, 2), "FAILED_BACKEND_ERROR", final=True)
    ]


def test_a_task_that_ended_stays_so_when_its_pod_goes(listener: WorkflowListener) -> None:
    """The deletion of a pod that recovered after its end was reported says how it ended."""
    see(listener, make_pod("Failed", rv=1))
    see(listener, make_pod("Running", rv=2))
    assert gone(listener, make_pod("Running", rv=3), 3) == [
        Sent(KEY, (EPOCH, 3), "FAILED", deleted=True, final=True)
    ]


def test_delete_evaluates_the_last_object(listener: WorkflowListener) -> None:
    """The object that the deletion carries is looked at once more, and the task is forgotten."""
    see(listener, make_pod("Running", rv=1))
    assert gone(listener, make_pod("Succeeded", rv=2), 2) == [
        Sent(KEY, (EPOCH, 2), "COMPLETED", deleted=True, final=True)
    ]
    assert gone(listener, make_pod("Succeeded", rv=2), 3) == []


def test_an_inferred_delete_has_the_version_of_the_list(listener: WorkflowListener) -> None:
    """A pod that a list no longer holds is reported with the list's version."""
    see(listener, make_pod("Running", rv=1))
    assert gone(listener, make_pod("Running", rv=1), 99) == [
        Sent(KEY, (EPOCH, 99), "RUNNING", deleted=True)
    ]


def test_a_pod_created_again_is_seen(listener: WorkflowListener) -> None:
    """A new pod with the labels of one that is gone counts; the deletion alone is no end."""
    see(listener, make_pod("Running", rv=1, uid="a"))
    (deleted,) = gone(listener, make_pod("Running", rv=1, uid="a"), 2)
    (created,) = see(listener, make_pod("Running", rv=3, uid="b"))
    assert not deleted.final
    assert created == Sent(KEY, (EPOCH, 3), "RUNNING")


def test_a_pod_beside_one_that_ended_is_seen(listener: WorkflowListener) -> None:
    """What ended was another pod with the same labels."""
    see(listener, make_pod("Succeeded", rv=1, uid="a"))
    assert see(listener, make_pod("Running", rv=2, uid="b")) == [Sent(KEY, (EPOCH, 2), "RUNNING")]


@pytest.mark.parametrize("phase", ["Running", "Succeeded", "Unknown"])
def test_a_pod_created_again_outranks_what_was_said_of_the_one_before(
    listener: WorkflowListener, phase: str
) -> None:
    """A list tells of the pod that went with its own version, which is higher than that of the pod
    that took its place."""
    see(listener, make_pod("Running", rv=1, uid="a"))
    if phase == "Unknown":
        see(listener, make_pod(phase, rv=2, uid="a"))
    (deleted,) = gone(listener, make_pod(phase, rv=2, uid="a"), 9)
    (created,) = see(listener, make_pod("Running", rv=5, uid="b"))
    assert created.version > deleted.version
    (changed,) = see(listener, make_pod("Running", rv=10, uid="b", ip="10.0.0.1"))
    assert changed.version > created.version


def test_a_pod_created_again_in_an_unknown_state_exists(listener: WorkflowListener) -> None:
    """A snapshot says so with a higher version than the deletion of the one before."""
    listener.on_change(None, make_pod("Unknown", rv=1, uid="a"), 1, T0)
    (deleted,) = listener.on_change(make_pod("Unknown", rv=1, uid="a"), None, 9, T0)
    (found, _) = listener.snapshot([make_pod("Unknown", rv=5, uid="b")], 9, T0)
    assert existence(found)[1].revision > deleted.version.revision


def test_unknown_is_not_sent(listener: WorkflowListener) -> None:
    """Of a pod whose status was never known only the deletion is reported, without a status."""
    pod = make_pod("Unknown")
    assert see(listener, pod) == []
    (deleted,) = listener.on_change(pod, None, 2, T0)
    assert existence(deleted) == (KEY, Version(EPOCH, 2), False, GONE)


def test_unknown_leaves_the_last_report(listener: WorkflowListener) -> None:
    """A task that turns UNKNOWN stays as it was reported, and is deleted as such."""
    see(listener, make_pod("Running", rv=1, ip="10.0.0.1"))
    assert see(listener, make_pod("Unknown", rv=2)) == []
    (message,) = listener.on_change(make_pod("Unknown", rv=2), None, 3, T0)
    body = decode_body(message.kind, message.payload)
    assert (body.status, body.pod_ip, body.deleted) == ("RUNNING", "10.0.0.1", True)


def test_time_alone_ends_a_stuck_task() -> None:
    """A stuck pod is reported by the timer, without any event, with its own version."""
    listener = WorkflowListener(WorkflowConfig(status_mode=PodStatusMode.REDESIGN))
    listener.restart(EPOCH)
    assert see(listener, make_pod("Running", rv=5, containers=STUCK, conditions=(NOT_READY,))) == []
    deadline = listener.next_deadline()
    assert deadline == pytest.approx(T0 + 1800)
    assert deadline is not None
    assert listener.due(T0 + 1799) == []
    assert sent(listener.due(deadline)) == [
        Sent(KEY, (EPOCH, 5), "FAILED_BACKEND_ERROR", final=True)
    ]
    assert listener.next_deadline() is None


def test_the_timer_outranks_what_the_same_version_said_before() -> None:
    """In legacy mode a stuck pod is SCHEDULING first: the timer's report has a higher version, and
    so has what follows, be the next version the pod's own or not."""
    listener = WorkflowListener(WorkflowConfig(status_mode=PodStatusMode.LEGACY))
    listener.restart(EPOCH)
    pod = make_pod("Running", rv=5, containers=STUCK, conditions=(NOT_READY,))
    assert see(listener, pod) == [Sent(KEY, (EPOCH, 5), "SCHEDULING")]
    (late,) = sent(listener.due(T0 + 1801))
    assert late == Sent(KEY, (EPOCH, 6), "FAILED_BACKEND_ERROR", final=True)
    assert gone(listener, pod, 6, T0 + 1801)[0].version == (EPOCH, 7)


@pytest.mark.parametrize("leave", ["recovers", "goes"])
def test_a_deadline_is_dropped(listener: WorkflowListener, leave: str) -> None:
    """A stuck pod that recovers or goes needs no timer any more."""
    stuck = make_pod("Running", rv=1, containers=STUCK, conditions=(NOT_READY,))
    see(listener, stuck)
    if leave == "recovers":
        see(listener, make_pod("Running", rv=2))
    else:
        listener.on_change(stuck, None, 2, T0)
    assert listener.next_deadline() is None
    assert listener.due(T0 + 1e6) == []


def test_the_pod_that_changed_last_is_the_task(listener: WorkflowListener) -> None:
    """Of two pods with the same labels the one with the higher version is reported."""
    see(listener, make_pod("Running", rv=5, uid="b"))
    assert see(listener, make_pod("Pending", rv=3, uid="a")) == []
    assert [each.status for each in see(listener, make_pod("Pending", rv=6, uid="a"))] == [
        "SCHEDULING"
    ]


def test_deleting_the_older_duplicate_changes_nothing(listener: WorkflowListener) -> None:
    """The task lives on while a newer pod runs it."""
    older, newer = make_pod("Pending", rv=1, uid="a"), make_pod("Running", rv=2, uid="b")
    see(listener, older)
    see(listener, newer)
    assert gone(listener, older, 3) == []
    assert gone(listener, newer, 4) == [Sent(KEY, (EPOCH, 4), "RUNNING", deleted=True)]


def test_deleting_the_newer_duplicate_brings_the_older_back(listener: WorkflowListener) -> None:
    """The remaining pod is reported again, with a version above what was said of the other."""
    see(listener, make_pod("Pending", rv=1, uid="a"))
    see(listener, make_pod("Running", rv=8, uid="b"))
    assert gone(listener, make_pod("Running", rv=8, uid="b"), 9) == [
        Sent(KEY, (EPOCH, 9), "SCHEDULING")
    ]


def test_a_pod_that_took_the_place_of_another(listener: WorkflowListener) -> None:
    """A change from one uid to another is no deletion when the labels are the same."""
    old, new = make_pod("Running", rv=1, uid="a"), make_pod("Pending", rv=5, uid="b")
    see(listener, old)
    assert sent(listener.on_change(old, new, 5, T0)) == [Sent(KEY, (EPOCH, 5), "SCHEDULING")]
    assert gone(listener, new, 6)[0].deleted


def test_a_pod_whose_labels_changed(listener: WorkflowListener) -> None:
    """The task that the pod leaves is deleted, the one that it joins is reported."""
    old, new = make_pod(rv=1, task="t1", uid="a"), make_pod(rv=2, task="t2", uid="a")
    see(listener, old)
    assert sent(listener.on_change(old, new, 2, T0)) == [
        Sent("w1/t1/0", (EPOCH, 2), "RUNNING", deleted=True),
        Sent("w1/t2/0", (EPOCH, 3), "RUNNING"),
    ]


def test_a_pod_that_lost_its_labels(listener: WorkflowListener) -> None:
    """The task is deleted."""
    old = make_pod(rv=1)
    metadata = msgspec.structs.replace(old.metadata, labels=PodLabels(), resource_version="2")
    new = msgspec.structs.replace(old, metadata=metadata)
    see(listener, old)
    assert [each.deleted for each in sent(listener.on_change(old, new, 2, T0))] == [True]


def end_of(message: Message) -> tuple[str, Version, SnapshotEnd]:
    """The parts of a `snapshot_end`."""
    assert message.kind == "snapshot_end"
    return message.key, message.version, decode_body(message.kind, message.payload)


def test_snapshot(listener: WorkflowListener) -> None:
    """A new epoch reports everything again, unchanged as it is, and closes with the count."""
    pods = [make_pod(rv=rv, task=f"t{rv}") for rv in (1, 2, 3)]
    for pod in pods:
        see(listener, pod)
    listener.restart(EPOCH + 1)
    *reports, end = listener.snapshot(pods, 50, T0)
    assert [(each.key, each.version) for each in sent(reports)] == [
        (f"w1/t{rv}/0", (EPOCH + 1, rv)) for rv in (1, 2, 3)
    ]
    assert end_of(end) == ("update_pod", Version(EPOCH + 1, 50), SnapshotEnd("update_pod", 3))


def test_snapshot_of_nothing(listener: WorkflowListener) -> None:
    """An empty cluster is a snapshot too: what the store still holds is gone."""
    (end,) = listener.snapshot([], 9, T0)
    assert end_of(end)[2] == SnapshotEnd("update_pod", 0)


def test_snapshot_repeats_what_is_held_back(listener: WorkflowListener) -> None:
    """A task that ended or turned UNKNOWN is alive: it is reported as before, not left out."""
    for pod in (
        make_pod("Failed", rv=1, task="t1"),
        make_pod("Running", rv=3, task="t2"),
        make_pod("Unknown", rv=4, task="t2"),
        make_pod("Unknown", rv=5, task="t3"),
    ):
        see(listener, pod)
    live = [
        make_pod("Failed", rv=1, task="t1"),
        make_pod("Unknown", rv=4, task="t2"),
        make_pod("Unknown", rv=5, task="t3"),
    ]
    listener.restart(EPOCH + 1)
    *reports, silent, end = listener.snapshot(live, 9, T0)
    assert silent.kind == "pod_exists"
    assert sent(reports) == [
        Sent("w1/t1/0", (EPOCH + 1, 1), "FAILED", final=True),
        Sent("w1/t2/0", (EPOCH + 1, 4), "RUNNING"),
    ]
    assert end_of(end)[2].count == 2


def existence(message: Message) -> tuple[str, Version, bool, PodExists]:
    """The parts of a `pod_exists`."""
    assert message.kind == "pod_exists"
    body = decode_body(message.kind, message.payload)
    return message.key, message.version, message.final, body


ALIVE = PodExists("w1", "t1", 0)
GONE = PodExists("w1", "t1", 0, deleted=True)


@pytest.mark.parametrize(
    ("pod", "mode"),
    [
        (make_pod("Unknown", rv=5), PodStatusMode.EXACT),
        (
            make_pod("Running", rv=5, containers=STUCK, conditions=(NOT_READY,)),
            PodStatusMode.REDESIGN,
        ),
    ],
    ids=["unknown", "stuck"],
)
def test_a_snapshot_says_of_what_was_never_known_that_it_exists(
    pod: Pod, mode: PodStatusMode
) -> None:
    """An earlier process may have reported it, so it is not left out; nor is it counted. Its
    deletion is reported in the same way, once."""
    listener = WorkflowListener(WorkflowConfig(status_mode=mode))
    listener.restart(EPOCH)
    found, end = listener.snapshot([pod], 9, T0)
    assert existence(found) == (KEY, Version(EPOCH, 5), False, ALIVE)
    assert end_of(end)[2].count == 0
    assert see(listener, pod) == []
    (deleted,) = listener.on_change(pod, None, 12, T0)
    assert existence(deleted) == (KEY, Version(EPOCH, 12), False, GONE)
    assert gone(listener, pod, 13) == []


def test_existence_is_told_in_each_epoch(listener: WorkflowListener) -> None:
    """A restart of the same process repeats it, as long as nothing more is known."""
    pod = make_pod("Unknown", rv=5)
    list(listener.snapshot([pod], 9, T0))
    listener.restart(EPOCH + 1)
    found, _ = listener.snapshot([pod], 9, T0)
    assert existence(found)[1] == Version(EPOCH + 1, 5)


def test_what_is_known_follows_existence(listener: WorkflowListener) -> None:
    """From then on the task is as any other, counted, and deleted with what was known."""
    snapshot = listener.snapshot([make_pod("Unknown", rv=5)], 9, T0)
    next(snapshot)
    assert see(listener, make_pod("Running", rv=6)) == [Sent(KEY, (EPOCH, 6), "RUNNING")]
    (end,) = snapshot
    assert end_of(end)[2].count == 1
    assert see(listener, make_pod("Unknown", rv=7)) == []
    assert gone(listener, make_pod("Unknown", rv=7), 8) == [
        Sent(KEY, (EPOCH, 8), "RUNNING", deleted=True)
    ]


def test_the_last_object_may_make_known_what_existed(listener: WorkflowListener) -> None:
    """A deletion that carries a known state reports that state."""
    list(listener.snapshot([make_pod("Unknown", rv=5)], 9, T0))
    assert gone(listener, make_pod("Failed", rv=6), 6) == [
        Sent(KEY, (EPOCH, 6), "FAILED", deleted=True, final=True)
    ]


def test_the_pod_that_remains_when_one_goes_that_was_never_known(
    listener: WorkflowListener,
) -> None:
    """The task lives on as what the other pod says."""
    pods = [make_pod("Running", rv=3, uid="a"), make_pod("Unknown", rv=5, uid="b")]
    found, _ = listener.snapshot(pods, 9, T0)
    assert existence(found)[1] == Version(EPOCH, 5)
    assert gone(listener, pods[1], 10) == [Sent(KEY, (EPOCH, 6), "RUNNING")]


def test_snapshot_takes_over_the_pods(listener: WorkflowListener) -> None:
    """A pod that the snapshot does not hold is deleted, a new one is reported."""
    see(listener, make_pod(rv=1, task="t1"))
    listener.restart(EPOCH + 1)
    *reports, end = listener.snapshot([make_pod(rv=2, task="t2")], 9, T0)
    assert sent(reports) == [
        Sent("w1/t1/0", (EPOCH + 1, 9), "RUNNING", deleted=True),
        Sent("w1/t2/0", (EPOCH + 1, 2), "RUNNING"),
    ]
    assert end_of(end)[2].count == 2


def test_several_pods_that_went_while_nobody_watched(listener: WorkflowListener) -> None:
    """The one that changed last says how the task ended, whatever those before it did."""
    see(listener, make_pod("Running", rv=1, uid="a"))
    see(listener, make_pod("Succeeded", rv=2, uid="b"))
    listener.restart(EPOCH + 1)
    *reports, _ = listener.snapshot([], 9, T0)
    assert sent(reports)[-1] == Sent(KEY, (EPOCH + 1, 9), "COMPLETED", deleted=True, final=True)
    assert {report.status for report in sent(reports)} == {"COMPLETED"}


def test_changes_while_a_snapshot_is_under_way(listener: WorkflowListener) -> None:
    """What a change reported meanwhile is not reported again, what is gone does not come back, and
    each task is counted once."""
    pods = [make_pod(rv=rv, task=f"t{rv}") for rv in (1, 2, 3, 4)]
    for pod in pods:
        see(listener, pod)
    listener.restart(EPOCH + 1)
    snapshot = listener.snapshot(pods, 4, T0)
    assert sent([next(snapshot)]) == [Sent("w1/t1/0", (EPOCH + 1, 1), "RUNNING")]
    see(listener, make_pod("Succeeded", rv=5, task="t2"))
    gone(listener, pods[2], 6)
    gone(listener, pods[0], 7)
    see(listener, make_pod(rv=8, task="t1", uid="again"))
    *reports, end = snapshot
    assert sent(reports) == [Sent("w1/t4/0", (EPOCH + 1, 4), "RUNNING")]
    assert end_of(end)[2].count == 4


def test_a_silent_pod_that_goes_while_a_snapshot_is_under_way(listener: WorkflowListener) -> None:
    """A task whose state was never known and that is gone by the time of its turn is passed over:
    its deletion was told, and does not count."""
    pods = [make_pod(rv=1, task="t1"), make_pod("Unknown", rv=2, task="t2")]
    snapshot = listener.snapshot(pods, 3, T0)
    next(snapshot)
    (deleted,) = listener.on_change(pods[1], None, 4, T0)
    assert existence(deleted)[3].deleted
    (end,) = snapshot
    assert end_of(end)[2].count == 1


def test_a_task_that_comes_back_unknown_while_a_snapshot_is_under_way(
    listener: WorkflowListener,
) -> None:
    """It counts once all the same: its deletion was reported in this epoch, so it has a row."""
    pods = [make_pod(rv=rv, task=f"t{rv}") for rv in (1, 2)]
    snapshot = listener.snapshot(pods, 3, T0)
    next(snapshot)
    gone(listener, pods[0], 4)
    listener.on_change(None, make_pod("Unknown", rv=5, task="t1", uid="again"), 5, T0)
    *_, end = snapshot
    assert end_of(end)[2].count == 2


def test_a_restart_ends_the_snapshot_before_it(listener: WorkflowListener) -> None:
    """A snapshot whose epoch is over says nothing more, least of all that it is complete."""
    pods = [make_pod(rv=rv, task=f"t{rv}") for rv in (1, 2)]
    snapshot = listener.snapshot(pods, 4, T0)
    next(snapshot)
    listener.restart(EPOCH + 1)
    assert list(snapshot) == []
    assert len(list(listener.snapshot(pods, 4, T0))) == 3


def test_versions_may_go_back_in_a_new_epoch(listener: WorkflowListener) -> None:
    """After the cluster was restored from a backup the new epoch starts from the older versions."""
    see(listener, make_pod("Running", rv=1000))
    listener.restart(EPOCH + 1)
    restored = make_pod("Unknown", rv=500)
    (report, _) = listener.snapshot([restored], 501, T0)
    assert report.version == Version(EPOCH + 1, 500)
    assert [each.version for each in see(listener, make_pod("Succeeded", rv=502))] == [
        (EPOCH + 1, 502)
    ]


def test_a_running_container_says_nothing(listener: WorkflowListener) -> None:
    """Containers that run leave the phase to decide."""
    pod = make_pod("Running", containers=(running("user"), running("osmo-ctrl")))
    assert [each.status for each in see(listener, pod)] == ["RUNNING"]
