"""The rules of `PodStatusMode.EXACT`: the phase decides, the states of containers explain.

- `Succeeded` is COMPLETED, whatever sidecars, reasons and conditions say; only a container that was
  killed for its memory makes it a failure.
- `Failed` is a failure, at once: that of the pod's reason, of its conditions, or of its containers
  where one of them names a cause, else the plain one.
- Before that, what the kubelet may take back is told, and is not final: a disruption as the failure
  that it announces; what a container waits for as a text, and as a failure once it has lasted. Only
  a container that ended in error and is not restarted is the end, when osmo-ctrl has ended too.

A restartable init container (a sidecar) fails nothing.
"""

from collections.abc import Sequence
from itertools import chain

import msgspec

from osmo_listener.listeners import objects
from osmo_listener.listeners.objects import ContainerStatus, Pod
from osmo_listener.listeners.pod_rules.causes import (
    ContainerError,
    by_condition,
    by_reason,
    container_errors,
    ctrl_has_ended,
    display_name,
    failure_text,
    pod_error,
)
from osmo_listener.listeners.pod_rules.states import (
    IMAGE_PULL_REASONS,
    STARTING_REASONS,
    STUCK_LIMITS,
    ExitCode,
    PodState,
    PodStatus,
    phase_status,
    stuck_at,
)

WAITING_LIMIT = 60.0
"""Seconds for which a container may wait for what the kubelet tries again, in a pod that is not
ready, before it is told as a failure, or, where it is no error, at all."""

_OUT_OF_MEMORY = "OOMKilled"
_TRIED_BEFORE = "ImagePullBackOff"
"""The kubelet has failed to pull the image, and waits before it tries again."""


def exact_pod_status(pod: Pod, now: float) -> PodState:
    """The state of `pod` at `now` (seconds since the Unix epoch). Never raises."""
    match pod.status.phase:
        case "Succeeded":
            return _succeeded(pod)
        case "Failed":
            return _failed(pod)
        case _:
            return _going_on(pod, now)


def _succeeded(pod: Pod) -> PodState:
    status = pod.status
    killed = [
        error
        for error in container_errors(status.container_statuses)
        if error.reason == _OUT_OF_MEMORY
    ]
    if killed:
        return PodState(PodStatus.FAILED_EVICTED, ExitCode.EVICTED, failure_text(pod, killed))
    return PodState(PodStatus.COMPLETED, ExitCode.SUCCESS, status.message)


def _failed(pod: Pod) -> PodState:
    state = by_reason(pod.status) or by_condition(pod.status)
    if state is not None:
        return state
    errors = _errors(pod)
    if errors:
        return _failure(pod, errors)
    return PodState(PodStatus.FAILED, ExitCode.UNKNOWN, pod_error(pod, ". "))


def _going_on(pod: Pod, now: float) -> PodState:
    status = pod.status
    announced = by_reason(status) or by_condition(status)
    if announced is not None:
        return msgspec.structs.replace(announced, passing=True)
    errors = _errors(pod)
    if not errors:
        return _by_phase(pod, now)
    state = _told(pod, [error for error in errors if _ends(pod, error)])
    if state is not None:
        return state
    waits = [error for error in errors if error.ended_with is None]
    limits = [(error, _until(status, error.reason)) for error in waits]
    lasting = [error for error, at in limits if at is not None and now >= at]
    if (state := _told(pod, lasting)) is not None:
        return msgspec.structs.replace(state, passing=True)
    later = [at for _, at in limits if at is not None and at > now]
    text = failure_text(pod, errors)
    return PodState(phase_status(status), ExitCode.NONE, text, min(later, default=None))


def _by_phase(pod: Pod, now: float) -> PodState:
    """The state of a pod whose containers have no errors."""
    status = pod.status
    by_phase = phase_status(status)
    # Sidecars too: the containers behind one that does not start do not start either.
    waiting = [each for each in _containers(status) if _waits_for_something(each)]
    if not (waiting or status.message):
        return _PLAIN[by_phase]
    at = stuck_at(status, WAITING_LIMIT) if waiting else None
    text = status.message
    if at is not None and now >= at:
        at = None
        text = pod_error(pod, ". \n") + "".join(map(_waiting_text, waiting))
    return PodState(by_phase, ExitCode.NONE, text, at)


_PLAIN = {each: PodState(each) for each in PodStatus}
"""The states of pods of which there is no more to say: most, so each is kept once."""


def _told(pod: Pod, errors: Sequence[ContainerError]) -> PodState | None:
    """The failure that the errors are, if it is told now: a plain one waits for osmo-ctrl, which
    still uploads."""
    if not errors:
        return None
    state = _failure(pod, errors)
    plain = state.status is PodStatus.FAILED
    return None if plain and not ctrl_has_ended(pod.status) else state


def _errors(pod: Pod) -> list[ContainerError]:
    """Of all containers but the sidecars; to end with 0 is none, whatever the reason is called."""
    stopped = [each for each in _containers(pod.status) if _has_stopped(each)]
    if not stopped:
        return []
    sidecars = {each.name for each in pod.spec.init_containers if each.restart_policy == "Always"}
    return list(container_errors(each for each in stopped if each.name not in sidecars))


def _containers(status: objects.PodStatus) -> tuple[ContainerStatus, ...]:
    return status.init_container_statuses + status.container_statuses


def _has_stopped(container: ContainerStatus) -> bool:
    """Whether it neither runs nor did what it was to do."""
    ended = container.state.terminated
    if ended is None:
        return container.state.waiting is not None
    return ended.exit_code != 0 or ended.reason in _NAMED


_NO_REASONS = STARTING_REASONS | {""}

_NAMED = frozenset({_OUT_OF_MEMORY, "StartError"})


def _failure(pod: Pod, errors: Sequence[ContainerError]) -> PodState:
    """The failure that the errors are: the first cause that has a name, else the plain one."""
    text = failure_text(pod, errors)
    for error in errors:
        if error.reason == _OUT_OF_MEMORY:
            return PodState(PodStatus.FAILED_EVICTED, ExitCode.EVICTED, text)
        if error.reason == "StartError":
            return PodState(PodStatus.FAILED_START_ERROR, ExitCode.START_ERROR, text)
        if error.reason in IMAGE_PULL_REASONS:
            return PodState(PodStatus.FAILED_IMAGE_PULL, error.exit_code, text)
        if error.reason in STUCK_LIMITS:
            return PodState(PodStatus.FAILED_BACKEND_ERROR, ExitCode.BACKEND_ERROR, text)
    return PodState(PodStatus.FAILED, max(error.exit_code for error in errors), text)


def _until(status: objects.PodStatus, reason: str) -> float | None:
    """Until when a container may wait with this reason."""
    if reason == _TRIED_BEFORE:
        return 0.0
    return stuck_at(status, STUCK_LIMITS.get(reason, WAITING_LIMIT))


def _ends(pod: Pod, error: ContainerError) -> bool:
    """Whether the container ended, and the kubelet does not start it again. Without a policy it
    does not: an API server always says one."""
    code = error.ended_with
    if code is None:
        return False
    policy = pod.spec.restart_policy
    for container in chain(pod.spec.init_containers, pod.spec.containers):
        if container.name == error.container and container.restart_policy:
            policy = container.restart_policy
            if any(_applies(rule.exit_codes, code) for rule in container.restart_policy_rules):
                return False
    return not (policy == "Always" or (policy == "OnFailure" and code != 0))


def _applies(codes: objects.ExitCodes, code: int) -> bool:
    match codes.operator:
        case "In":
            return code in codes.values
        case "NotIn":
            return code not in codes.values
        case _:
            return False


def _waits_for_something(container: ContainerStatus) -> bool:
    waiting = container.state.waiting
    return waiting is not None and waiting.reason not in _NO_REASONS


def _waiting_text(container: ContainerStatus) -> str:
    waiting = container.state.waiting or objects.Waiting()
    text = f": {waiting.message}" if waiting.message else ""
    return f"{display_name(container.name)} waits: {waiting.reason}{text}. "
