"""The rules that turn a pod into the status, the exit code and the message that users see.

There are three sets: `exact`, the default, in which the phase decides and the states of containers
explain; `redesign` and `legacy` as the systems deployed before have them. Everything is taken in
the order in which the API server lists it, so that the same pod always gives the same text.
"""

from collections.abc import Callable

from osmo_listener.listeners.objects import Pod
from osmo_listener.listeners.pod_rules.exact import exact_pod_status
from osmo_listener.listeners.pod_rules.legacy import legacy_pod_status
from osmo_listener.listeners.pod_rules.redesign import redesign_pod_status
from osmo_listener.listeners.pod_rules.states import (
    ExitCode,
    PodState,
    PodStatus,
    PodStatusMode,
    has_ended,
)

__all__ = ("ExitCode", "PodState", "PodStatus", "PodStatusMode", "has_ended", "pod_status")

_RULES: dict[PodStatusMode, Callable[[Pod, float], PodState]] = {
    PodStatusMode.EXACT: exact_pod_status,
    PodStatusMode.REDESIGN: redesign_pod_status,
    PodStatusMode.LEGACY: legacy_pod_status,
}


def pod_status(pod: Pod, now: float, mode: PodStatusMode = PodStatusMode.EXACT) -> PodState:
    """The state of `pod` at `now` (seconds since the Unix epoch). Never raises.

    The result changes with time alone only where it carries `recheck_at`.
    """
    if pod.status.phase == "Unknown":
        return PodState(PodStatus.UNKNOWN, message=pod.status.message)
    return _RULES[mode](pod, now)
