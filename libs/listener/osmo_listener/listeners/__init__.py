"""The listeners: pure functions from an object's change to messages."""

from osmo_listener.listeners.pod_state import (
    ExitCode,
    PodState,
    PodStatus,
    PodStatusMode,
    is_terminal,
)
from osmo_listener.listeners.pod_status import pod_status
from osmo_listener.listeners.registry import LISTENERS, Listener, ListenersConfig, ListenerType
from osmo_listener.listeners.workflow import WorkflowConfig, WorkflowListener

__all__ = (
    "LISTENERS",
    "ExitCode",
    "Listener",
    "ListenerType",
    "ListenersConfig",
    "PodState",
    "PodStatus",
    "PodStatusMode",
    "WorkflowConfig",
    "WorkflowListener",
    "is_terminal",
    "pod_status",
)
