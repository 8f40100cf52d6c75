"""What holds for every pod, however odd, in both modes."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osmo_listener.listeners import PodState, PodStatusMode, pod_status
from osmo_listener.listeners import PodStatus as Status
from osmo_listener.listeners.objects import (
    ContainerState,
    ContainerStatus,
    Pod,
    PodCondition,
    PodMetadata,
    PodStatus,
    Terminated,
    Waiting,
)
from tests.listener_rules.harness import SINCE, T0

TEXT = st.text(max_size=5)
NAMES = st.sampled_from(["user", "osmo-ctrl", "osmo-init", "preflight-test"]) | TEXT
REASONS = (
    st.sampled_from(
        [
            "Evicted",
            "StartError",
            "UnexpectedAdmissionError",
            "OOMKilled",
            "Completed",
            "Error",
            "ErrImagePull",
            "ImagePullBackOff",
            "CreateContainerConfigError",
            "ContainerStatusUnknown",
            "CrashLoopBackOff",
            "ContainerCreating",
            "PodInitializing",
            "PreemptionByScheduler",
        ]
    )
    | TEXT
)
TIMES = st.sampled_from([SINCE, "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"]) | TEXT
MESSAGES = st.sampled_from(['{"code": 9}', '{"code": -1}', '{"code": 1e999}', "[", "null"]) | TEXT
WAITING = st.builds(Waiting, REASONS, MESSAGES)
TERMINATED = st.builds(Terminated, st.integers(-(2**31), 2**31 - 1), REASONS, MESSAGES)
STATES = st.builds(ContainerState, st.none() | WAITING, st.none() | TERMINATED)
CONTAINERS = st.lists(st.builds(ContainerStatus, NAMES, STATES), max_size=3).map(tuple)
CONDITIONS = st.lists(
    st.builds(
        PodCondition,
        st.sampled_from(["Ready", "DisruptionTarget"]) | TEXT,
        st.sampled_from(["True", "False", "Unknown"]) | TEXT,
        st.none() | REASONS,
        st.none() | TEXT,
        st.none() | TIMES,
    ),
    max_size=3,
).map(tuple)
PHASES = st.sampled_from(["Pending", "Running", "Succeeded", "Failed", "Unknown"]) | TEXT
STATUSES = st.builds(
    PodStatus,
    phase=PHASES,
    reason=st.just("") | REASONS,
    message=TEXT,
    conditions=CONDITIONS,
    init_container_statuses=CONTAINERS,
    container_statuses=CONTAINERS,
)
PODS = st.builds(Pod, metadata=st.builds(PodMetadata, name=TEXT), status=STATUSES)
NOW = st.sampled_from([0.0, T0, T0 + 601, T0 + 1801, 1e12])


@settings(max_examples=300, deadline=None)
@given(PODS, NOW, st.sampled_from(PodStatusMode))
def test_any_pod_has_one_state(pod: Pod, now: float, mode: PodStatusMode) -> None:
    """A state is found for every pod; the same pod, decoded anew, has the same one; it can be sent;
    and only what is not final waits for the time."""
    state = pod_status(pod, now, mode)
    again = msgspec.json.decode(msgspec.json.encode(pod), type=Pod)
    assert pod_status(again, now, mode) == state
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=PodState) == state
    assert -(2**31) <= state.exit_code < 2**31
    if state.recheck_at is not None:
        assert state.recheck_at > now
        assert not state.final


@settings(max_examples=300, deadline=None)
@given(PODS, st.floats(0, 1e12), st.floats(0, 1e12), st.sampled_from(PodStatusMode))
def test_only_recheck_at_makes_time_matter(
    pod: Pod, first: float, second: float, mode: PodStatusMode
) -> None:
    """Until `recheck_at` the state stays as it is, and for ever where there is none; at
    `recheck_at` it becomes another one, by the deployed rules the backend's error."""
    now, later = sorted((first, second))
    state = pod_status(pod, now, mode)
    if state.recheck_at is None or later < state.recheck_at:
        assert pod_status(pod, later, mode) == state
    elif mode is PodStatusMode.EXACT:
        assert pod_status(pod, state.recheck_at, mode) != state
    else:
        assert pod_status(pod, later, mode).status is Status.FAILED_BACKEND_ERROR


@pytest.mark.parametrize("mode", PodStatusMode)
def test_an_empty_pod_is_unknown(mode: PodStatusMode) -> None:
    """A pod of which nothing is known is UNKNOWN."""
    assert pod_status(Pod(metadata=PodMetadata()), T0, mode) == PodState(Status.UNKNOWN)
