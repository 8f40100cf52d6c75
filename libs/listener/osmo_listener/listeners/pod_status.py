"""The rules that turn a pod into the status, the exit code and the message that users see.

The first rule that matches wins: the pod's reason, its conditions, its containers' errors, its
phase. Everything is taken in the order in which the API server lists it, so that the same pod
always gives the same text.
"""

from collections.abc import Iterator
from typing import NamedTuple

from osmo_listener.kubernetes import objects
from osmo_listener.kubernetes.objects import Pod
from osmo_listener.listeners.legacy_pod_status import legacy_pod_status
from osmo_listener.listeners.pod_state import (
    CTRL_CONTAINER,
    IMAGE_PULL_REASONS,
    STUCK_LIMITS,
    ExitCode,
    PodState,
    PodStatus,
    PodStatusMode,
    parse_time,
    phase_status,
    stuck_at,
    terminated_code,
    with_offset,
)


class _Rule(NamedTuple):
    status: PodStatus
    exit_code: ExitCode
    text: str


_REASONS = {
    "Evicted": _Rule(PodStatus.FAILED_EVICTED, ExitCode.EVICTED, "Pod was evicted"),
    "StartError": _Rule(PodStatus.FAILED_START_ERROR, ExitCode.START_ERROR, "Pod failed to start"),
    "UnexpectedAdmissionError": _Rule(
        PodStatus.FAILED_BACKEND_ERROR, ExitCode.BACKEND_ERROR, "Pod admission error"
    ),
}

_WAITING_ERRORS = ("Failed", "BackOff", "Err", "ContainerStatusUnknown")

_WAITING_CODES = {
    "ImagePullBackOff": ExitCode.IMAGE_PULL_BACK_OFF,
    "ErrImagePull": ExitCode.ERR_IMAGE_PULL,
    "CreateContainerConfigError": ExitCode.CREATE_CONTAINER_CONFIG_ERROR,
    "CrashLoopBackOff": ExitCode.CRASH_LOOP_BACK_OFF,
    "ContainerStatusUnknown": ExitCode.CONTAINER_STATUS_UNKNOWN,
}

_DISPLAY_NAMES = {
    CTRL_CONTAINER: "OSMO Control",
    "preflight-test": "OSMO Preflight Test",
    "osmo-init": "OSMO Init",
}


def pod_status(pod: Pod, now: float, mode: PodStatusMode = PodStatusMode.REDESIGN) -> PodState:
    """The state of `pod` at `now` (seconds since the Unix epoch). Never raises.

    The result changes with time alone only where it carries `recheck_at`.
    """
    status = pod.status
    if status.phase == "Unknown":
        return PodState(PodStatus.UNKNOWN, message=status.message)
    if mode is PodStatusMode.LEGACY:
        return legacy_pod_status(pod, now)
    state = _by_reason(status) or _by_condition(status)
    if state is not None:
        return state
    errors = list(_container_errors(status))
    if errors:
        state = _by_errors(pod, errors, now)
        if state.status is not PodStatus.FAILED or _ctrl_ended(status):
            return state
    elif status.phase == "Failed":
        return PodState(PodStatus.FAILED, ExitCode.UNKNOWN, _pod_error(pod, ". "))
    by_phase = phase_status(status)
    exit_code = ExitCode.SUCCESS if by_phase is PodStatus.COMPLETED else ExitCode.NONE
    return PodState(by_phase, exit_code, status.message)


def _by_reason(status: objects.PodStatus) -> PodState | None:
    rule = _REASONS.get(status.reason)
    if rule is None:
        return None
    return PodState(rule.status, rule.exit_code, f"{rule.text}: {status.message}. ")


def _by_condition(status: objects.PodStatus) -> PodState | None:
    for condition in status.conditions:
        if condition.status != "True":
            continue
        if condition.reason == "PreemptionByScheduler":
            return PodState(
                PodStatus.FAILED_PREEMPTED,
                ExitCode.PREEMPTED,
                f"Pod was preempted at {_go_time(condition.last_transition_time)}. ",
            )
        if condition.type == "DisruptionTarget":
            return PodState(
                PodStatus.FAILED_BACKEND_ERROR,
                ExitCode.BACKEND_ERROR,
                f"Pod disrupted: {condition.message or ''}. ",
            )
    return None


class _ContainerError(NamedTuple):
    container: str
    exit_code: int
    reason: str
    message: str

    def __str__(self) -> str:
        name = _DISPLAY_NAMES.get(self.container, f"Task {self.container}")
        end = f"failed with {self.reason}" if self.reason else "failure"
        text = f"\n- Exit code {self.exit_code} due to {name} {end}"
        return f"{text}: {self.message}. " if self.message else f"{text}. "


def _container_errors(status: objects.PodStatus) -> Iterator[_ContainerError]:
    for statuses in (status.init_container_statuses, status.container_statuses):
        for container in statuses:
            ended = container.state.terminated
            waiting = container.state.waiting
            if ended is not None:
                code = (
                    ExitCode.NONE
                    if ended.reason == "Completed"
                    else terminated_code(container.name, ended)
                )
                cause = ended.reason, ended.message
            elif waiting is not None:
                code = _waiting_code(waiting.reason)
                cause = waiting.reason, waiting.message
            else:
                continue
            if code != ExitCode.NONE:
                yield _ContainerError(container.name, with_offset(container.name, code), *cause)


def _waiting_code(reason: str) -> int:
    if any(error in reason for error in _WAITING_ERRORS):
        return _WAITING_CODES.get(reason, ExitCode.WAITING_ERROR)
    return ExitCode.NONE


def _by_errors(pod: Pod, errors: list[_ContainerError], now: float) -> PodState:
    message = _pod_error(pod, ". \n") + "Failure reason:" + "".join(map(str, errors))
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


def _ctrl_ended(status: objects.PodStatus) -> bool:
    """A failed container ends the task only once osmo-ctrl has ended too: it still uploads what the
    task produced. A pod that reports no osmo-ctrl has nothing to wait for."""
    for container in status.container_statuses:
        if container.name == CTRL_CONTAINER:
            return container.state.terminated is not None
    return True


def _pod_error(pod: Pod, end: str) -> str:
    if not pod.status.message:
        return ""
    return f"Pod {pod.metadata.name} error message: {pod.status.message}{end}"


def _go_time(text: str | None) -> str:
    """As Go prints a time in UTC: the deployed system's users know this form."""
    moment = parse_time(text)
    if moment is None:
        return text or "an unknown time"
    fraction = f".{moment.microsecond:06d}".rstrip("0") if moment.microsecond else ""
    return f"{moment:%Y-%m-%d %H:%M:%S}{fraction} +0000 UTC"
