"""The listeners that exist, by name: what each watches, and how to make one."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from osmo_listener.kubernetes.config import Resource
from osmo_listener.kubernetes.objects import Pod
from osmo_listener.listeners.workflow import KIND, LABEL_SELECTOR, WorkflowConfig, WorkflowListener
from osmo_listener.source import KubernetesObject
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
        """Every object that was not yet reported with the current epoch, then `snapshot_end`.

        `objects` are all that are alive, as of the list or watch position `resource_version`. They
        are taken over before this returns. The messages are made as the iterator advances; changes
        may be reported in between, and a restart ends the iterator early. One for each epoch.
        """


@dataclass(frozen=True, kw_only=True)
class ListenersConfig:
    """The settings of every listener."""

    workflow: WorkflowConfig = field(default_factory=WorkflowConfig)
    """Of the workflow listener."""


@dataclass(frozen=True, kw_only=True)
class ListenerType(Generic[T]):
    """What a listener watches, and how to make one."""

    kind: str
    """The kind of its messages, and of its `snapshot_end`."""
    resource: Callable[[str], Resource[T]]
    """The objects that it watches, by the namespace of the backend's workflows."""
    create: Callable[[ListenersConfig], Listener[T]]
    """A new listener of epoch 0."""


LISTENERS: dict[str, ListenerType[Any]] = {
    "workflow": ListenerType(
        kind=KIND,
        resource=lambda namespace: Resource(
            path=f"/api/v1/namespaces/{namespace}/pods", type=Pod, label_selector=LABEL_SELECTOR
        ),
        create=lambda config: WorkflowListener(config.workflow),
    ),
}
