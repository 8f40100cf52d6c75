"""What a listener is, and ours: what each watches, and how to make one."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import field
from typing import Generic, Protocol, TypeVar

from osmo_listener.informer.source import KubernetesObject
from osmo_listener.kubernetes.config import Resource, resource_path
from osmo_listener.listeners import event, node, usage, workflow
from osmo_listener.listeners.event import EventConfig, EventListener
from osmo_listener.listeners.node import NodeConfig, NodeListener
from osmo_listener.listeners.objects import Event, Node, Pod, SharedPod, UsagePod
from osmo_listener.listeners.slimming import (
    slim_node,
    slim_shared_pod,
    slim_task_pod,
    slim_usage_pod,
)
from osmo_listener.listeners.usage import UsageConfig, UsageListener
from osmo_listener.listeners.workflow import WorkflowConfig, WorkflowListener
from osmo_transport.lean import dataclass
from osmo_transport.message import Message

T = TypeVar("T", bound=KubernetesObject)
T_contra = TypeVar("T_contra", contravariant=True)


class Listener(Protocol[T_contra]):
    """Turns the changes of one kind of object into messages; does no I/O and nothing by itself.

    Its owner feeds it every change in the informer's order and hands every message that it returns
    to the outbox, in order. A message counts as sent from the moment at which it is returned; an
    owner that cannot hand it over calls `restart`.

    `now` is always in seconds since the Unix epoch.
    """

    def restart(self, epoch: int) -> None:
        """Forget what was sent, and report with `epoch` from now on; a snapshot follows."""

    def on_change(
        self, old: T_contra | None, new: T_contra | None, resource_version: int, now: float
    ) -> list[Message]:
        """What one change has to report, often nothing.

        `old` is the last known state (None: the object was not known) and `new` the current one
        (None: it is gone). `resource_version` is that of the event, or for an object that a list
        no longer holds, that of the list; it counts for what is gone, a live object has its own.
        """

    def next_deadline(self) -> float | None:
        """When `due` has to be called next, or None while only changes matter."""

    def due(self, now: float) -> list[Message]:
        """What time alone made worth reporting."""

    def snapshot(
        self, objects: Iterable[T_contra], resource_version: int, now: float
    ) -> Iterator[Message]:
        """Every object that was not yet reported with the current epoch, then what tells a store
        of those that are gone: `snapshot_end`, or an inventory, or nothing for what only happens.

        `objects` are all that are alive, as of the list or watch position `resource_version`. They
        are taken over before this returns. The messages are made as the iterator advances; changes
        may be reported in between, and a restart ends the iterator early. One for each epoch.
        """

    def listed(
        self, objects: Iterable[T_contra], resource_version: int, now: float
    ) -> Iterable[Message]:
        """What a further list has to report, after the snapshot of the current epoch.

        Every change that the list brought was told before; `objects` are all that are alive as of
        the list, whose version is `resource_version`.
        """


@dataclass(frozen=True, kw_only=True)
class ListenersConfig:
    """The settings of every listener."""

    workflow: WorkflowConfig = field(default_factory=WorkflowConfig)
    """Of the workflow listener."""
    node: NodeConfig = field(default_factory=NodeConfig)
    """Of the node listener."""
    usage: UsageConfig = field(default_factory=UsageConfig)
    """Of the usage listener."""
    event: EventConfig = field(default_factory=EventConfig)
    """Of the event listener."""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What listeners are made with."""

    config: ListenersConfig = field(default_factory=ListenersConfig)
    """The settings."""
    namespace: str
    """Of the workflows."""
    hostname: Callable[[str], str | None] = lambda _node: None
    """See `UsageListener`."""
    on_verdict: Callable[[Node, bool], None] = lambda _node, _available: None
    """See `NodeListener`."""
    on_gone: Callable[[str], None] = lambda _node: None
    """See `NodeListener`."""


@dataclass(frozen=True, kw_only=True)
class ListenerType(Generic[T]):
    """What a listener watches, and how to make one."""

    kind: str
    """The kind of its messages, and of its `snapshot_end` if it has one."""
    resource: Callable[[str], Resource[T]]
    """The objects that it watches, by the namespace of the backend's workflows."""
    create: Callable[[Surroundings], Listener[T]]
    """A new listener of epoch 0."""


WORKFLOW: ListenerType[Pod] = ListenerType(
    kind=workflow.KIND,
    resource=lambda namespace: Resource(
        path=resource_path("v1/pods", namespace),
        type=Pod,
        label_selector=workflow.LABEL_SELECTOR,
        transform=slim_task_pod,
    ),
    create=lambda around: WorkflowListener(around.config.workflow),
)
NODE: ListenerType[Node] = ListenerType(
    kind=node.KIND,
    resource=lambda _: Resource(path=resource_path("v1/nodes"), type=Node, transform=slim_node),
    create=lambda around: NodeListener(
        around.config.node, on_verdict=around.on_verdict, on_gone=around.on_gone
    ),
)
USAGE: ListenerType[UsagePod] = ListenerType(
    kind=usage.KIND,
    resource=lambda _: Resource(
        path=resource_path("v1/pods"),
        type=UsagePod,
        field_selector=usage.FIELD_SELECTOR,
        transform=slim_usage_pod,
    ),
    create=lambda around: UsageListener(around.config.usage, around.namespace, around.hostname),
)
EVENT: ListenerType[Event] = ListenerType(
    kind=event.KIND,
    resource=lambda namespace: Resource(path=resource_path("v1/events", namespace), type=Event),
    create=lambda around: EventListener(around.config.event, around.namespace),
)


def shared_pods(namespace: str) -> Resource[SharedPod]:
    """The pods of all namespaces, for the workflow and the usage listener at once: where both run,
    one watch costs the API server less than two."""
    return Resource(
        path=resource_path("v1/pods"), type=SharedPod, transform=slim_shared_pod(namespace)
    )
