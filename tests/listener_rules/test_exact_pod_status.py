"""The rules of `PodStatusMode.EXACT` where they differ from the redesign's: reports from the field,
step by step through the listener, and the rules that depend on time."""

from dataclasses import dataclass

import msgspec
import pytest

from osmo_listener.listeners import (
    PodStatus,
    WorkflowListener,
    pod_status,
)
from osmo_listener.listeners.objects import Container, ExitCodes, Pod, PodSpec, RestartRule
from osmo_reports.bodies import UpdatePod, decode_body
from tests.listener_rules.harness import (
    NOT_READY,
    T0,
    condition,
    ended,
    make_pod,
    running,
    waiting,
)

S = PodStatus
USER, CTRL = running("user"), running("osmo-ctrl")
CTRL_DONE = ended("osmo-ctrl", 0, "Completed")
STUCK_FOR_10_MINUTES = 601.0
MAIN = (Container("user"), Container("osmo-ctrl"))


def with_spec(pod: Pod, *init: Container, restart_policy: str = "Never") -> Pod:
    """The pod, with init containers and a policy."""
    spec = PodSpec(pod.spec.node_name, MAIN, init, restart_policy)
    return msgspec.structs.replace(pod, spec=spec)


SIDECAR = Container("logs", "Always")
RUNNING = make_pod(containers=(USER, CTRL))
DISRUPTED = make_pod(
    containers=(USER, CTRL),
    conditions=(condition("DisruptionTarget", "True", "EvictionByEvictionAPI"),),
)


@dataclass(frozen=True)
class Told:
    """What is told after one step; nothing where the status is None."""

    status: PodStatus | None
    code: int = -1
    final: bool = False
    text: str = ""
    """A part of the message."""


NOTHING = Told(None)
ENDS = Told(S.COMPLETED, 0, final=True)
RUNS = Told(S.RUNNING)

CASES: dict[str, list[tuple[Pod | None, Told]]] = {
    # A failed phase is believed.
    "an init container failed, osmo-ctrl never started": [
        (
            make_pod(
                "Failed",
                init=(ended("osmo-init", 1, message="no such bucket"),),
                containers=(
                    waiting("user", "PodInitializing"),
                    waiting("osmo-ctrl", "PodInitializing"),
                ),
            ),
            Told(S.FAILED, 256, final=True, text="no such bucket"),
        ),
    ],
    "the node went, the containers could not be found": [
        (RUNNING, RUNS),
        (
            make_pod(
                "Failed",
                conditions=(NOT_READY,),
                containers=(
                    ended("user", 137, "ContainerStatusUnknown"),
                    ended("osmo-ctrl", 137, "ContainerStatusUnknown"),
                ),
            ),
            Told(S.FAILED_BACKEND_ERROR, 3001, final=True, text="ContainerStatusUnknown"),
        ),
        (None, Told(S.FAILED_BACKEND_ERROR, 3001, final=True)),
    ],
    "the node shut down before the last status was written": [
        (RUNNING, RUNS),
        (
            make_pod("Failed", reason="Terminated", containers=(ended("user", 137), CTRL)),
            Told(S.FAILED, 137, final=True),
        ),
        (None, Told(S.FAILED, 137, final=True)),
    ],
    "a failed pod of which no container says why": [
        (make_pod("Failed", message="m"), Told(S.FAILED, 4000, final=True, text="m")),
    ],
    "a pod that took too long, whose containers are said to run": [
        (RUNNING, RUNS),
        (
            make_pod("Failed", reason="DeadlineExceeded", message="m", containers=(USER, CTRL)),
            Told(S.FAILED, 4000, final=True, text="m"),
        ),
    ],
    "a failed pod whose containers ended well": [
        (
            make_pod("Failed", containers=(ended("user", 0, "Completed"), CTRL_DONE)),
            Told(S.FAILED, 4000, final=True),
        ),
    ],
    "a failed pod of which only a sidecar failed": [
        (
            with_spec(make_pod("Failed", init=(ended("logs", 137),), containers=(USER,)), SIDECAR),
            Told(S.FAILED, 4000, final=True),
        ),
    ],
    # A succeeded phase is believed.
    "a sidecar is killed after the end": [
        (
            with_spec(
                make_pod(
                    "Succeeded",
                    init=(ended("logs", 137),),
                    containers=(ended("user", 0, "Completed"), CTRL_DONE),
                ),
                SIDECAR,
            ),
            ENDS,
        ),
    ],
    "it ended while it was evicted": [
        (
            make_pod(
                "Succeeded",
                containers=(ended("user", 0, "Completed"), CTRL_DONE),
                conditions=(condition("DisruptionTarget"),),
            ),
            ENDS,
        ),
    ],
    "it ended while it was preempted": [
        (
            make_pod("Succeeded", conditions=(condition("X", "True", "PreemptionByScheduler"),)),
            ENDS,
        ),
    ],
    "exit code 0 by another name": [
        (make_pod("Succeeded", containers=(ended("user", 0, "Error"), CTRL_DONE)), ENDS),
    ],
    "it ended, and the pod was evicted all the same": [
        (make_pod("Succeeded", reason="Evicted", message="disk"), ENDS),
    ],
    "it ended, and the last status was never written": [
        (make_pod("Succeeded", containers=(USER, waiting("osmo-ctrl", "ContainerCreating"))), ENDS),
    ],
    "exit code 0 without a name": [
        (make_pod("Succeeded", containers=(ended("user", 0, ""), ended("osmo-ctrl", 0, ""))), ENDS),
    ],
    "succeeded, and killed for its memory": [
        (
            make_pod("Succeeded", containers=(ended("user", 0, "OOMKilled"), CTRL_DONE)),
            Told(S.FAILED_EVICTED, 3004, final=True, text="OOMKilled"),
        ),
    ],
    # What passes is not told as the end.
    "a sidecar is killed and restarted": [
        (with_spec(make_pod(init=(running("logs"),), containers=(USER, CTRL)), SIDECAR), RUNS),
        (
            with_spec(
                make_pod(init=(ended("logs", 137, "OOMKilled"),), containers=(USER, CTRL)), SIDECAR
            ),
            NOTHING,
        ),
        (
            with_spec(
                make_pod(init=(waiting("logs", "CrashLoopBackOff"),), containers=(USER, CTRL)),
                SIDECAR,
            ),
            NOTHING,
        ),
        (make_pod("Succeeded", containers=(ended("user", 0, "Completed"), CTRL_DONE)), ENDS),
    ],
    "an image cannot be pulled for a moment": [
        (
            make_pod(
                "Pending",
                conditions=(NOT_READY,),
                containers=(waiting("user", "ErrImagePull", "pull QPS exceeded"),),
            ),
            Told(S.SCHEDULING, text="pull QPS exceeded"),
        ),
        (RUNNING, RUNS),
        (make_pod("Succeeded", containers=(ended("user", 0, "Completed"), CTRL_DONE)), ENDS),
    ],
    "a disruption is taken back": [
        (RUNNING, RUNS),
        (DISRUPTED, Told(S.FAILED_BACKEND_ERROR, 3001, text="Pod disrupted")),
        (
            make_pod(containers=(USER, CTRL), conditions=(condition("DisruptionTarget", "False"),)),
            RUNS,
        ),
    ],
    "a preemption is taken back": [
        (RUNNING, RUNS),
        (
            make_pod(
                containers=(USER, CTRL),
                conditions=(condition("DisruptionTarget", "True", "PreemptionByScheduler"),),
            ),
            Told(S.FAILED_PREEMPTED, 3006),
        ),
        (
            make_pod(
                containers=(USER, CTRL),
                conditions=(condition("DisruptionTarget", "False", "PreemptionByScheduler"),),
            ),
            RUNS,
        ),
    ],
    "a disruption that is not taken back": [
        (DISRUPTED, Told(S.FAILED_BACKEND_ERROR, 3001)),
        (
            make_pod(
                "Failed",
                containers=(ended("user", 143), CTRL_DONE),
                conditions=(condition("DisruptionTarget"),),
            ),
            Told(S.FAILED_BACKEND_ERROR, 3001, final=True),
        ),
    ],
    "a pod that is gone while it is disrupted": [
        (DISRUPTED, Told(S.FAILED_BACKEND_ERROR, 3001)),
        (None, Told(S.FAILED_BACKEND_ERROR, 3001, final=True, text="deleted before it ended")),
    ],
    "a container that is restarted": [
        (
            with_spec(make_pod(containers=(ended("user", 1),)), restart_policy="OnFailure"),
            Told(S.RUNNING, text="Exit code 1"),
        ),
        (with_spec(make_pod(containers=(USER,)), restart_policy="OnFailure"), RUNS),
    ],
    "a container that is not restarted, before osmo-ctrl ends": [
        (make_pod(containers=(ended("user", 1), CTRL)), Told(S.RUNNING, text="Exit code 1")),
        (make_pod(containers=(ended("user", 1), CTRL_DONE)), Told(S.FAILED, 1, final=True)),
        (make_pod("Failed", containers=(ended("user", 1), CTRL_DONE)), NOTHING),
    ],
    # The last word.
    "a pod that is gone before it ended": [
        (RUNNING, RUNS),
        (None, Told(S.RUNNING, text="deleted before it ended")),
    ],
    "a pod that is gone while nobody knows": [
        (make_pod("Running", message="half way"), Told(S.RUNNING, text="half way")),
        (make_pod("Unknown"), NOTHING),
        (None, Told(S.RUNNING, text="half way The pod was deleted before it ended. ")),
    ],
}


def _at(pod: Pod, version: int) -> Pod:
    metadata = msgspec.structs.replace(pod.metadata, resource_version=str(version))
    return msgspec.structs.replace(pod, metadata=metadata)


@pytest.mark.parametrize("case", CASES)
def test_reports_from_the_field(case: str) -> None:
    """Each step is told so, or not at all, in the order in which it comes."""
    listener, old = WorkflowListener(), None
    listener.restart(1)
    list(listener.snapshot([], 1, T0))
    for number, (pod, told) in enumerate(CASES[case], 2):
        new = pod and _at(pod, number)
        # What the watch shows of a deletion has the version of the deletion.
        messages = listener.on_change(
            old if new or old is None else _at(old, number), new, number, T0 + number
        )
        old = new
        if told.status is None:
            assert not messages
            continue
        (message,) = messages
        body = decode_body(message.kind, message.payload)
        assert isinstance(body, UpdatePod)
        assert (body.status, body.exit_code, message.final) == (told.status, told.code, told.final)
        assert told.text in body.message
        assert body.deleted == (new is None)


WAITS: dict[str, tuple[str, float, PodStatus, int]] = {
    "a pull": ("ErrImagePull", 60.0, S.FAILED_IMAGE_PULL, 302),
    "a configuration": ("CreateContainerConfigError", 600.0, S.FAILED_BACKEND_ERROR, 3001),
    "an unknown status": ("ContainerStatusUnknown", 1800.0, S.FAILED_BACKEND_ERROR, 3001),
    "a container that crashes": ("CrashLoopBackOff", 60.0, S.FAILED, 304),
}


@pytest.mark.parametrize("case", WAITS)
def test_what_lasts_is_a_failure_that_may_be_left(case: str) -> None:
    """Until then its text is told, and `recheck_at` is the moment of the change."""
    reason, limit, status, code = WAITS[case]
    pod = make_pod("Pending", conditions=(NOT_READY,), containers=(waiting("user", reason, "why"),))
    early = pod_status(pod, T0 + limit)
    assert (early.status, early.final) == (S.SCHEDULING, False)
    assert early.message.endswith(f"failed with {reason}: why. ")
    assert early.recheck_at is not None
    late = pod_status(pod, early.recheck_at)
    assert (late.status, late.exit_code, late.final) == (status, code, False)
    assert (late.message, late.recheck_at) == (early.message, None)


def test_an_image_that_was_not_pulled_before_is_told_at_once() -> None:
    """And may be left: the kubelet tries again."""
    state = pod_status(make_pod("Pending", containers=(waiting("user", "ImagePullBackOff"),)), T0)
    assert (state.status, state.exit_code) == (S.FAILED_IMAGE_PULL, 301)
    assert (state.final, state.recheck_at) == (False, None)


def test_a_crash_is_not_told_while_osmo_ctrl_uploads() -> None:
    """A plain failure waits for it, as ever."""
    pod = make_pod(conditions=(NOT_READY,), containers=(waiting("user", "CrashLoopBackOff"), CTRL))
    state = pod_status(pod, T0 + STUCK_FOR_10_MINUTES)
    assert state.status is S.RUNNING
    assert "CrashLoopBackOff" in state.message


def test_a_long_wait_is_told_by_its_reason() -> None:
    """Whatever it is for, and though it is no error to any other rule."""
    pod = make_pod(
        "Pending",
        conditions=(NOT_READY,),
        containers=(waiting("user", "InvalidImageName", "no: x"),),
    )
    early = pod_status(pod, T0 + 60)
    assert (early.status, early.message) == (S.SCHEDULING, "")
    assert early.recheck_at is not None
    late = pod_status(pod, early.recheck_at)
    assert (late.status, late.recheck_at) == (S.SCHEDULING, None)
    assert late.message == "Task user waits: InvalidImageName: no: x. "


@pytest.mark.parametrize("reason", ["ContainerCreating", "PodInitializing", ""])
def test_a_start_is_no_wait(reason: str) -> None:
    """However long it takes: large images do."""
    pod = make_pod("Pending", conditions=(NOT_READY,), containers=(waiting("user", reason),))
    state = pod_status(pod, T0 + STUCK_FOR_10_MINUTES)
    assert (state.status, state.message, state.recheck_at) == (S.SCHEDULING, "", None)


def rule(operator: str, *values: int) -> RestartRule:
    """Of a container that is started again after these exit codes."""
    return RestartRule(ExitCodes(operator, values))


RESTARTS: dict[str, tuple[Container, str, int, bool]] = {
    "its own policy, which is to": (Container("user", "OnFailure"), "Never", 1, False),
    "its own policy, whatever the end": (Container("user", "Always"), "Never", 1, False),
    "its own policy, which is not to": (Container("user", "Never"), "Always", 1, True),
    "the pod's": (Container("user"), "Always", 1, False),
    "a rule": (Container("user", "Never", (rule("In", 7, 42),)), "Never", 42, False),
    "a rule for others": (Container("user", "Never", (rule("In", 7, 42),)), "Never", 1, True),
    "a rule for all but it": (Container("user", "Never", (rule("NotIn", 1),)), "Never", 1, True),
    "a rule for all but others": (
        Container("user", "Never", (rule("In", 7), rule("NotIn", 7))),
        "Never",
        1,
        False,
    ),
    "no rule that is known": (Container("user", "Never", (rule("Gt", 0),)), "Never", 9, True),
    "rules, and the policy then": (
        Container("user", "OnFailure", (rule("In", 7),)),
        "Never",
        1,
        False,
    ),
    "rules without a policy": (Container("user", "", (rule("In", 1),)), "Never", 1, True),
}


@pytest.mark.parametrize(
    ("case", "init"),
    [
        (case, init)
        for case, (container, *_) in RESTARTS.items()
        for init in (False, True)
        if not (init and container.restart_policy == "Always")  # a sidecar
    ],
)
def test_whether_a_container_is_started_again(case: str, init: bool) -> None:
    """A container's own rules come first, then its policy, then the pod's."""
    container, policy, code, ends = RESTARTS[case]
    spec = PodSpec("n", () if init else (container,), (container,) if init else (), policy)
    status = (ended("user", code),)
    pod = make_pod(init=status) if init else make_pod(containers=status)
    state = pod_status(msgspec.structs.replace(pod, spec=spec), T0)
    assert state.final == ends
    assert state.status is (S.FAILED if ends else S.RUNNING)
    assert f"Exit code {code}" in state.message


def test_a_container_that_ended_well_is_started_again_by_nobody_else() -> None:
    """osmo-ctrl's own report of a failure is no exit code of the container."""
    ctrl = ended("osmo-ctrl", 0, "Error", '{"code": 5}')
    pod = with_spec(make_pod(containers=(ended("user", 1), ctrl)), restart_policy="OnFailure")
    assert pod_status(pod, T0).status is S.RUNNING


def test_a_sidecar_that_does_not_start_is_told_by_its_reason() -> None:
    """What comes behind it does not start either; it fails nothing."""
    pod = with_spec(
        make_pod(
            "Pending",
            init=(waiting("logs", "ImagePullBackOff", "no: x"),),
            containers=(waiting("user", "PodInitializing"),),
            conditions=(NOT_READY,),
        ),
        SIDECAR,
    )
    early = pod_status(pod, T0)
    assert (early.status, early.message) == (S.SCHEDULING, "")
    assert early.recheck_at is not None
    late = pod_status(pod, early.recheck_at)
    assert (late.status, late.final) == (S.SCHEDULING, False)
    assert late.message == "Task logs waits: ImagePullBackOff: no: x. "
