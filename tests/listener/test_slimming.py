"""The transforms of pods: what stays, what goes, and what is kept once."""

import tracemalloc
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from osmo_listener.informer.source import Page
from osmo_listener.informer.store import Store
from osmo_listener.kubernetes.json_decoding import JsonDecoder
from osmo_listener.listeners.objects import Node, Pod, SharedPod, UsagePod
from osmo_listener.listeners.registry import WORKFLOW
from osmo_listener.listeners.slimming import (
    slim_node,
    slim_shared_pod,
    slim_task_pod,
    slim_usage_pod,
    task_pods,
)
from osmo_listener.listeners.workflow import WorkflowListener
from osmo_simulator.builders import make_node, make_pod, task_labels
from tests.listener import wire

slim_shared = slim_shared_pod("osmo")
runs_task = task_pods("osmo")


def body(
    name: str = "a", namespace: str = "osmo", phase: str = "Running", **labels: str
) -> dict[str, Any]:
    """A pod as the API server writes it, with all that is read of one; None of two is the same
    object as in another."""
    requests = {"cpu": "1", "memory": "2Gi", "ephemeral-storage": "1Gi", "nvidia.com/gpu": "1"}
    return {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": f"uid-{name}",
            "resourceVersion": "7",
            "creationTimestamp": "2026-01-02T03:04:05Z",
            "labels": {f"osmo.{key}": value for key, value in labels.items()},
        },
        "spec": {
            "nodeName": "n1",
            "containers": [
                {"name": f"{name}-main", "resources": {"requests": requests, "limits": requests}},
                {"name": f"{name}-side", "resources": {}},
            ],
            "initContainers": [
                {"name": "init", "resources": {"requests": requests}, "restartPolicy": "Always"}
            ],
            "resources": {"requests": requests},
            "overhead": requests,
        },
        "status": {
            "phase": phase,
            "message": "m",
            "podIP": "10.0.0.1",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "main", "state": {"running": {}}}],
        },
    }


TASK = {"workflow_uuid": "w", "task_uuid": "t"}


def shared(pod: dict[str, Any]) -> SharedPod:
    """A pod as it is decoded for a shared watch."""
    return msgspec.convert(pod, SharedPod)


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        (body(**TASK), True),
        (body(workflow_uuid="", task_uuid=""), True),
        (body(namespace="other", **TASK), False),
        (body(workflow_uuid="w"), False),
        (body(task_uuid="t"), False),
        (body(), False),
    ],
    ids=["3.2 both", "3.2 empty values", "another namespace", "3.2 one", "3.2 other one", "none"],
)
def test_task_pods(pod: dict[str, Any], expected: bool) -> None:
    """A task's pod is in the namespace and has both labels, whatever their values."""
    assert runs_task(shared(pod)) is expected
    assert runs_task(slim_shared(shared(pod))) is expected


def test_task_keeps_everything() -> None:
    """What the workflow listener reads of a task is all there, and the requests too."""
    pod = shared(body(**TASK))
    slim = slim_shared(pod)
    assert slim == pod
    plain = msgspec.convert(body(**TASK), Pod)
    assert (slim.metadata, slim.status) == (plain.metadata, plain.status)
    assert [each.name for each in slim.spec.containers] == [c.name for c in plain.spec.containers]


@pytest.mark.parametrize("pod", [body(namespace="kube-system", **TASK), body(workflow_uuid="w")])
def test_other_pod_keeps_what_its_usage_needs(pod: dict[str, Any]) -> None:
    """Of another pod identity, node, phase and requests stay, and which are sidecars."""
    whole = shared(pod)
    slim = slim_shared(whole)
    identity = {**pod["metadata"], "labels": {}, "creationTimestamp": ""}
    containers = [
        {"name": "", "resources": each["resources"]} for each in pod["spec"]["containers"]
    ]
    (sidecar,) = pod["spec"]["initContainers"]
    spec = pod["spec"] | {"containers": containers, "initContainers": [sidecar | {"name": ""}]}
    assert slim == shared(
        {
            "metadata": identity,
            "spec": spec,
            "status": {"phase": "Running"},
        }
    )


def test_usage_pod_stays_the_same() -> None:
    """The transform of a usage pod changes nothing that can be read."""
    pod = msgspec.convert(body(), UsagePod)
    assert slim_usage_pod(pod) == pod


def test_equal_parts_are_kept_once() -> None:
    """Pods of one template on one node share node, namespace, requests and phase."""
    texts = [msgspec.json.encode(body(name, "batch")) for name in ("a", "b")]
    one, other = (slim_usage_pod(msgspec.json.decode(text, type=UsagePod)) for text in texts)
    assert one.metadata.namespace is other.metadata.namespace
    assert one.spec.node_name is other.spec.node_name
    for part in ("containers", "init_containers", "resources", "overhead"):
        assert getattr(one.spec, part) is getattr(other.spec, part)
    assert one.status is other.status
    first, second = (slim_shared(msgspec.json.decode(text, type=SharedPod)) for text in texts)
    assert first.metadata.namespace is second.metadata.namespace
    assert first.spec.node_name is second.spec.node_name
    for part in ("containers", "init_containers", "resources", "overhead"):
        assert getattr(first.spec, part) is getattr(second.spec, part)
    assert first.status is second.status


def test_task_pod_stays_the_same() -> None:
    """The transform of a task's pod changes nothing that can be read, whatever state it is in."""
    ended = {"name": "main", "state": {"terminated": {"exitCode": 1, "message": "why"}}}
    changes: list[dict[str, Any]] = [
        *({}, {"conditions": []}, {"containerStatuses": [ended]}, {"message": ""})
    ]
    for change in changes:
        made = body(**TASK)
        made["status"] |= change
        for pod in (made, made | {"status": {"phase": "Pending"}}, {"metadata": {"name": "a"}}):
            plain = msgspec.convert(pod, Pod)
            assert slim_task_pod(plain) == plain


def read_task(text: bytes) -> Pod:
    """A pod as the workflow listener's own watch reads it."""
    return slim_task_pod(msgspec.json.decode(text, type=Pod))


def read_shared(text: bytes) -> Pod:
    """A pod as the watch reads it that it shares."""
    return slim_shared(msgspec.json.decode(text, type=SharedPod))


def test_tasks_share_what_they_have_in_common() -> None:
    """Pods of a workflow have one namespace, containers, workflow, and words of their states."""
    made = [body(**TASK, retry_id=f"{number}") for number in range(2)]
    for number, pod in enumerate(made):
        since = {"lastTransitionTime": "2026-01-02T03:04:05Z", "message": f"{number}"}
        pod["status"] |= {"conditions": [{"type": "Ready", "status": "True"} | since]}
    new = b'{"metadata":{},"status":{"phase":"Pending"}}'
    for read in (read_task, read_shared):
        one, other = (read(msgspec.json.encode(pod)) for pod in made)
        assert one != other
        for name in ("namespace", "creation_timestamp"):
            assert getattr(one.metadata, name) is getattr(other.metadata, name)
        assert one.metadata.labels.workflow_uuid is other.metadata.labels.workflow_uuid
        for name in ("containers", "init_containers", "node_name", "restart_policy"):
            assert getattr(one.spec, name) is getattr(other.spec, name)
        assert one.status.phase is other.status.phase
        assert one.status.container_statuses[0] is other.status.container_statuses[0]
        for name in ("type", "status", "last_transition_time"):
            (mine,), (theirs,) = one.status.conditions, other.status.conditions
            assert getattr(mine, name) is getattr(theirs, name)
        assert read(new).status is read(new).status


@given(
    st.builds(
        body,
        namespace=st.sampled_from(["osmo", "other"]),
        phase=st.sampled_from(["Running", "Pending", ""]),
        workflow_uuid=st.text(max_size=3),
    ),
    st.booleans(),
)
def test_slimming_is_stable(pod: dict[str, Any], is_task: bool) -> None:
    """A slim pod stays as it is, and the same pod always becomes the same."""
    if is_task:
        pod["metadata"]["labels"]["osmo.task_uuid"] = "t"
    slim = slim_shared(shared(pod))
    assert slim_shared(slim) == slim
    assert slim_shared(shared(pod)) == slim


def test_decoder_transforms_every_object() -> None:
    """The objects of pages and events, deletions included, come out transformed."""
    decoder = JsonDecoder(SharedPod, slim_shared)
    pods = [body("a", namespace="other"), body("b", **TASK)]
    (other, task) = decoder.page(wire.pod_list(9, pods)).objects
    assert (other.status.pod_ip, task.status.pod_ip) == ("", "10.0.0.1")
    for kind in ("ADDED", "MODIFIED", "DELETED"):
        event = decoder.event(wire.event(kind, pods[0]))
        assert event.object == other
    assert decoder.event(wire.bookmark(9)).object is None


@pytest.mark.parametrize("quantity", ["1", 1, 1.5, None])
def test_quantities_may_be_numbers(quantity: object) -> None:
    """A quantity that is no text, or null, costs no pod and no watch."""
    pod = body()
    pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] = quantity
    (event,) = [JsonDecoder(UsagePod, slim_usage_pod).event(wire.event("ADDED", pod))]
    assert event.object is not None
    assert event.object.spec.containers[0].resources.requests.cpu == quantity


def test_nodes_share_what_they_have_in_common() -> None:
    """A slim node equals what it was; labels, quantities and conditions are those of others."""
    made = make_node("a") | {"spec": {"unschedulable": True, "taints": [{"key": "k"}]}}
    made["status"]["allocatable"] = made["status"]["allocatable"] | {"cpu": 4}
    text = msgspec.json.encode(made)
    plain = msgspec.json.decode(text, type=Node)
    one, two = (slim_node(msgspec.json.decode(text, type=Node)) for _ in range(2))
    assert one == two == plain
    assert one.status.conditions is two.status.conditions
    for mine, other in (
        (one.metadata.labels, two.metadata.labels),
        (one.status.allocatable, two.status.allocatable),
    ):
        assert mine
        for ours, theirs in zip(mine.items(), other.items(), strict=True):
            assert ours[0] is theirs[0]
            assert ours[1] is theirs[1]


def test_what_a_task_takes() -> None:
    """Of a task, informer and listener together keep little more than what is its own."""
    count = 500
    resource = WORKFLOW.resource("osmo")
    pods = [
        make_pod(f"pod-{number}", labels=task_labels(f"workflow-{number // 4}", f"task-{number}"))
        | {"status": body()["status"]}
        for number in range(count)
    ]
    for number, pod in enumerate(pods):
        pod["metadata"] |= {"uid": f"{number:036}", "resourceVersion": f"{1000 + number}"}
    page = wire.pod_list(9, pods)
    decoder = JsonDecoder(resource.type, resource.transform)
    store: Store[Pod] = Store()
    listener = WorkflowListener()
    listener.restart(1)
    tracemalloc.start()
    try:
        listed = decoder.page(page)
        for change in store.apply_page(Page(listed.objects, listed.version)):
            assert listener.on_change(change.old, change.new, change.resource_version, 0.0)
        del listed, change
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken / count < 2_000
