"""What an informer keeps of an object: transforms for `Resource.transform`.

Many pods have the same node, namespace and requests, and many nodes the same labels: what is equal
is kept once.
"""

from collections.abc import Callable
from functools import lru_cache
from sys import intern

import msgspec

from osmo_listener.listeners.objects import (
    Node,
    NodeCondition,
    NodeStatus,
    Pod,
    PodMetadata,
    PodStatus,
    SharedContainer,
    SharedPod,
    SharedSpec,
    UsageContainer,
    UsageMetadata,
    UsagePod,
    UsageSpec,
    UsageStatus,
)

CONTAINER_LISTS = 4096
"""Different lists of containers that are kept once. Pods are made from far fewer templates; those
that are not cost some hundred bytes more each."""

NAMES = 32_768
"""Different names of nodes and namespaces that are kept once: more than a cluster has."""

CONDITIONS = 4096
"""Different lists of a node's conditions that are kept once: most nodes are in the same state."""

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


def slim_usage_pod(pod: UsagePod) -> UsagePod:
    """The same pod, with what it has in common with others kept once."""
    metadata, spec = pod.metadata, pod.spec
    return UsagePod(
        UsageMetadata(
            metadata.name, _name(metadata.namespace), metadata.uid, metadata.resource_version
        ),
        UsageSpec(_name(spec.node_name), _usage_containers(spec.containers)),
        _usage_status(pod.status.phase),
    )


def slim_shared_pod(namespace: str) -> Callable[[SharedPod], SharedPod]:
    """Keeps all of a workflow's task in `namespace`, and of another pod what its usage needs."""
    runs_task = task_pods(namespace)

    def slim(pod: SharedPod) -> SharedPod:
        spec = pod.spec
        node = _name(spec.node_name)
        if runs_task(pod):
            slim_spec = SharedSpec(
                node,
                _shared_containers(spec.containers),
                _shared_containers(spec.init_containers),
                _name(spec.restart_policy),
            )
            return msgspec.structs.replace(pod, spec=slim_spec)
        metadata = pod.metadata
        return SharedPod(
            PodMetadata(
                metadata.name, _name(metadata.namespace), metadata.uid, metadata.resource_version
            ),
            SharedSpec(node, _nameless_containers(spec.containers)),
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


@lru_cache(CONTAINER_LISTS)
def _usage_containers(containers: tuple[UsageContainer, ...]) -> tuple[UsageContainer, ...]:
    return containers


@lru_cache(CONTAINER_LISTS)
def _shared_containers(containers: tuple[SharedContainer, ...]) -> tuple[SharedContainer, ...]:
    return containers


@lru_cache(CONTAINER_LISTS)
def _nameless_containers(containers: tuple[SharedContainer, ...]) -> tuple[SharedContainer, ...]:
    return _shared_containers(
        tuple([SharedContainer(resources=container.resources) for container in containers])
    )


@lru_cache(PHASES)
def _usage_status(phase: str) -> UsageStatus:
    return UsageStatus(phase)


@lru_cache(PHASES)
def _shared_status(phase: str) -> PodStatus:
    return PodStatus(phase)
