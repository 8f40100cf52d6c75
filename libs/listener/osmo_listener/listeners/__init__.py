"""The listeners: pure functions from an object's change to messages."""

from osmo_listener.listeners.event import EventConfig, EventListener
from osmo_listener.listeners.node import NodeConfig, NodeListener
from osmo_listener.listeners.pod_rules import (
    ExitCode,
    PodState,
    PodStatus,
    PodStatusMode,
    has_ended,
    pod_status,
)
from osmo_listener.listeners.registry import LISTENERS, Listener, ListenersConfig, ListenerType
from osmo_listener.listeners.workflow import WorkflowConfig, WorkflowListener

__all__ = (
    "LISTENERS",
    "EventConfig",
    "EventListener",
    "ExitCode",
    "Listener",
    "ListenerType",
    "ListenersConfig",
    "NodeConfig",
    "NodeListener",
    "PodState",
    "PodStatus",
    "PodStatusMode",
    "WorkflowConfig",
    "WorkflowListener",
    "has_ended",
    "pod_status",
)
