"""The vocabulary of pod states: statuses, exit codes, and what both sets of rules share."""

import math
from datetime import UTC, datetime
from enum import Enum, IntEnum, StrEnum

import msgspec

from osmo_listener.listeners import objects
from osmo_reports.bodies import NO_EXIT_CODE


class PodStatus(StrEnum):
    """What users see as the status of a task."""

    SCHEDULING = "SCHEDULING"
    INITIALIZING = "INITIALIZING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    FAILED_EVICTED = "FAILED_EVICTED"
    FAILED_START_ERROR = "FAILED_START_ERROR"
    FAILED_BACKEND_ERROR = "FAILED_BACKEND_ERROR"
    FAILED_IMAGE_PULL = "FAILED_IMAGE_PULL"
    FAILED_PREEMPTED = "FAILED_PREEMPTED"
    UNKNOWN = "UNKNOWN"
    """Cannot be told, at least for now: never reported."""


_TERMINAL = frozenset(
    status for status in PodStatus if status is PodStatus.COMPLETED or status.startswith("FAILED")
)


def has_ended(status: PodStatus) -> bool:
    """Whether the status says that the task has ended."""
    return status in _TERMINAL


class ExitCode(IntEnum):
    """The exit codes that the rules give by themselves, apart from those of the containers."""

    NONE = NO_EXIT_CODE
    SUCCESS = 0
    IMAGE_PULL_BACK_OFF = 301
    ERR_IMAGE_PULL = 302
    CREATE_CONTAINER_CONFIG_ERROR = 303
    CRASH_LOOP_BACK_OFF = 304
    CONTAINER_STATUS_UNKNOWN = 305
    WAITING_ERROR = 999
    """A container waits with any other error."""
    BACKEND_ERROR = 3001
    START_ERROR = 3003
    EVICTED = 3004
    PREEMPTED = 3006
    UNKNOWN = 4000
    """The pod failed and no container says why."""


class PodStatusMode(Enum):
    """Which rules turn a pod into a status."""

    EXACT = "exact"
    """The phase decides, the states of containers explain, and only what the kubelet cannot take
    back is final."""
    REDESIGN = "redesign"
    """Those of the deployed redesign."""
    LEGACY = "legacy"
    """Those of the WebSocket system that came first, for clusters that compare the two."""


class PodState(msgspec.Struct, frozen=True, gc=False):
    """What the rules make of a pod."""

    status: PodStatus
    exit_code: int = ExitCode.NONE
    message: str = ""
    recheck_at: float | None = None
    """When time alone changes the state (seconds since the Unix epoch), or None: never."""
    passing: bool = False
    """Whether a status that says that the task has ended may be taken back."""

    @property
    def final(self) -> bool:
        """Whether the task has ended, and nothing takes this back."""
        return has_ended(self.status) and not self.passing


CTRL_CONTAINER = "osmo-ctrl"

_OFFSETS = {"osmo-init": 255, "preflight-test": 1000, CTRL_CONTAINER: 2000}

_MAX_CODE = 2**31 - 1
"""Exit codes travel as 32-bit integers."""

STUCK_LIMITS: dict[str, float] = {
    "CreateContainerConfigError": 10 * 60.0,
    "ContainerStatusUnknown": 30 * 60.0,
}
"""Seconds for which a container may wait with this reason, in a pod that is not ready, before the
backend is held to be at fault."""

IMAGE_PULL_REASONS = frozenset({"ErrImagePull", "ImagePullBackOff"})

STARTING_REASONS = frozenset({"ContainerCreating", "PodInitializing"})

_PHASES = {
    "Pending": PodStatus.SCHEDULING,
    "Running": PodStatus.RUNNING,
    "Succeeded": PodStatus.COMPLETED,
}


class _CtrlMessage(msgspec.Struct):
    code: int | float | None = None


_decode_ctrl = msgspec.json.Decoder(_CtrlMessage).decode


def with_offset(container: str, code: int) -> int:
    """The exit code moved to the range of its container, so that users can tell them apart."""
    return min(code + _OFFSETS.get(container, 0), _MAX_CODE)


def terminated_code(container: str, terminated: objects.Terminated) -> int:
    """The exit code before the offset: osmo-ctrl's JSON message may hold a better one."""
    if container == CTRL_CONTAINER and terminated.message:
        try:
            code = _decode_ctrl(terminated.message).code
        except (msgspec.MsgspecError, RecursionError):
            return terminated.exit_code
        if code is not None and abs(code) <= _MAX_CODE:
            return int(code)
    return terminated.exit_code


def phase_status(status: objects.PodStatus) -> PodStatus:
    """The status by phase; an init container that is being started makes it INITIALIZING."""
    for container in status.init_container_statuses:
        waiting = container.state.waiting
        if waiting is not None and waiting.reason in STARTING_REASONS:
            return PodStatus.INITIALIZING
    return _PHASES.get(status.phase, PodStatus.UNKNOWN)


def stuck_at(status: objects.PodStatus, limit: float) -> float | None:
    """The first moment at which the pod has been not ready for longer than `limit` seconds; None
    when it does not say since when it is not ready."""
    since = [
        moment.timestamp()
        for condition in status.conditions
        if condition.type == "Ready" and condition.status == "False"
        if (moment := parse_time(condition.last_transition_time)) is not None
    ]
    return math.nextafter(min(since) + limit, math.inf) if since else None


def parse_time(text: str | None) -> datetime | None:
    """An API server's timestamp in UTC; None where it is absent or not one."""
    try:
        moment = datetime.fromisoformat(text or "")
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
