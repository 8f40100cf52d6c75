"""Whether a state store equals a cluster, row by row."""

import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from osmo_listener.listeners import PodStatus, has_ended
from osmo_listener.listeners.objects import Pod
from osmo_listener.listeners.workflow import KIND, WorkflowConfig, WorkflowListener, task_key
from osmo_reports.bodies import NO_EXIT_CODE, UpdatePod, decode_body
from osmo_worker.store import Task
from osmo_worker.store.kinds.tasks import shown_conditions

COMPARED = ("status", "exit_code", "message", "node", "container", "pod_ip", "pod", "conditions")
"""The columns that tell what the cluster says; the others tell when and how it was learned."""


class Difference(NamedTuple):
    """One row that is not as the cluster has it."""

    task: str
    """`workflow/task/retry`."""
    problem: str


def expected_tasks(pods: Iterable[Pod], config: WorkflowConfig) -> dict[str, UpdatePod]:
    """What the store should hold of a cluster's live pods, by task; of those in an unknown state,
    which are not reported, anything or nothing."""
    pods = list(pods)
    keys = [key for pod in pods if (key := task_key(pod)) is not None]
    expected = {UpdatePod.key(*key): UpdatePod(*key, PodStatus.UNKNOWN) for key in keys}
    listener = WorkflowListener(config)
    listener.restart(1)
    messages = listener.snapshot(pods, 1, time.time())
    return expected | {m.key: decode_body(KIND, m.payload) for m in messages if m.kind == KIND}


def differences(expected: dict[str, UpdatePod], rows: Iterable[Task]) -> Iterator[Difference]:
    """Every live row that is missing, stale, or of a pod that is gone."""
    missing = dict(expected)
    for row in rows:
        if row.deleted_at is not None:
            continue
        key = UpdatePod.key(row.workflow_uuid, row.task_uuid, row.retry_id)
        body = missing.pop(key, None)
        if body is None:
            yield Difference(key, f"the row says {row.status}, and the pod is gone")
            continue
        if body.status == PodStatus.UNKNOWN:
            continue
        if row.terminal and not has_ended(PodStatus(body.status)):
            # A worker concluded it, or its listener has told of an end: that stays for its epoch.
            continue
        for column in COMPARED:
            is_, should_be = getattr(row, column), getattr(body, column)
            if column == "conditions":
                should_be = shown_conditions(should_be)
            if column == "exit_code" and should_be == NO_EXIT_CODE:
                should_be = None
            if is_ != should_be:
                yield Difference(key, f"{column} is {is_!r} and should be {should_be!r}")
    for key, body in missing.items():
        if body.status != PodStatus.UNKNOWN:
            yield Difference(key, f"no row, and the pod is {body.status}")
