"""The rules of `PodStatusMode.LEGACY` where they differ; a row's id says from which rule."""

import pytest

from osmo_listener.listeners import PodState, PodStatus, PodStatusMode, pod_status
from osmo_listener.listeners.objects import Pod
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
PREEMPTED = condition("DisruptionTarget", reason="PreemptionByScheduler")

CASES: dict[str, tuple[Pod, PodStatus, int, str]] = {
    "3.1.1-preemption-wins-over-evicted": (
        make_pod("Failed", reason="Evicted", conditions=(PREEMPTED,)),
        S.FAILED_PREEMPTED, 3006, "Pod was preempted at 2026-01-02 03:04:05+00:00. ",
    ),
    "3.1.1-evicted-has-no-text-of-its-own": (
        make_pod("Failed", reason="Evicted", message="low"),
        S.FAILED_EVICTED, 3004, "Pod pod-1 error message: low\n",
    ),
    "3.1.1-evicted-running": (
        make_pod("Running", reason="Evicted", message="low"), S.FAILED_EVICTED, 3004, "",
    ),
    "3.1.1-start-error": (
        make_pod("Failed", reason="StartError", containers=(ended("user", 1),)),
        S.FAILED_START_ERROR, 3003, "Failure reason:\n- Exit code 1 due to Task user failure. ",
    ),
    "3.1.1-admission-error": (
        make_pod("Failed", reason="UnexpectedAdmissionError"), S.FAILED_BACKEND_ERROR, 3001, "",
    ),
    "3.1.2-any-preemption-wins-over-an-earlier-disruption": (
        make_pod(conditions=(condition("DisruptionTarget"), PREEMPTED)),
        S.FAILED_PREEMPTED, 3006, "Pod was preempted at 2026-01-02 03:04:05+00:00. ",
    ),
    "3.1.2-preempted-without-time": (
        make_pod(conditions=(condition("X", reason="PreemptionByScheduler", at=None),)),
        S.FAILED_PREEMPTED, 3006, "Pod was preempted at None. ",
    ),
    "3.1.2-disrupted-keeps-the-text": (
        make_pod(
            "Failed", containers=(ended("user", 1),), conditions=(condition("DisruptionTarget"),)
        ),
        S.FAILED_BACKEND_ERROR, 3001,
        "Failure reason:\n- Exit code 1 due to Task user failure. ",
    ),
    "3.1.2-reason-wins-over-disrupted": (
        make_pod(reason="Evicted", conditions=(condition("DisruptionTarget"),)),
        S.FAILED_EVICTED, 3004, "",
    ),
    "3.1.3-failed-container-in-a-running-pod-is-ignored": (
        make_pod("Running", containers=(ended("user", 1),)), S.RUNNING, -1, "",
    ),
    "3.1.3-ctrl-ended-in-a-running-pod": (
        make_pod("Running", containers=(ended("user", 5), ended("osmo-ctrl", 0, "Completed"))),
        S.FAILED, 5, "Failure reason:\n- Exit code 5 due to Task user failure. ",
    ),
    "3.1.3-all-completed-in-a-running-pod": (
        make_pod(
            "Running",
            containers=(ended("user", 0, "Completed"), ended("osmo-ctrl", 0, "Completed")),
        ),
        S.RUNNING, -1, "",
    ),
    "3.1.3-start-error-in-a-running-pod-is-plain-failed": (
        make_pod("Running", containers=(ended("user", 128, "StartError"), running("osmo-ctrl"))),
        S.FAILED, 128, "Failure reason:\n- Exit code 128 due to Task user failure. ",
    ),
    "3.1.3-oom-killed-counts-once-the-pod-failed": (
        make_pod("Failed", containers=(ended("a", 1), ended("user", 137, "OOMKilled"))),
        S.FAILED_EVICTED, 3004,
        "Failure reason:"
        "\n- Exit code 1 due to Task a failure. "
        "\n- Exit code 137 due to Task user failure. ",
    ),
    "3.1.3-names-and-offsets": (
        make_pod(
            "Failed",
            init=(ended("osmo-init", 1), ended("preflight-test", 1)),
            containers=(ended("osmo-ctrl", 1, "Error", '{"code": 7}'),),
        ),
        S.FAILED, 2007,
        "Failure reason:"
        "\n- Exit code 256 due to Task osmo-init failure. "
        "\n- Exit code 1001 due to OSMO Preflight Test failure. "
        "\n- Exit code 2007 due to OSMO Control failure. ",
    ),
    **{
        f"3.1.3-waiting-{reason}": (
            make_pod("Pending", containers=(waiting("user", reason, "text"),)),
            status, code,
            f"Failure reason: Exit code {code} due to Task user failed with {reason}: text.",
        )
        for reason, status, code in (
            ("ImagePullBackOff", S.FAILED_IMAGE_PULL, 301),
            ("ErrImagePull", S.FAILED_IMAGE_PULL, 302),
            ("CrashLoopBackOff", S.FAILED, 304),
            ("CreateContainerError", S.FAILED, 999),
        )
    },
    "3.1.3-err-image-never-pull-is-missed": (
        make_pod("Pending", containers=(waiting("user", "ErrImageNeverPull"),)),
        S.SCHEDULING, -1, "",
    ),
    "3.1.3-waiting-without-text": (
        make_pod("Pending", containers=(waiting("osmo-ctrl", "ErrImagePull"),)),
        S.FAILED_IMAGE_PULL, 2302,
        "Failure reason: Exit code 2302 due to OSMO Control failed with ErrImagePull.",
    ),
    "3.1.3-regular-containers-wait-first": (
        make_pod(
            "Pending",
            init=(waiting("osmo-init", "CrashLoopBackOff", "i"),),
            containers=(waiting("user", "ErrImagePull", "u"),),
        ),
        S.FAILED_IMAGE_PULL, 302,
        "Failure reason: Exit code 302 due to Task user failed with ErrImagePull: u.",
    ),
    "3.1.3-what-ended-speaks-before-what-waits": (
        make_pod("Failed", containers=(ended("a", 1), waiting("b", "CrashLoopBackOff", "x"))),
        S.FAILED, 304, "Failure reason:\n- Exit code 1 due to Task a failure. ",
    ),
    "3.1.3-waiting-in-a-running-pod": (
        make_pod("Running", containers=(waiting("user", "CrashLoopBackOff", "x"),)),
        S.FAILED, 304,
        "Failure reason: Exit code 304 due to Task user failed with CrashLoopBackOff: x.",
    ),
    "3.1.4-no-cause": (
        make_pod("Failed", message="gone"), S.FAILED, 4000, "Pod pod-1 error message: gone\n",
    ),
    "3.1.5-pending-has-no-message": (make_pod("Pending", message="m"), S.SCHEDULING, -1, ""),
    "3.1.5-succeeded": (make_pod("Succeeded", message="m"), S.COMPLETED, 0, ""),
    "3.1.5-initializing": (
        make_pod("Pending", init=(waiting("osmo-init", "PodInitializing"),)),
        S.INITIALIZING, -1, "",
    ),
    "3.1.6-phase-unknown": (
        make_pod("Unknown", reason="Evicted", message="m"), S.UNKNOWN, -1, "m",
    ),
    "3.1.6-no-phase": (make_pod(""), S.UNKNOWN, -1, ""),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_rule(case: str) -> None:
    """Each difference gives exactly its status, exit code and text."""
    pod, status, exit_code, message = CASES[case]
    assert pod_status(pod, T0, PodStatusMode.LEGACY) == PodState(status, exit_code, message, None)


@pytest.mark.parametrize(
    ("reason", "code", "limit"),
    [("CreateContainerConfigError", 999, 600.0), ("ContainerStatusUnknown", 305, 1800.0)],
)
def test_stuck(reason: str, code: int, limit: float) -> None:
    """A stuck container is SCHEDULING up to the limit, then the backend's error."""
    pod = make_pod("Running", containers=(waiting("user", reason),), conditions=(NOT_READY,))
    text = f"Failure reason: Exit code {code} due to Task user failed with {reason}."

    early = pod_status(pod, T0 + limit, PodStatusMode.LEGACY)
    assert early.recheck_at is not None
    assert early == PodState(S.SCHEDULING, -1, text, early.recheck_at)
    late = pod_status(pod, early.recheck_at, PodStatusMode.LEGACY)
    assert late == PodState(S.FAILED_BACKEND_ERROR, 3001, text)
