"""What is wrong with a pod, in words and codes: what `exact` and `redesign` share."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from osmo_listener.listeners import objects
from osmo_listener.listeners.objects import ContainerStatus, Pod
from osmo_listener.listeners.pod_rules.states import (
    CTRL_CONTAINER,
    ExitCode,
    PodState,
    PodStatus,
    parse_time,
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


def by_reason(status: objects.PodStatus) -> PodState | None:
    """What the pod's own reason says, if anything."""
    rule = _REASONS.get(status.reason)
    if rule is None:
        return None
    return PodState(rule.status, rule.exit_code, f"{rule.text}: {status.message}. ")


def by_condition(status: objects.PodStatus) -> PodState | None:
    """What the first condition of an end says, if there is one."""
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


class ContainerError(NamedTuple):
    """What is wrong with one container."""

    container: str
    exit_code: int
    reason: str
    message: str
    ended_with: int | None
    """What the container itself ended with; None: it waits."""

    def __str__(self) -> str:
        name = display_name(self.container)
        end = f"failed with {self.reason}" if self.reason else "failure"
        text = f"\n- Exit code {self.exit_code} due to {name} {end}"
        return f"{text}: {self.message}. " if self.message else f"{text}. "


def container_errors(containers: Iterable[ContainerStatus]) -> Iterator[ContainerError]:
    """The errors of those that have one."""
    for container in containers:
        ended = container.state.terminated
        waiting = container.state.waiting
        if ended is not None:
            completed = ended.reason == "Completed"
            code = ExitCode.NONE if completed else terminated_code(container.name, ended)
            cause = ended.reason, ended.message
        elif waiting is not None:
            code = _waiting_code(waiting.reason)
            cause = waiting.reason, waiting.message
        else:
            continue
        if code != ExitCode.NONE:
            name = container.name
            ended_with = None if ended is None else ended.exit_code
            yield ContainerError(name, with_offset(name, code), *cause, ended_with)


def _waiting_code(reason: str) -> int:
    if any(error in reason for error in _WAITING_ERRORS):
        return _WAITING_CODES.get(reason, ExitCode.WAITING_ERROR)
    return ExitCode.NONE


def failure_text(pod: Pod, errors: Iterable[ContainerError]) -> str:
    """The message of a pod with these errors."""
    return pod_error(pod, ". \n") + "Failure reason:" + "".join(map(str, errors))


def pod_error(pod: Pod, end: str) -> str:
    """The pod's own message, as a part of ours."""
    if not pod.status.message:
        return ""
    return f"Pod {pod.metadata.name} error message: {pod.status.message}{end}"


def ctrl_has_ended(status: objects.PodStatus) -> bool:
    """A failed container ends the task only once osmo-ctrl has ended too: it still uploads what the
    task produced. A pod that reports no osmo-ctrl has nothing to wait for."""
    for container in status.container_statuses:
        if container.name == CTRL_CONTAINER:
            return container.state.terminated is not None
    return True


def display_name(container: str) -> str:
    """What users call it."""
    return _DISPLAY_NAMES.get(container, f"Task {container}")


def _go_time(text: str | None) -> str:
    """As Go prints a time in UTC: the deployed system's users know this form."""
    moment = parse_time(text)
    if moment is None:
        return text or "an unknown time"
    fraction = f".{moment.microsecond:06d}".rstrip("0") if moment.microsecond else ""
    return f"{moment:%Y-%m-%d %H:%M:%S}{fraction} +0000 UTC"
