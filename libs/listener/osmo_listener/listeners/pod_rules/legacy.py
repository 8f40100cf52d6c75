"""The rules of the WebSocket system that came first (`PodStatusMode.LEGACY`).

They are kept as they were, with what surprises in them: a container's error is looked at before the
pod's reason, and a reason or a disruption then changes the status and the exit code but leaves the
text. Where the old program stopped with an error of its own, the answer here is UNKNOWN or the text
without the missing part.
"""

from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

from osmo_listener.listeners import objects
from osmo_listener.listeners.objects import Pod
from osmo_listener.listeners.pod_rules.states import (
    CTRL_CONTAINER,
    IMAGE_PULL_REASONS,
    STUCK_LIMITS,
    ExitCode,
    PodState,
    PodStatus,
    parse_time,
    phase_status,
    stuck_at,
    terminated_code,
    with_offset,
)

_WAITING_ERRORS = ("Failed", "BackOff", "Error", "ErrImagePull", "ContainerStatusUnknown")

_WAITING_CODES = {
    "ImagePullBackOff": ExitCode.IMAGE_PULL_BACK_OFF,
    "ErrImagePull": ExitCode.ERR_IMAGE_PULL,
    "CrashLoopBackOff": ExitCode.CRASH_LOOP_BACK_OFF,
    "ContainerStatusUnknown": ExitCode.CONTAINER_STATUS_UNKNOWN,
}
"""CreateContainerConfigError is missing: the old table misspelt it, so that it gives 999."""

_DISPLAY_NAMES = {CTRL_CONTAINER: "OSMO Control", "preflight-test": "OSMO Preflight Test"}

_REASONS = {
    "Evicted": (PodStatus.FAILED_EVICTED, ExitCode.EVICTED),
    "StartError": (PodStatus.FAILED_START_ERROR, ExitCode.START_ERROR),
    "UnexpectedAdmissionError": (PodStatus.FAILED_BACKEND_ERROR, ExitCode.BACKEND_ERROR),
}


def legacy_pod_status(pod: Pod, now: float) -> PodState:
    """The state of `pod` at `now` (seconds since the Unix epoch). Never raises."""
    status = pod.status
    for condition in status.conditions:
        if condition.status == "True" and condition.reason == "PreemptionByScheduler":
            at = parse_time(condition.last_transition_time)
            text = f"Pod was preempted at {at or condition.last_transition_time or None}. "
            return PodState(PodStatus.FAILED_PREEMPTED, ExitCode.PREEMPTED, text)
    error = _waiting_error(status)
    if error is None:
        state = _by_phase(pod, "")
    else:
        state = _by_waiting(status, error, _by_phase(pod, error.text).message, now)
    return _by_reason(status, state)


def _by_phase(pod: Pod, text: str) -> PodState:
    """`text` is that of a waiting container: what ended says more."""
    status = pod.status
    by_phase = phase_status(status)
    if by_phase is PodStatus.COMPLETED:
        return PodState(by_phase, ExitCode.SUCCESS, text)
    if by_phase is PodStatus.RUNNING and _must_clean_up(status):
        errors = list(_terminated(status))
        if errors:
            return PodState(PodStatus.FAILED, _max_code(errors), _failure_text(errors))
    if by_phase is PodStatus.UNKNOWN and status.phase == "Failed":
        return _failed(pod)
    return PodState(by_phase, message=text)


def _must_clean_up(status: objects.PodStatus) -> bool:
    return any(
        container.name == CTRL_CONTAINER or container.state.terminated.reason == "StartError"
        for container in status.container_statuses
        if container.state.terminated is not None
    )


def _failed(pod: Pod) -> PodState:
    errors = list(_terminated(pod.status))
    text = _failure_text(errors)
    if pod.status.message:
        text = f"Pod {pod.metadata.name} error message: {pod.status.message}\n{text}"
    if any(ended.reason == "OOMKilled" for _, _, ended in errors):
        return PodState(PodStatus.FAILED_EVICTED, ExitCode.EVICTED, text)
    return PodState(PodStatus.FAILED, _max_code(errors), text)


_Ended = tuple[str, int, objects.Terminated]
"""Container, its exit code with the offset, and how it ended."""


def _terminated(status: objects.PodStatus) -> Iterator[_Ended]:
    for container in chain(status.init_container_statuses, status.container_statuses):
        ended = container.state.terminated
        if ended is not None and ended.reason != "Completed":
            code = with_offset(container.name, terminated_code(container.name, ended))
            yield container.name, code, ended


def _max_code(errors: list[_Ended]) -> int:
    return max((code for _, code, _ in errors), default=ExitCode.UNKNOWN)


def _failure_text(errors: list[_Ended]) -> str:
    parts = [
        f"\n- Exit code {code} due to {_display_name(name)} failure. " for name, code, _ in errors
    ]
    return "Failure reason:" + "".join(parts) if parts else ""


class _WaitingError(NamedTuple):
    reason: str
    exit_code: int
    text: str


def _waiting_error(status: objects.PodStatus) -> _WaitingError | None:
    for container in chain(status.container_statuses, status.init_container_statuses):
        waiting = container.state.waiting
        if waiting is None or not any(error in waiting.reason for error in _WAITING_ERRORS):
            continue
        reason = waiting.reason
        code = with_offset(container.name, _WAITING_CODES.get(reason, ExitCode.WAITING_ERROR))
        cause = f"{reason}: {waiting.message}" if waiting.message else reason
        name = _display_name(container.name)
        text = f"Failure reason: Exit code {code} due to {name} failed with {cause}."
        return _WaitingError(reason, code, text)
    return None


def _by_waiting(
    status: objects.PodStatus, error: _WaitingError, message: str, now: float
) -> PodState:
    if error.reason in IMAGE_PULL_REASONS:
        return PodState(PodStatus.FAILED_IMAGE_PULL, error.exit_code, message)
    limit = STUCK_LIMITS.get(error.reason)
    if limit is None:
        return PodState(PodStatus.FAILED, error.exit_code, message)
    at = stuck_at(status, limit)
    if at is not None and now >= at:
        return PodState(PodStatus.FAILED_BACKEND_ERROR, ExitCode.BACKEND_ERROR, message)
    return PodState(PodStatus.SCHEDULING, ExitCode.NONE, message, at)


def _by_reason(status: objects.PodStatus, state: PodState) -> PodState:
    override = _REASONS.get(status.reason)
    if override is None and any(
        condition.type == "DisruptionTarget" and condition.status == "True"
        for condition in status.conditions
    ):
        override = PodStatus.FAILED_BACKEND_ERROR, ExitCode.BACKEND_ERROR
    return state if override is None else PodState(*override, state.message)


def _display_name(container: str) -> str:
    return _DISPLAY_NAMES.get(container, f"Task {container}")
