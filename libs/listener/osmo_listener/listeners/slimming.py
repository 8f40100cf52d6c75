"""What an informer keeps of an object: transforms for `Resource.transform`.

Many pods have the same containers, namespace and conditions, and many nodes the same labels: what
is equal is kept once.
"""

from collections.abc import Callable
from functools import lru_cache
from sys import intern

import msgspec

from osmo_listener.listeners.objects import (
    Container,
    ContainerResources,
    ContainerState,
    ContainerStatus,
    Node,
    NodeCondition,
    NodeStatus,
    Pod,
    PodCondition,
    PodLabels,
    PodMetadata,
    PodSpec,
    PodStatus,
    Requests,
    SharedContainer,
    SharedPod,
    SharedSpec,
    UsageContainer,
    UsageMetadata,
    UsagePod,
    UsageSpec,
    UsageStatus,
)

_RUNS = ContainerState()

TEMPLATES = 4096
"""Different sets of containers and requests that are kept once. Pods are made from far fewer
templates; those that are not cost some hundred bytes more each."""

NAMES = 32_768
"""Different names of nodes, namespaces and conditions that are kept once: more than a cluster
has."""

CONDITIONS = 4096
"""Different lists of a node's conditions that are kept once: most nodes are in the same state."""

RECENT = 1024
"""Workflows and times that are kept once as long as they come again soon: an API server lists the
pods of a workflow one after the other, and makes them in the same second."""

PHASES = 16
"""Different phases that are kept once; Kubernetes has five."""


def task_pods(namespace: str) -> Callable[[Pod], bool]:
    """Tells whether a pod runs a workflow's task: it is in `namespace` and has both labels."""

    def runs_task(pod: Pod) -> bool:
        metadata = pod.metadata
        labels = metadata.labels
        return (
            labels.task_uuid is not None
            and labels.workflow_uuid is not None
            and metadata.namespace == namespace
        )

    return runs_task


def slim_task_pod(pod: Pod) -> Pod:
    """The same pod, with what it has in common with others kept once."""
    spec = pod.spec
    containers, init_containers = _containers(spec.containers, spec.init_containers)
    return Pod(
        _task_metadata(pod.metadata),
        PodSpec(_name(spec.node_name), containers, init_containers, _name(spec.restart_policy)),
        _task_status(pod.status),
    )


def _task_metadata(metadata: PodMetadata) -> PodMetadata:
    labels = metadata.labels
    return PodMetadata(
        metadata.name,
        _name(metadata.namespace),
        metadata.uid,
        metadata.resource_version,
        _recent(metadata.creation_timestamp),
        PodLabels(
            labels.workflow_uuid and _recent(labels.workflow_uuid),
            labels.task_uuid,
            labels.retry_id,
        ),
    )


def _task_status(status: PodStatus) -> PodStatus:
    if not (status.conditions or status.init_container_statuses or status.container_statuses):
        return _status(status) if not status.message else status
    return PodStatus(
        _name(status.phase),
        status.reason,
        status.message,
        status.pod_ip,
        tuple([_condition(each) for each in status.conditions]),
        tuple([_container_status(each) for each in status.init_container_statuses]),
        tuple([_container_status(each) for each in status.container_statuses]),
    )


def _condition(condition: PodCondition) -> PodCondition:
    since = condition.last_transition_time
    return PodCondition(
        _name(condition.type),
        _name(condition.status),
        condition.reason,
        condition.message,
        since and _recent(since),
    )


def _container_status(status: ContainerStatus) -> ContainerStatus:
    return _running(status) if status.state == _RUNS else status


def slim_usage_pod(pod: UsagePod) -> UsagePod:
    """The same pod, with what it has in common with others kept once."""
    metadata, spec = pod.metadata, pod.spec
    return UsagePod(
        UsageMetadata(
            metadata.name, _name(metadata.namespace), metadata.uid, metadata.resource_version
        ),
        UsageSpec(
            _name(spec.node_name),
            *_usage_asked(spec.containers, spec.init_containers, spec.resources, spec.overhead),
        ),
        _usage_status(pod.status.phase),
    )


def slim_shared_pod(namespace: str) -> Callable[[SharedPod], SharedPod]:
    """Keeps all of a workflow's task in `namespace`, and of another pod what its usage needs."""
    runs_task = task_pods(namespace)

    def slim(pod: SharedPod) -> SharedPod:
        spec = pod.spec
        node = _name(spec.node_name)
        asked = spec.containers, spec.init_containers, spec.resources, spec.overhead
        if runs_task(pod):
            containers, init_containers, resources, overhead = _shared_asked(*asked)
            return SharedPod(
                _task_metadata(pod.metadata),
                SharedSpec(
                    node,
                    containers,
                    init_containers,
                    _name(spec.restart_policy),
                    resources,
                    overhead,
                ),
                _task_status(pod.status),
            )
        metadata = pod.metadata
        containers, init_containers, resources, overhead = _nameless_asked(*asked)
        return SharedPod(
            PodMetadata(
                metadata.name, _name(metadata.namespace), metadata.uid, metadata.resource_version
            ),
            SharedSpec(node, containers, init_containers, "", resources, overhead),
            _shared_status(pod.status.phase),
        )

    return slim


def slim_node(node: Node) -> Node:
    """The same node, with what it has in common with others kept once."""
    metadata, status = node.metadata, node.status
    labels = {intern(name): intern(value) for name, value in metadata.labels.items()}
    quantities = {
        intern(name): intern(value) if isinstance(value, str) else value
        for name, value in status.allocatable.items()
    }
    return msgspec.structs.replace(
        node,
        metadata=msgspec.structs.replace(metadata, labels=labels),
        status=NodeStatus(quantities, _conditions(status.conditions)),
    )


@lru_cache(CONDITIONS)
def _conditions(conditions: tuple[NodeCondition, ...]) -> tuple[NodeCondition, ...]:
    return conditions


@lru_cache(NAMES)
def _name(text: str) -> str:
    return text


@lru_cache(RECENT)
def _recent(text: str) -> str:
    return text


@lru_cache(TEMPLATES)
def _containers(
    containers: tuple[Container, ...], init_containers: tuple[Container, ...]
) -> tuple[tuple[Container, ...], tuple[Container, ...]]:
    return containers, init_containers


@lru_cache(TEMPLATES)
def _status(status: PodStatus) -> PodStatus:
    return status


@lru_cache(TEMPLATES)
def _running(status: ContainerStatus) -> ContainerStatus:
    return status


@lru_cache(TEMPLATES)
def _usage_asked(
    containers: tuple[UsageContainer, ...],
    init_containers: tuple[UsageContainer, ...],
    resources: ContainerResources,
    overhead: Requests,
) -> tuple[tuple[UsageContainer, ...], tuple[UsageContainer, ...], ContainerResources, Requests]:
    return containers, init_containers, resources, overhead


_SharedAsked = tuple[
    tuple[SharedContainer, ...], tuple[SharedContainer, ...], ContainerResources, Requests
]


@lru_cache(TEMPLATES)
def _shared_asked(
    containers: tuple[SharedContainer, ...],
    init_containers: tuple[SharedContainer, ...],
    resources: ContainerResources,
    overhead: Requests,
) -> _SharedAsked:
    return containers, init_containers, resources, overhead


@lru_cache(TEMPLATES)
def _nameless_asked(
    containers: tuple[SharedContainer, ...],
    init_containers: tuple[SharedContainer, ...],
    resources: ContainerResources,
    overhead: Requests,
) -> _SharedAsked:
    nameless = [
        tuple(
            [
                SharedContainer(restart_policy=each.restart_policy, resources=each.resources)
                for each in part
            ]
        )
        for part in (containers, init_containers)
    ]
    return _shared_asked(*nameless, resources, overhead)


@lru_cache(PHASES)
def _usage_status(phase: str) -> UsageStatus:
    return UsageStatus(phase)


@lru_cache(PHASES)
def _shared_status(phase: str) -> PodStatus:
    return PodStatus(phase)
