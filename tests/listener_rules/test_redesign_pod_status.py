"""The rules of `PodStatusMode.REDESIGN`, one row for each case; a row's id starts with its rule."""

import pytest

from osmo_listener.listeners import (
    ExitCode,
    PodState,
    PodStatus,
    PodStatusMode,
    has_ended,
)
from osmo_listener.listeners import pod_status as by_any_rules
from osmo_listener.listeners.objects import ContainerStatus, Pod
from tests.listener_rules.harness import (
    NOT_READY,
    SINCE,
    T0,
    condition,
    ended,
    make_pod,
    running,
    waiting,
)

S = PodStatus


def pod_status(pod: Pod, now: float) -> PodState:
    """By the rules that are tested here."""
    return by_any_rules(pod, now, PodStatusMode.REDESIGN)


TEN_MINUTES = 600.0
HALF_AN_HOUR = 1800.0
JUST_AFTER = 0.001


def failed_pod(*containers: ContainerStatus, message: str = "", phase: str = "Failed") -> Pod:
    """A pod whose containers have ended."""
    return make_pod(phase, containers=containers, message=message)


def error(text: str) -> str:
    """The message of one failed container."""
    return f"Failure reason:\n- {text}. "


CASES: dict[str, tuple[Pod, PodStatus, int, str]] = {
    # 1: the pod's reason
    "3.1.1-evicted": (
        make_pod("Failed", reason="Evicted", message="low on memory"),
        S.FAILED_EVICTED, 3004, "Pod was evicted: low on memory. ",
    ),
    "3.1.1-evicted-without-message": (
        make_pod("Failed", reason="Evicted"), S.FAILED_EVICTED, 3004, "Pod was evicted: . ",
    ),
    "3.1.1-start-error": (
        make_pod("Failed", reason="StartError", message="no device"),
        S.FAILED_START_ERROR, 3003, "Pod failed to start: no device. ",
    ),
    "3.1.1-admission-error": (
        make_pod("Failed", reason="UnexpectedAdmissionError", message="GPU gone"),
        S.FAILED_BACKEND_ERROR, 3001, "Pod admission error: GPU gone. ",
    ),
    "3.1.1-wins-over-conditions-and-containers": (
        make_pod(
            "Failed", reason="Evicted", message="m", containers=(ended("user", 1),),
            conditions=(condition("DisruptionTarget", reason="PreemptionByScheduler"),),
        ),
        S.FAILED_EVICTED, 3004, "Pod was evicted: m. ",
    ),
    "3.1.1-another-reason-says-nothing": (
        make_pod("Running", reason="NodeLost", message="m"), S.RUNNING, -1, "m",
    ),
    # 2: conditions
    "3.1.2-preempted": (
        make_pod(conditions=(condition("DisruptionTarget", reason="PreemptionByScheduler"),)),
        S.FAILED_PREEMPTED, 3006, "Pod was preempted at 2026-01-02 03:04:05 +0000 UTC. ",
    ),
    "3.1.2-preempted-whatever-the-type": (
        make_pod(conditions=(condition("X", reason="PreemptionByScheduler"),)),
        S.FAILED_PREEMPTED, 3006, "Pod was preempted at 2026-01-02 03:04:05 +0000 UTC. ",
    ),
    "3.1.2-preempted-other-zone-and-fraction": (
        make_pod(
            conditions=(
                condition("X", reason="PreemptionByScheduler", at="2026-01-02T04:04:05.250+01:00"),
            )
        ),
        S.FAILED_PREEMPTED, 3006, "Pod was preempted at 2026-01-02 03:04:05.25 +0000 UTC. ",
    ),
    "3.1.2-preempted-without-time": (
        make_pod(conditions=(condition("X", reason="PreemptionByScheduler", at=None),)),
        S.FAILED_PREEMPTED, 3006, "Pod was preempted at an unknown time. ",
    ),
    "3.1.2-preempted-with-a-time-that-is-none": (
        make_pod(conditions=(condition("X", reason="PreemptionByScheduler", at="soon"),)),
        S.FAILED_PREEMPTED, 3006, "Pod was preempted at soon. ",
    ),
    "3.1.2-disrupted": (
        make_pod(
            conditions=(condition("DisruptionTarget", reason="DeletionByTaint", message="drain"),)
        ),
        S.FAILED_BACKEND_ERROR, 3001, "Pod disrupted: drain. ",
    ),
    "3.1.2-disrupted-without-message": (
        make_pod(conditions=(condition("DisruptionTarget"),)),
        S.FAILED_BACKEND_ERROR, 3001, "Pod disrupted: . ",
    ),
    "3.1.2-list-order-decides": (
        make_pod(
            conditions=(
                condition("DisruptionTarget", message="drain"),
                condition("X", reason="PreemptionByScheduler"),
            )
        ),
        S.FAILED_BACKEND_ERROR, 3001, "Pod disrupted: drain. ",
    ),
    "3.1.2-only-true-counts": (
        make_pod(
            conditions=(
                condition("DisruptionTarget", "False", "PreemptionByScheduler"),
                condition("DisruptionTarget", "Unknown"),
            )
        ),
        S.RUNNING, -1, "",
    ),
    "3.1.2-wins-over-containers": (
        make_pod(
            "Failed",
            containers=(ended("user", 137),),
            conditions=(condition("DisruptionTarget", message="d"),),
        ),
        S.FAILED_BACKEND_ERROR, 3001, "Pod disrupted: d. ",
    ),
    # 3: containers
    "3.1.3-terminated": (
        failed_pod(ended("user", 3)),
        S.FAILED, 3, error("Exit code 3 due to Task user failed with Error"),
    ),
    "3.1.3-terminated-with-message": (
        failed_pod(ended("user", 3, "Error", "boom")),
        S.FAILED, 3, error("Exit code 3 due to Task user failed with Error: boom"),
    ),
    "3.1.3-terminated-without-reason": (
        failed_pod(ended("user", 3, "", "boom")),
        S.FAILED, 3, error("Exit code 3 due to Task user failure: boom"),
    ),
    "3.1.3-zero-with-an-error-reason-is-an-error": (
        failed_pod(ended("user", 0)),
        S.FAILED, 0, error("Exit code 0 due to Task user failed with Error"),
    ),
    "3.1.3-minus-one-is-no-error": (failed_pod(ended("user", -1)), S.FAILED, 4000, ""),
    "3.1.3-completed-is-no-error": (failed_pod(ended("user", 5, "Completed")), S.FAILED, 4000, ""),
    "3.1.3-pod-message-goes-first": (
        failed_pod(ended("user", 3), message="why"),
        S.FAILED, 3,
        "Pod pod-1 error message: why. \n"
        + error("Exit code 3 due to Task user failed with Error"),
    ),
    "3.1.3-init-first-then-list-order-and-the-highest-code": (
        make_pod(
            "Failed",
            init=(ended("osmo-init", 1), ended("preflight-test", 1)),
            containers=(ended("b", 9), ended("osmo-ctrl", 2), ended("a", 7)),
        ),
        S.FAILED, 2002,
        "Failure reason:"
        "\n- Exit code 256 due to OSMO Init failed with Error. "
        "\n- Exit code 1001 due to OSMO Preflight Test failed with Error. "
        "\n- Exit code 9 due to Task b failed with Error. "
        "\n- Exit code 2002 due to OSMO Control failed with Error. "
        "\n- Exit code 7 due to Task a failed with Error. ",
    ),
    **{
        f"3.1.3-ctrl-message-{name}": (
            failed_pod(ended("osmo-ctrl", 1, "Error", text)),
            S.FAILED, 2000 + code,
            error(f"Exit code {2000 + code} due to OSMO Control failed with Error: {text}"),
        )
        for name, text, code in (
            ("code", '{"code": 77, "other": [1]}', 77),
            ("fraction", '{"code": 77.9}', 77),
            ("zero", '{"code": 0}', 0),
            ("text-code", '{"code": "77"}', 1),
            ("bool-code", '{"code": true}', 1),
            ("null-code", '{"code": null}', 1),
            ("huge-code", '{"code": 1e300}', 1),
            ("no-code", "{}", 1),
            ("list", "[77]", 1),
            ("not-json", "code 77", 1),
            ("deep", '{"x": ' + "[" * 4000, 1),
        )
    },
    "3.1.3-ctrl-message-minus-one-is-no-error": (
        failed_pod(ended("osmo-ctrl", 1, "Error", '{"code": -1}')), S.FAILED, 4000, "",
    ),
    "3.1.3-message-of-another-container-is-only-text": (
        failed_pod(ended("user", 1, "Error", '{"code": 77}')),
        S.FAILED, 1, error('Exit code 1 due to Task user failed with Error: {"code": 77}'),
    ),
    "3.1.3-exit-codes-stay-32-bit": (
        failed_pod(ended("osmo-ctrl", 2**31 - 1)),
        S.FAILED, 2**31 - 1,
        error("Exit code 2147483647 due to OSMO Control failed with Error"),
    ),
    **{
        f"3.1.3-waiting-{reason}": (
            make_pod("Pending", containers=(waiting("user", reason, "text"),)),
            status, code,
            error(f"Exit code {code} due to Task user failed with {reason}: text"),
        )
        for reason, status, code in (
            ("ImagePullBackOff", S.FAILED_IMAGE_PULL, 301),
            ("ErrImagePull", S.FAILED_IMAGE_PULL, 302),
            ("CrashLoopBackOff", S.FAILED, 304),
            ("ErrImageNeverPull", S.FAILED, 999),
            ("CreateContainerError", S.FAILED, 999),
            ("RunContainerFailed", S.FAILED, 999),
        )
    },
    **{
        f"3.1.3-waiting-{reason or 'nothing'}-is-no-error": (
            make_pod("Pending", containers=(waiting("user", reason),)), S.SCHEDULING, -1, "",
        )
        for reason in ("ContainerCreating", "InvalidImageName", "error", "backoff", "")
    },
    **{
        f"3.1.3-waiting-{name}-offset": (
            make_pod("Pending", init=(waiting(name, "ErrImagePull"),)),
            S.FAILED_IMAGE_PULL, code,
            error(f"Exit code {code} due to {display} failed with ErrImagePull"),
        )
        for name, code, display in (
            ("osmo-init", 557, "OSMO Init"),
            ("preflight-test", 1302, "OSMO Preflight Test"),
            ("osmo-ctrl", 2302, "OSMO Control"),
        )
    },
    "3.1.3-oom-killed": (
        failed_pod(ended("user", 137, "OOMKilled")),
        S.FAILED_EVICTED, 3004, error("Exit code 137 due to Task user failed with OOMKilled"),
    ),
    "3.1.3-start-error-while-running": (
        failed_pod(ended("user", 128, "StartError"), running("osmo-ctrl"), phase="Running"),
        S.FAILED_START_ERROR, 3003,
        error("Exit code 128 due to Task user failed with StartError"),
    ),
    "3.1.3-first-named-reason-in-order-overrides": (
        failed_pod(
            ended("a", 200), ended("b", 128, "StartError"), ended("c", 137, "OOMKilled")
        ),
        S.FAILED_START_ERROR, 3003,
        "Failure reason:"
        "\n- Exit code 200 due to Task a failed with Error. "
        "\n- Exit code 128 due to Task b failed with StartError. "
        "\n- Exit code 137 due to Task c failed with OOMKilled. ",
    ),
    "3.1.3-failure-waits-for-ctrl": (
        make_pod("Running", containers=(ended("user", 1), running("osmo-ctrl")), message="m"),
        S.RUNNING, -1, "m",
    ),
    "3.1.3-failure-waits-for-waiting-ctrl": (
        make_pod(
            "Pending", containers=(ended("user", 1), waiting("osmo-ctrl", "PodInitializing"))
        ),
        S.SCHEDULING, -1, "",
    ),
    "3.1.3-failure-with-ctrl-ended": (
        failed_pod(ended("user", 1), ended("osmo-ctrl", 0, "Completed"), phase="Running"),
        S.FAILED, 1, error("Exit code 1 due to Task user failed with Error"),
    ),
    "3.1.3-failure-without-ctrl-status-counts": (
        failed_pod(ended("user", 1), phase="Running"),
        S.FAILED, 1, error("Exit code 1 due to Task user failed with Error"),
    ),
    "3.1.3-failed-phase-with-ctrl-not-ended-is-unknown": (
        failed_pod(ended("user", 1), running("osmo-ctrl")), S.UNKNOWN, -1, "",
    ),
    "3.1.3-a-cause-does-not-wait-for-ctrl": (
        failed_pod(ended("user", 137, "OOMKilled"), running("osmo-ctrl"), phase="Running"),
        S.FAILED_EVICTED, 3004, error("Exit code 137 due to Task user failed with OOMKilled"),
    ),
    # 4: a failed pod without a failed container
    "3.1.4-no-cause": (make_pod("Failed"), S.FAILED, 4000, ""),
    "3.1.4-pod-message": (
        make_pod("Failed", message="gone"), S.FAILED, 4000, "Pod pod-1 error message: gone. ",
    ),
    # 5: the phase
    "3.1.5-pending": (make_pod("Pending", message="m"), S.SCHEDULING, -1, "m"),
    "3.1.5-running": (make_pod("Running", message="m"), S.RUNNING, -1, "m"),
    "3.1.5-succeeded": (make_pod("Succeeded", message="m"), S.COMPLETED, 0, "m"),
    "3.1.5-no-phase": (make_pod(""), S.UNKNOWN, -1, ""),
    "3.1.5-another-phase": (make_pod("Paused", message="m"), S.UNKNOWN, -1, "m"),
    **{
        f"3.1.5-init-{reason}": (
            make_pod("Pending", init=(ended("a", 0, "Completed"), waiting("b", reason))),
            status, -1, "",
        )
        for reason, status in (
            ("ContainerCreating", S.INITIALIZING),
            ("PodInitializing", S.INITIALIZING),
            ("Other", S.SCHEDULING),
        )
    },
    "3.1.5-only-init-containers-initialize": (
        make_pod("Pending", containers=(waiting("user", "PodInitializing"),)),
        S.SCHEDULING, -1, "",
    ),
    "3.1.5-initializing-whatever-the-phase": (
        make_pod("Succeeded", init=(waiting("a", "PodInitializing"),)), S.INITIALIZING, -1, "",
    ),
    # 6: what is not sent
    "3.1.6-phase-unknown": (make_pod("Unknown", message="m"), S.UNKNOWN, -1, "m"),
    "3.1.6-phase-unknown-hides-the-rest": (
        make_pod(
            "Unknown", reason="Evicted", containers=(ended("user", 1),),
            init=(waiting("a", "PodInitializing"),),
        ),
        S.UNKNOWN, -1, "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_rule(case: str) -> None:
    """Each rule gives exactly its status, exit code and text, and never a time to look again."""
    pod, status, exit_code, message = CASES[case]
    assert pod_status(pod, T0) == PodState(status, exit_code, message, None)


STUCK = {
    "3.1.3-CreateContainerConfigError": ("CreateContainerConfigError", 303, TEN_MINUTES),
    "3.1.3-ContainerStatusUnknown": ("ContainerStatusUnknown", 305, HALF_AN_HOUR),
}


@pytest.mark.parametrize("case", STUCK)
def test_rule_that_depends_on_time(case: str) -> None:
    """A stuck container is UNKNOWN up to the limit and the backend's error beyond it, and
    `recheck_at` is the first moment at which it is the latter."""
    reason, code, limit = STUCK[case]
    pod = make_pod("Pending", containers=(waiting("user", reason),), conditions=(NOT_READY,))
    text = error(f"Exit code {code} due to Task user failed with {reason}")

    early = pod_status(pod, T0 + limit)
    assert early.recheck_at is not None
    assert early == PodState(S.UNKNOWN, ExitCode.NONE, text, early.recheck_at)
    assert T0 + limit < early.recheck_at < T0 + limit + JUST_AFTER
    late = PodState(S.FAILED_BACKEND_ERROR, ExitCode.BACKEND_ERROR, text, None)
    assert pod_status(pod, early.recheck_at) == late


@pytest.mark.parametrize(
    "conditions",
    [
        (),
        (condition("Ready", "True"),),
        (condition("Ready", "Unknown"),),
        (condition("Initialized", "False"),),
        (condition("Ready", "False", at=None),),
        (condition("Ready", "False", at="yesterday"),),
    ],
)
def test_stuck_without_a_beginning(conditions: tuple[object, ...]) -> None:
    """A stuck container of a pod that does not say since when it is not ready stays UNKNOWN."""
    pod = make_pod(
        containers=(waiting("user", "ContainerStatusUnknown"),),
        conditions=conditions,  # type: ignore[arg-type]
    )
    state = pod_status(pod, T0 + 10 * HALF_AN_HOUR)
    assert (state.status, state.recheck_at) == (S.UNKNOWN, None)


def test_stuck_counts_from_the_earliest_not_ready() -> None:
    """Of several Ready conditions that are False the oldest one counts."""
    later = condition("Ready", "False", at="2026-01-02T03:09:05Z")
    pod = make_pod(
        containers=(waiting("user", "CreateContainerConfigError"),), conditions=(later, NOT_READY)
    )
    assert pod_status(pod, T0 + TEN_MINUTES + 1).status is S.FAILED_BACKEND_ERROR


def test_stuck_does_not_wait_for_ctrl() -> None:
    """The rules that depend on time hold while osmo-ctrl runs: SINCE, not osmo-ctrl, decides."""
    pod = make_pod(
        containers=(waiting("user", "ContainerStatusUnknown"), running("osmo-ctrl")),
        conditions=(condition("Ready", "False", at=SINCE),),
    )
    assert pod_status(pod, T0).status is S.UNKNOWN
    assert pod_status(pod, T0 + HALF_AN_HOUR + 1).status is S.FAILED_BACKEND_ERROR


def test_terminal_statuses() -> None:
    """COMPLETED and all kinds of FAILED end a task, nothing else does."""
    ongoing = {S.SCHEDULING, S.INITIALIZING, S.RUNNING, S.UNKNOWN}
    assert {status for status in PodStatus if not has_ended(status)} == ongoing
