"""Pods for tests, written as briefly as the rules are."""

from datetime import UTC, datetime

from osmo_listener.listeners.objects import (
    Container,
    ContainerState,
    ContainerStatus,
    Pod,
    PodCondition,
    PodLabels,
    PodMetadata,
    PodSpec,
    PodStatus,
    Terminated,
    Waiting,
)

SINCE = "2026-01-02T03:04:05Z"
T0 = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp()
"""SINCE in seconds since the Unix epoch."""


def running(name: str) -> ContainerStatus:
    """A container that runs."""
    return ContainerStatus(name=name)


def waiting(name: str, reason: str = "", message: str = "") -> ContainerStatus:
    """A container that waits."""
    return ContainerStatus(name=name, state=ContainerState(waiting=Waiting(reason, message)))


def ended(name: str, code: int, reason: str = "Error", message: str = "") -> ContainerStatus:
    """A container that has terminated."""
    terminated = Terminated(exit_code=code, reason=reason, message=message)
    return ContainerStatus(name=name, state=ContainerState(terminated=terminated))


def condition(
    type: str,  # noqa: A002
    status: str = "True",
    reason: str | None = None,
    message: str | None = None,
    at: str | None = SINCE,
) -> PodCondition:
    """A condition."""
    return PodCondition(type, status, reason, message, at)


NOT_READY = condition("Ready", "False", "ContainersNotReady")


def make_pod(
    phase: str = "Running",
    *,
    reason: str = "",
    message: str = "",
    conditions: tuple[PodCondition, ...] = (),
    init: tuple[ContainerStatus, ...] = (),
    containers: tuple[ContainerStatus, ...] = (),
    task: str = "t1",
    retry: str | None = "0",
    uid: str = "",
    rv: int = 1,
    node: str = "node-1",
    ip: str = "",
) -> Pod:
    """A pod of workflow `w1`; `uid` defaults to one that belongs to its labels."""
    return Pod(
        metadata=PodMetadata(
            name="pod-1",
            namespace="osmo",
            uid=uid or f"uid-{task}-{retry}",
            resource_version=str(rv),
            creation_timestamp=SINCE,
            labels=PodLabels(workflow_uuid="w1", task_uuid=task, retry_id=retry),
        ),
        spec=PodSpec(node_name=node, containers=(Container("user"), Container("osmo-ctrl"))),
        status=PodStatus(
            phase=phase,
            reason=reason,
            message=message,
            pod_ip=ip,
            conditions=conditions,
            init_container_statuses=init,
            container_statuses=containers,
        ),
    )
