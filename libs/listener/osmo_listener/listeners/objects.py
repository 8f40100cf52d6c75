"""Kubernetes objects, cut down to the fields that the listeners read.

Decoding skips every other field without building it: a pod of 14 kB costs a few microseconds and a
few hundred bytes.
"""

from typing import ClassVar

import msgspec


class _Object(msgspec.Struct, frozen=True, rename="camel", gc=False):
    pass


class PodLabels(msgspec.Struct, frozen=True, gc=False):
    """The labels that make a pod a task; None where the pod has no such label."""

    workflow_uuid: str | None = msgspec.field(name="osmo.workflow_uuid", default=None)
    task_uuid: str | None = msgspec.field(name="osmo.task_uuid", default=None)
    retry_id: str | None = msgspec.field(name="osmo.retry_id", default=None)


class PodMetadata(_Object, frozen=True):
    """`metadata` of a pod."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    creation_timestamp: str = ""
    labels: PodLabels = PodLabels()


class ExitCodes(_Object, frozen=True):
    """`exitCodes` of a restart rule: those that it is for."""

    operator: str = ""
    """`In` or `NotIn`."""
    values: tuple[int, ...] = ()


class RestartRule(_Object, frozen=True):
    """One of `restartPolicyRules` of a container: what is started again after these exit codes."""

    exit_codes: ExitCodes = ExitCodes()


class Container(_Object, frozen=True):
    """One of `spec.containers` or `spec.initContainers`."""

    name: str = ""
    restart_policy: str = ""
    """In the place of the pod's, where it is set; with `Always`, an init container is a sidecar."""
    restart_policy_rules: tuple[RestartRule, ...] = ()
    """What counts before that policy."""


class PodSpec(_Object, frozen=True):
    """`spec` of a pod."""

    node_name: str = ""
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    restart_policy: str = ""


class Waiting(_Object, frozen=True):
    """`state.waiting` of a container."""

    reason: str = ""
    message: str = ""


class Terminated(_Object, frozen=True):
    """`state.terminated` of a container."""

    exit_code: int = 0
    reason: str = ""
    message: str = ""


class ContainerState(_Object, frozen=True):
    """`state` of a container; both None while it runs."""

    waiting: Waiting | None = None
    terminated: Terminated | None = None


class ContainerStatus(_Object, frozen=True):
    """One of `containerStatuses` or `initContainerStatuses`."""

    name: str = ""
    state: ContainerState = ContainerState()


class PodCondition(_Object, frozen=True):
    """One of `status.conditions`."""

    type: str = ""
    status: str = ""
    reason: str | None = None
    message: str | None = None
    last_transition_time: str | None = None


class PodStatus(_Object, frozen=True):
    """`status` of a pod."""

    phase: str = ""
    reason: str = ""
    message: str = ""
    pod_ip: str = msgspec.field(name="podIP", default="")
    conditions: tuple[PodCondition, ...] = ()
    init_container_statuses: tuple[ContainerStatus, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()


class Pod(_Object, frozen=True):
    """A pod as the workflow listener reads it."""

    PROTOBUF_MESSAGE: ClassVar[str] = "Pod"

    metadata: PodMetadata
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


Quantity = str | int | float
"""A quantity: text, for which an API server also takes a number."""


class Requests(_Object, frozen=True):
    """Quantities by resource, as in `resources.requests`, of those that are summed up; None: not
    asked for."""

    cpu: Quantity | None = None
    memory: Quantity | None = None
    ephemeral_storage: Quantity | None = msgspec.field(name="ephemeral-storage", default=None)
    gpu: Quantity | None = msgspec.field(name="nvidia.com/gpu", default=None)


class ContainerResources(_Object, frozen=True):
    """`resources` of a container or a pod."""

    requests: Requests = Requests()


class UsageMetadata(_Object, frozen=True):
    """`metadata` of a pod whose labels do not matter."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""


class UsageContainer(_Object, frozen=True):
    """One of `spec.containers` or `spec.initContainers`: what it asks for."""

    resources: ContainerResources = ContainerResources()
    restart_policy: str = ""
    """Of an init container alone: with `Always` it is a sidecar."""


class UsageSpec(_Object, frozen=True):
    """`spec` of a pod: where it runs and what it asks for."""

    node_name: str = ""
    containers: tuple[UsageContainer, ...] = ()
    init_containers: tuple[UsageContainer, ...] = ()
    resources: ContainerResources = ContainerResources()
    """Of the pod as a whole."""
    overhead: Requests = Requests()
    """What its runtime class takes besides."""


class UsageStatus(_Object, frozen=True):
    """`status` of a pod: its phase."""

    phase: str = ""


class UsagePod(_Object, frozen=True):
    """A pod as the usage listener reads it."""

    PROTOBUF_MESSAGE: ClassVar[str] = "Pod"

    metadata: UsageMetadata
    spec: UsageSpec = UsageSpec()
    status: UsageStatus = UsageStatus()


class SharedContainer(Container, frozen=True):
    """One of `spec.containers` or `spec.initContainers`, with what it asks for."""

    resources: ContainerResources = ContainerResources()


class SharedSpec(PodSpec, frozen=True):
    """`spec` of a pod, with what it asks for."""

    containers: tuple[SharedContainer, ...] = ()
    init_containers: tuple[SharedContainer, ...] = ()
    resources: ContainerResources = ContainerResources()
    """Of the pod as a whole."""
    overhead: Requests = Requests()
    """What its runtime class takes besides."""


class SharedPod(Pod, frozen=True):
    """A pod as the workflow listener and the usage listener read it from one watch."""

    spec: SharedSpec = SharedSpec()


class NodeMetadata(_Object, frozen=True):
    """`metadata` of a node, which has no namespace."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    labels: dict[str, str] = {}


class NodeTaint(_Object, frozen=True):
    """One of `spec.taints`."""

    key: str = ""
    value: str = ""
    effect: str = ""
    time_added: str | None = None


class NodeSpec(_Object, frozen=True):
    """`spec` of a node."""

    unschedulable: bool = False
    taints: tuple[NodeTaint, ...] = ()


class NodeCondition(_Object, frozen=True):
    """One of `status.conditions`, without the times of its heartbeats."""

    type: str = ""
    status: str = ""


class NodeStatus(_Object, frozen=True):
    """`status` of a node."""

    allocatable: dict[str, Quantity] = {}
    conditions: tuple[NodeCondition, ...] = ()


class Node(_Object, frozen=True):
    """A node as the node listener reads it."""

    PROTOBUF_MESSAGE: ClassVar[str] = "Node"

    metadata: NodeMetadata
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


class EventMetadata(_Object, frozen=True):
    """`metadata` of an Event."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    creation_timestamp: str | None = None


class InvolvedObject(_Object, frozen=True):
    """`involvedObject` of an Event: what it is about."""

    kind: str = ""
    name: str = ""


class EventSource(_Object, frozen=True):
    """`source` of an Event: who noted it, in the older form."""

    component: str = ""


class EventSeries(_Object, frozen=True):
    """`series` of an Event that repeats, in the newer form."""

    count: int = 0
    last_observed_time: str | None = None


class Event(_Object, frozen=True):
    """An Event of the core API; of the two forms in which its times and its count are given, the
    fields of the other one are absent, null or empty."""

    PROTOBUF_MESSAGE: ClassVar[str] = "Event"

    metadata: EventMetadata
    involved_object: InvolvedObject = InvolvedObject()
    reason: str = ""
    message: str = ""
    type: str = ""
    source: EventSource = EventSource()
    reporting_component: str = ""
    reporting_controller: str = ""
    """The same as `reporting_component`, as the API group `events.k8s.io` calls it."""
    first_timestamp: str | None = None
    last_timestamp: str | None = None
    event_time: str | None = None
    count: int = 0
    series: EventSeries | None = None
