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
from osmo_listener.listeners.registry import Listener, ListenersConfig, ListenerType, Surroundings
from osmo_listener.listeners.reporting import ObjectListener, Report
from osmo_listener.listeners.workflow import WorkflowConfig, WorkflowListener

__all__ = (
    "EventConfig",
    "EventListener",
    "ExitCode",
    "Listener",
    "ListenerType",
    "ListenersConfig",
    "NodeConfig",
    "NodeListener",
    "ObjectListener",
    "PodState",
    "PodStatus",
    "PodStatusMode",
    "Report",
    "Surroundings",
    "WorkflowConfig",
    "WorkflowListener",
    "has_ended",
    "pod_status",
)
