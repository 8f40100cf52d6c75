"""The rules of the deployed redesign (`PodStatusMode.REDESIGN`).

The first rule that matches wins: the pod's reason, its conditions, its containers' errors, its
phase.
"""

from itertools import chain

from osmo_listener.listeners.objects import Pod
from osmo_listener.listeners.pod_rules.causes import (
    ContainerError,
    by_condition,
    by_reason,
    container_errors,
    ctrl_has_ended,
    failure_text,
    pod_error,
)
from osmo_listener.listeners.pod_rules.states import (
    IMAGE_PULL_REASONS,
    STUCK_LIMITS,
    ExitCode,
    PodState,
    PodStatus,
    phase_status,
    stuck_at,
)


def redesign_pod_status(pod: Pod, now: float) -> PodState:
    """The state of `pod` at `now` (seconds since the Unix epoch). Never raises."""
    status = pod.status
    state = by_reason(status) or by_condition(status)
    if state is not None:
        return state
    errors = list(
        container_errors(chain(status.init_container_statuses, status.container_statuses))
    )
    if errors:
        state = _by_errors(pod, errors, now)
        if state.status is not PodStatus.FAILED or ctrl_has_ended(status):
            return state
    elif status.phase == "Failed":
        return PodState(PodStatus.FAILED, ExitCode.UNKNOWN, pod_error(pod, ". "))
    by_phase = phase_status(status)
    exit_code = ExitCode.SUCCESS if by_phase is PodStatus.COMPLETED else ExitCode.NONE
    return PodState(by_phase, exit_code, status.message)


def _by_errors(pod: Pod, errors: list[ContainerError], now: float) -> PodState:
    message = failure_text(pod, errors)
    for error in errors:
        if error.reason == "OOMKilled":
            return PodState(PodStatus.FAILED_EVICTED, ExitCode.EVICTED, message)
        if error.reason == "StartError":
            return PodState(PodStatus.FAILED_START_ERROR, ExitCode.START_ERROR, message)
        if error.reason in IMAGE_PULL_REASONS:
            return PodState(PodStatus.FAILED_IMAGE_PULL, error.exit_code, message)
        limit = STUCK_LIMITS.get(error.reason)
        if limit is not None:
            at = stuck_at(pod.status, limit)
            if at is not None and now >= at:
                return PodState(PodStatus.FAILED_BACKEND_ERROR, ExitCode.BACKEND_ERROR, message)
            return PodState(PodStatus.UNKNOWN, ExitCode.NONE, message, at)
    return PodState(PodStatus.FAILED, max(error.exit_code for error in errors), message)
