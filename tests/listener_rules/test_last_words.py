"""What is said of a pod that goes, and of the one that takes its place, by every set of rules."""

import msgspec
import pytest
from msgspec.structs import astuple

from osmo_listener.listeners import PodStatusMode, WorkflowConfig, WorkflowListener
from osmo_listener.listeners.objects import Pod, SharedPod
from osmo_listener.listeners.slimming import slim_shared_pod
from osmo_reports.bodies import UpdatePod, decode_body
from osmo_transport.message import Message
from tests.listener_rules.harness import (
    NOT_READY,
    SINCE,
    T0,
    condition,
    ended,
    make_pod,
    waiting,
)

EPOCH = 7
EARLY = "The pod was deleted before it ended. "
UNSEEN = "The pod was deleted while nobody watched, before or after it ended. "
LATER = "2026-01-02T03:14:05Z"


@pytest.fixture(params=PodStatusMode, ids=lambda mode: mode.value)
def listener(request: pytest.FixtureRequest) -> WorkflowListener:
    """A listener of each set of rules, in epoch 7."""
    listener = WorkflowListener(WorkflowConfig(status_mode=request.param))
    listener.restart(EPOCH)
    return listener


def body_of(messages: list[Message]) -> tuple[UpdatePod, bool]:
    """The only report, and whether it is final."""
    (message,) = messages
    body: UpdatePod = decode_body("update_pod", message.payload)
    return body, message.final


def told(listener: WorkflowListener, pod: Pod) -> UpdatePod:
    """What is told of a pod that is seen."""
    return body_of(listener.on_change(None, pod, int(pod.metadata.resource_version), T0))[0]


def test_a_deletion_that_was_watched(listener: WorkflowListener) -> None:
    """The last state, and that the pod had not ended: not final, for a new pod may come."""
    before = told(listener, make_pod("Running", rv=1, ip="10.0.0.1"))
    last, final = body_of(listener.on_change(make_pod("Running", rv=2, ip="10.0.0.2"), None, 2, T0))
    assert last == msgspec.structs.replace(before, pod_ip="10.0.0.2", message=EARLY, deleted=True)
    assert not final


def test_a_deletion_that_a_list_shows(listener: WorkflowListener) -> None:
    """The last state that is known; it may have ended, and nobody knows."""
    before = told(listener, make_pod("Running", rv=1, ip="10.0.0.1"))
    last, final = body_of(listener.on_change(make_pod("Running", rv=1, ip="10.0.0.1"), None, 9, T0))
    assert last == msgspec.structs.replace(before, message=UNSEEN, deleted=True)
    assert not final


@pytest.mark.parametrize("version", [2, 9], ids=["watched", "listed"])
def test_an_end_is_the_last_word(listener: WorkflowListener, version: int) -> None:
    """Of a pod that had ended nothing is added."""
    pod = make_pod("Succeeded", rv=2)
    told(listener, pod)
    last, final = body_of(listener.on_change(pod, None, version, T0))
    assert (last.status, last.message, last.deleted, final) == ("COMPLETED", "", True, True)


def test_the_end_that_a_deletion_shows(listener: WorkflowListener) -> None:
    """The object that the watch shows last may have ended."""
    told(listener, make_pod("Running", rv=1))
    last, final = body_of(
        listener.on_change(make_pod("Failed", rv=2, containers=(ended("c", 3),)), None, 2, T0)
    )
    assert (last.status, last.exit_code, final) == ("FAILED", 3, True)
    assert EARLY not in last.message


def test_what_was_told_is_told_again_where_nothing_is_known(listener: WorkflowListener) -> None:
    """A pod in an unknown state goes as what it was told to be."""
    before = told(listener, make_pod("Running", rv=1, ip="10.0.0.1"))
    lost = make_pod("Unknown", rv=2)
    assert listener.on_change(None, lost, 2, T0) == []
    last, final = body_of(listener.on_change(make_pod("Unknown", rv=3), None, 3, T0))
    assert last == msgspec.structs.replace(before, message=EARLY, deleted=True)
    assert not final


def test_a_failure_that_might_have_been_taken_back() -> None:
    """Nothing takes it back any more: it is final, and says that the pod had not ended."""
    listener = WorkflowListener()
    listener.restart(EPOCH)
    pulling = make_pod("Pending", rv=1, containers=(waiting("user", "ImagePullBackOff", "no"),))
    assert told(listener, pulling).status == "FAILED_IMAGE_PULL"
    metadata = msgspec.structs.replace(pulling.metadata, resource_version="2")
    gone = msgspec.structs.replace(pulling, metadata=metadata)
    last, final = body_of(listener.on_change(gone, None, 2, T0))
    assert (last.status, final) == ("FAILED_IMAGE_PULL", True)
    assert last.message.endswith(f"no. {EARLY}")


def test_a_deletion_while_the_listener_was_down(listener: WorkflowListener) -> None:
    """A new process knows nothing of the pod: the snapshot's end alone tells, so that what the
    store has stays."""
    (end,) = listener.snapshot([], 9, T0)
    assert end.kind == "snapshot_end"


# The pod's own start.


def created(pod: Pod, at: str, **metadata: str) -> Pod:
    """The same pod, created at that time."""
    made = msgspec.structs.replace(pod.metadata, creation_timestamp=at, **metadata)
    return msgspec.structs.replace(pod, metadata=made)


STATES = {
    "pending": make_pod("Pending"),
    "initializing": make_pod("Pending", init=(waiting("osmo-init", "PodInitializing"),)),
    "running": make_pod("Running"),
    "disrupted": make_pod("Running", conditions=(condition("DisruptionTarget"),)),
    "pulling": make_pod(
        "Pending", conditions=(NOT_READY,), containers=(waiting("c", "ErrImagePull"),)
    ),
    "succeeded": make_pod("Succeeded"),
    "failed": make_pod("Failed", reason="Evicted"),
}


@pytest.mark.parametrize("state", STATES)
def test_every_report_has_the_start_of_its_pod(listener: WorkflowListener, state: str) -> None:
    """In every state, when all is told again, and when the pod goes; from a shared watch too."""
    pod = slim_shared(created(STATES[state], LATER))
    assert told(listener, pod).created_at == LATER
    listener.restart(EPOCH + 1)
    again, _ = listener.snapshot([pod], 9, T0)
    assert body_of([again])[0].created_at == LATER
    assert body_of(listener.on_change(pod, None, 9, T0))[0].created_at == LATER


def slim_shared(pod: Pod) -> Pod:
    """As one watch for several listeners keeps it."""
    shared = msgspec.convert(msgspec.to_builtins(pod), SharedPod)
    return slim_shared_pod("osmo")(shared)


@pytest.mark.parametrize("state", ["pending", "initializing", "running"])
@pytest.mark.parametrize("gone", ["before", "after", "with"])
def test_a_pod_that_is_created_anew(listener: WorkflowListener, state: str, gone: str) -> None:
    """Its start is told though nothing else has changed, whenever the old one goes, and the newest
    report is that of the new pod."""
    old = created(STATES[state], SINCE, uid="a", resource_version="1", name="pod-a")
    new = created(STATES[state], LATER, uid="b", resource_version="5", name="pod-b")
    assert told(listener, old).created_at == SINCE
    messages: list[Message] = []
    if gone == "before":
        messages += listener.on_change(old, None, 4, T0)
    messages += listener.on_change(old if gone == "with" else None, new, 5, T0)
    if gone == "after":
        messages += listener.on_change(old, None, 6, T0)
    last = max(messages, key=lambda message: astuple(message.version))
    body, _ = body_of([last])
    assert (body.created_at, body.pod, body.deleted) == (LATER, "osmo/pod-b", False)


def test_a_start_is_news_by_itself(listener: WorkflowListener) -> None:
    """Also where the new pod has the old one's name."""
    old = created(STATES["pending"], SINCE, uid="a", resource_version="1")
    new = created(STATES["pending"], LATER, uid="b", resource_version="5")
    before = told(listener, old)
    assert told(listener, new) == msgspec.structs.replace(before, created_at=LATER)
