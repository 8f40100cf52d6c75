"""The status that users see of a pod, by the rules of the study's Go design, so that all systems
report the same statuses."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, NamedTuple

WAITING_CODES = {
    "ImagePullBackOff": 301,
    "ErrImagePull": 302,
    "CreateContainerConfigError": 303,
    "CrashLoopBackOff": 304,
    "ContainerStatusUnknown": 305,
}
WAITING_ERRORS = ("Failed", "BackOff", "Err", "ContainerStatusUnknown")
OFFSETS = {"osmo-init": 255, "preflight-test": 1000, "osmo-ctrl": 2000}
NAMES = {
    "osmo-ctrl": "OSMO Control",
    "preflight-test": "OSMO Preflight Test",
    "osmo-init": "OSMO Init",
}
REASONS = {
    "Evicted": ("FAILED_EVICTED", 3004, "Pod was evicted"),
    "StartError": ("FAILED_START_ERROR", 3003, "Pod failed to start"),
    "UnexpectedAdmissionError": ("FAILED_BACKEND_ERROR", 3001, "Pod admission error"),
}
STUCK = {
    "CreateContainerConfigError": timedelta(minutes=10),
    "ContainerStatusUnknown": timedelta(minutes=30),
}
PHASES = {"Pending": "SCHEDULING", "Running": "RUNNING", "Succeeded": "COMPLETED"}
STARTING = ("ContainerCreating", "PodInitializing")
NO_STATE = SimpleNamespace(waiting=None, terminated=None)
"""Of a container that the kubelet has not looked at yet."""


class State(NamedTuple):
    """What is reported of a pod."""

    status: str
    exit_code: int | None
    message: str


class Failure(NamedTuple):
    """Of one container."""

    container: str
    code: int
    reason: str
    message: str

    def __str__(self) -> str:
        name = NAMES.get(self.container, f"Task {self.container}")
        end = f"failed with {self.reason}" if self.reason else "failure"
        text = f"\n- Exit code {self.code} due to {name} {end}"
        return f"{text}: {self.message}. " if self.message else f"{text}. "


def pod_status(pod: Any) -> State:
    """The state of a pod of the official client; the first rule that matches wins."""
    status = pod.status
    if status.reason in REASONS:
        name, code, text = REASONS[status.reason]
        return State(name, code, f"{text}: {status.message}. ")
    for condition in status.conditions or ():
        if condition.status != "True":
            continue
        if condition.reason == "PreemptionByScheduler":
            at = condition.last_transition_time
            return State("FAILED_PREEMPTED", 3006, f"Pod was preempted at {at}. ")
        if condition.type == "DisruptionTarget":
            return State("FAILED_BACKEND_ERROR", 3001, f"Pod disrupted: {condition.message}. ")
    failures = list(_failures(status))
    if failures:
        state = _by_failures(pod, failures)
        if state.status != "FAILED" or _ctrl_ended(status):
            return state
    elif status.phase == "Failed":
        return State("FAILED", 4000, _pod_error(pod, ". "))
    return _by_phase(status)


def _by_phase(status: Any) -> State:
    for container in status.init_container_statuses or ():
        waiting = _state(container).waiting
        if waiting and waiting.reason in STARTING:
            return State("INITIALIZING", None, status.message or "")
    exit_code = 0 if status.phase == "Succeeded" else None
    return State(PHASES.get(status.phase, "UNKNOWN"), exit_code, status.message or "")


def _failures(status: Any) -> Iterator[Failure]:
    every = (*(status.init_container_statuses or ()), *(status.container_statuses or ()))
    for container in every:
        ended, waiting = _state(container).terminated, _state(container).waiting
        code = None
        if ended and ended.reason != "Completed":
            code = _exit_code(container.name, ended)
        elif waiting and any(error in (waiting.reason or "") for error in WAITING_ERRORS):
            code = WAITING_CODES.get(waiting.reason, 999)
        if code is not None and code != -1:
            cause = ended or waiting
            code += OFFSETS.get(container.name, 0)
            yield Failure(container.name, code, cause.reason or "", cause.message or "")


def _exit_code(container: str, ended: Any) -> int:
    code: int = ended.exit_code
    if container == "osmo-ctrl" and ended.message:
        try:
            said = json.loads(ended.message)
        except ValueError:
            return code
        if isinstance(said, dict) and isinstance(said.get("code"), int):
            code = said["code"]
    return code


def _by_failures(pod: Any, failures: list[Failure]) -> State:
    message = _pod_error(pod, ". \n") + "Failure reason:" + "".join(map(str, failures))
    for each in failures:
        if each.reason == "OOMKilled":
            return State("FAILED_EVICTED", 3004, message)
        if each.reason == "StartError":
            return State("FAILED_START_ERROR", 3003, message)
        if each.reason in ("ErrImagePull", "ImagePullBackOff"):
            return State("FAILED_IMAGE_PULL", each.code, message)
        if each.reason in STUCK:
            if _stuck(pod.status, STUCK[each.reason]):
                return State("FAILED_BACKEND_ERROR", 3001, message)
            return State("UNKNOWN", None, message)
    return State("FAILED", max(each.code for each in failures), message)


def _stuck(status: Any, limit: timedelta) -> bool:
    for condition in status.conditions or ():
        since = condition.last_transition_time
        if condition.type == "Ready" and condition.status == "False" and since:
            late: bool = datetime.now(UTC) - since > limit
            return late
    return False


def _ctrl_ended(status: Any) -> bool:
    for container in status.container_statuses or ():
        if container.name == "osmo-ctrl":
            return _state(container).terminated is not None
    return True


def _state(container: Any) -> Any:
    return container.state or NO_STATE


def _pod_error(pod: Any, end: str) -> str:
    if not pod.status.message:
        return ""
    return f"Pod {pod.metadata.name} error message: {pod.status.message}{end}"
