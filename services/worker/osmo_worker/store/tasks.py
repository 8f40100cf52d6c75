"""The rows of `tasks`: one per pod, identified by backend, workflow, task and retry."""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec

from osmo_transport import Delivery
from osmo_transport.bodies import NO_EXIT_CODE, Condition, PodExists, UpdatePod

COMPLETED = "COMPLETED"
FAILED = "FAILED"

REPLACEMENT = "\ufffd"
"""Stands for U+0000, which a container may write into its last message and PostgreSQL refuses."""

_encode_json = msgspec.json.Encoder().encode


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One row of `tasks`."""

    backend: str
    workflow_uuid: str
    task_uuid: str
    retry_id: int
    status: str
    terminal: bool
    """The status is final: COMPLETED, or one that starts with FAILED."""
    exit_code: int | None
    message: str
    node: str
    container: str
    pod_ip: str
    pod: str
    """`namespace/name`."""
    conditions: tuple[Condition, ...]
    created_at: datetime | None
    """When the pod was created, by the cluster's clock."""
    updated_at: datetime
    """When a worker last changed the row."""
    deleted_at: datetime | None
    """When a worker learned that the pod is gone from the cluster; None while it is there."""
    epoch: int
    resource_version: int
    """With `epoch`, the version of the newest report."""
    status_epoch: int
    status_resource_version: int
    """With `status_epoch`, the version of the report that the row shows."""


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """How many rows of `tasks` there are of what, those of pods that are gone included."""

    statuses: dict[str, int]
    """Tasks by status."""
    deleted: int
    """Tasks whose pod is gone."""
    workflows: int
    running: int
    """Workflows of which a task has not ended."""


def is_terminal(status: str) -> bool:
    """Whether a pod in this status has ended for good."""
    return status == COMPLETED or status.startswith(FAILED)


def task_key(delivery: Delivery, body: UpdatePod | PodExists) -> tuple[Any, ...]:
    """The key of the row that a report is about."""
    return delivery.backend, body.workflow_uuid, body.task_uuid, body.retry_id


def task_row(delivery: Delivery, body: UpdatePod, now: str, left_out: bool) -> tuple[Any, ...]:
    """The values of a report's row, in the order of the table's columns."""
    epoch, resource_version = delivery.message.version
    return (
        delivery.backend,
        body.workflow_uuid,
        body.task_uuid,
        body.retry_id,
        body.status,
        is_terminal(body.status),
        None if body.exit_code == NO_EXIT_CODE else body.exit_code,
        without_nul(body.message),
        body.node,
        body.container,
        body.pod_ip,
        body.pod,
        conditions_text(body.conditions),
        moment(body.created_at),
        now,
        now if body.deleted or left_out else None,
        epoch,
        resource_version,
        epoch,
        resource_version,
    )


def without_nul(text: str) -> str:
    """The text in a form that every database takes."""
    return text.replace("\0", REPLACEMENT)


def conditions_text(conditions: tuple[Condition, ...]) -> str:
    """The conditions as JSON."""
    text = _encode_json(conditions).decode()
    if "\\u0000" not in text:
        return text
    clean = [
        msgspec.structs.replace(
            condition,
            reason=without_nul(condition.reason),
            message=without_nul(condition.message),
        )
        for condition in conditions
    ]
    return _encode_json(clean).decode()


@lru_cache(maxsize=4096)
def moment(text: str) -> str | None:
    """A timestamp of the API server as the store writes it, None where there is none or it cannot
    be read. Cached, because a burst of pods is created within few seconds."""
    try:
        parsed = datetime.fromisoformat(text)
        return written(parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        return None


def written(at: datetime) -> str:
    """A moment as the store writes it."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
