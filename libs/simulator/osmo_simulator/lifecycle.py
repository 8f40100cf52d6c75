"""The statuses of a task's pod from its creation to each of the ways in which it can end."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from osmo_simulator.builders import CONTROL_CONTAINER, INIT_CONTAINER

Status = dict[str, Any]
State = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Moment:
    """What a status depends on besides the pod's history."""

    now: str
    """The current time (RFC 3339)."""
    container: str
    """The name of the user's container."""
    pod_ip: str
    host_ip: str


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One way in which a task ends, and what users must see then."""

    name: str
    status: str
    """The task's status by the redesigned status rules."""
    exit_code: int
    """The task's exit code by the same rules."""
    end: Callable[[Moment], Status]
    """The patch of the pod's status that ends the task."""
    runs: bool = True
    """Whether the containers run before the end."""
    retried: bool = False
    """Whether the workflow engine removes the pod and starts the task again in a new one."""


def scheduled(moment: Moment) -> Status:
    """The scheduler found a node."""
    return {"conditions": [_condition("PodScheduled", moment)]}


def creating(moment: Moment) -> Status:
    """The node prepares volumes and network; nothing runs yet."""
    waiting = {"waiting": {"reason": "PodInitializing"}}
    return {
        "phase": "Pending",
        "hostIP": moment.host_ip,
        "startTime": moment.now,
        "conditions": [
            _condition("Initialized", moment, false="ContainersNotInitialized"),
            _condition("Ready", moment, false="ContainersNotReady"),
            _condition("ContainersReady", moment, false="ContainersNotReady"),
        ],
        "initContainerStatuses": [_container(INIT_CONTAINER, waiting)],
        "containerStatuses": _containers(moment, waiting, waiting),
    }


def running(moment: Moment) -> Status:
    """Every container runs."""
    state = {"running": {"startedAt": moment.now}}
    return {
        "phase": "Running",
        "podIP": moment.pod_ip,
        "podIPs": [{"ip": moment.pod_ip}],
        "conditions": [_condition(kind, moment) for kind in _READY_CONDITIONS],
        **_initialized(moment),
        "containerStatuses": _containers(moment, state, state),
    }


def _succeeded(moment: Moment) -> Status:
    done = _terminated(moment, "Completed", 0)
    return {"phase": "Succeeded", **_stopped(moment, done, done, why="PodCompleted")}


def _exited(reason: str, code: int, message: str = "") -> Callable[[Moment], Status]:
    """The user's container ends in error, and the control container cleans up."""

    def end(moment: Moment) -> Status:
        task = _terminated(moment, reason, code, message)
        return {"phase": "Failed", **_stopped(moment, task, _terminated(moment, "Completed", 0))}

    return end


def _control_failed(moment: Moment) -> Status:
    control = _terminated(moment, "Error", 1, '{"code": 13, "message": "upload failed"}')
    return {"phase": "Failed", **_stopped(moment, _terminated(moment, "Completed", 0), control)}


def _image_pull(moment: Moment) -> Status:
    pull = {
        "waiting": {
            "reason": "ImagePullBackOff",
            "message": 'Back-off pulling image "registry.example.com/osmo/train:24.10-py3"',
        }
    }
    control = {"running": {"startedAt": moment.now}}
    return {**_initialized(moment), "containerStatuses": _containers(moment, pull, control)}


def _rejected(reason: str, message: str) -> Callable[[Moment], Status]:
    """The node gives the whole pod up."""
    return lambda _: {"phase": "Failed", "reason": reason, "message": message}


def _disrupted(reason: str, message: str) -> Callable[[Moment], Status]:
    """The cluster takes the pod's place away."""

    def end(moment: Moment) -> Status:
        killed = _terminated(moment, "Error", 137)
        status = _stopped(moment, killed, killed)
        disruption = _condition("DisruptionTarget", moment, true=reason, message=message)
        status["conditions"].insert(0, disruption)
        return {"phase": "Failed", **status}

    return end


SUCCEEDED = Outcome(name="succeeded", status="COMPLETED", exit_code=0, end=_succeeded)

FAILURES = (
    Outcome(name="exit-code", status="FAILED", exit_code=3, end=_exited("Error", 3)),
    Outcome(
        name="out-of-memory",
        status="FAILED_EVICTED",
        exit_code=3004,
        end=_exited("OOMKilled", 137),
    ),
    Outcome(
        name="image-pull", status="FAILED_IMAGE_PULL", exit_code=301, end=_image_pull, runs=False
    ),
    Outcome(
        name="evicted",
        status="FAILED_EVICTED",
        exit_code=3004,
        end=_rejected("Evicted", "The node was low on resource: ephemeral-storage."),
        retried=True,
    ),
    Outcome(
        name="preempted",
        status="FAILED_PREEMPTED",
        exit_code=3006,
        end=_disrupted("PreemptionByScheduler", "preempted by a pod of a higher priority"),
        retried=True,
    ),
    Outcome(name="control-error", status="FAILED", exit_code=2013, end=_control_failed),
    Outcome(
        name="start-error",
        status="FAILED_START_ERROR",
        exit_code=3003,
        end=_exited("StartError", 128, "exec: no such file or directory"),
        runs=False,
    ),
    Outcome(
        name="node-taint",
        status="FAILED_BACKEND_ERROR",
        exit_code=3001,
        end=_disrupted("DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint"),
        retried=True,
    ),
    Outcome(
        name="admission",
        status="FAILED_BACKEND_ERROR",
        exit_code=3001,
        end=_rejected("UnexpectedAdmissionError", "Allocate failed due to no healthy devices"),
        runs=False,
    ),
)

OUTCOMES = {failure.name: failure for failure in FAILURES}
"""The failures by name."""

_READY_CONDITIONS = ("Initialized", "Ready", "ContainersReady")


def _condition(
    kind: str, moment: Moment, *, true: str = "", false: str = "", message: str = ""
) -> dict[str, Any]:
    condition: dict[str, Any] = {
        "type": kind,
        "status": "False" if false else "True",
        "lastProbeTime": None,
        "lastTransitionTime": moment.now,
        # A patch has to remove the reason of the state before.
        "reason": true or false or None,
        "message": message or None,
    }
    return condition


def _initialized(moment: Moment) -> Status:
    done = _terminated(moment, "Completed", 0)
    return {"initContainerStatuses": [_container(INIT_CONTAINER, done)]}


def _stopped(moment: Moment, task: State, control: State, why: str = "PodFailed") -> Status:
    """No container runs any more."""
    return {
        "conditions": [
            _condition("Ready", moment, false=why),
            _condition("ContainersReady", moment, false=why),
        ],
        **_initialized(moment),
        "containerStatuses": _containers(moment, task, control),
    }


def _containers(moment: Moment, task: State, control: State) -> list[dict[str, Any]]:
    return [_container(moment.container, task), _container(CONTROL_CONTAINER, control)]


def _container(name: str, state: State) -> dict[str, Any]:
    started = "running" in state
    return {
        "name": name,
        "image": "registry.example.com/osmo/train:24.10-py3",
        "imageID": "",
        "lastState": {},
        "ready": started,
        "restartCount": 0,
        "started": started,
        "state": state,
    }


def _terminated(moment: Moment, reason: str, code: int, message: str = "") -> State:
    state = {"exitCode": code, "reason": reason, "finishedAt": moment.now}
    return {"terminated": {**state, "message": message} if message else state}
