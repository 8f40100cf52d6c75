"""The rows of `tasks`: one per pod, identified by backend, workflow, task and retry.

The parts of a row (see `osmo_worker.store.joining`):

- *Its existence*: version and deletion of the newest report. A resource is also gone when a newer
  snapshot did not list it, which means: when `epoch` is below the epoch of the newest snapshot of
  its backend and kind. A report of the snapshot's own epoch revives the row, however late it comes.
  A report of existence alone has a part in this only, and makes no row.
- *What it shows*: the newest report, but a final one is never replaced by one that is not. Which
  report is final its listener says: a pod that fails may still go on.
- *Since when it is on its node*: the oldest report that names the node which the row shows.

Nearly always one report is the highest of the first two, and the two versions are equal; they part
when a report that is not final follows a final one (it may still delete the row or revive it) or
when an older final report comes late (it may still change what the row shows).

A worker may conclude itself that a pod has failed (`osmo_worker.store.conclusions`). That gives the
row status, exit code and message, which stay until a pod's own final status is reported.
"""

from collections.abc import Iterable
from datetime import datetime

import msgspec
from sqlalchemy import ColumnElement, Tuple, and_, case, func, literal_column, or_, tuple_

from osmo_reports.bodies import NO_EXIT_CODE, Condition, PodExists, UpdatePod
from osmo_transport import Delivery
from osmo_worker.store.joining import Columns, Join, Known, Resource, Row, existence, taken
from osmo_worker.store.schema import tasks
from osmo_worker.store.values import json_text, moment, without_nul

KIND = "update_pod"

HIDDEN_CONDITIONS = frozenset({"ContainersReady"})
"""Types of conditions that tell a user nothing that another one does not."""
HIDDEN_WHEN_FALSE = frozenset({"Initialized", "Ready"})
"""Types of conditions that tell a user something only when they are true."""

_EXISTENCE = ("epoch", "resource_version", "deleted_at")
_SHOWN = (
    *("ended", "node", "container", "pod_ip", "pod", "conditions", "created_at"),
    *("status_epoch", "status_resource_version"),
)
_TOLD = ("status", "exit_code", "message")
_FIRST_ON_NODE = {
    "node_epoch": "status_epoch",
    "node_resource_version": "status_resource_version",
}
"""The columns that hold it, each with what stands for it where it is NULL."""
_NOWHERE: ColumnElement[str] = literal_column("''")
"""Of a pod that no node was found for yet."""


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One row of `tasks`."""

    backend: str
    workflow_uuid: str
    task_uuid: str
    retry_id: int
    status: str
    terminal: bool
    """Whether it stays so: the pod has ended, or a worker concluded that it has."""
    concluded: bool
    """Status, exit code and message are what a worker concluded, and no report."""
    exit_code: int | None
    message: str
    node: str
    container: str
    pod_ip: str
    pod: str
    """`namespace/name`."""
    conditions: tuple[Condition, ...]
    """Those of `shown_conditions`."""
    created_at: datetime | None
    """When the pod was created, by the cluster's clock."""
    status_since: datetime
    """When a worker gave the row its status."""
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


def shown_conditions(conditions: Iterable[Condition]) -> tuple[Condition, ...]:
    """Those of a pod's conditions that users see."""
    return tuple(
        [
            condition
            for condition in conditions
            if condition.type not in HIDDEN_CONDITIONS
            and (condition.status or condition.type not in HIDDEN_WHEN_FALSE)
        ]
    )


def _key(delivery: Delivery, body: UpdatePod | PodExists) -> Row:
    return delivery.backend, body.workflow_uuid, body.task_uuid, body.retry_id


def _row(delivery: Delivery, body: UpdatePod, known: Known) -> Row:
    epoch, resource_version = delivery.message.version
    now = known.now
    return (
        delivery.backend,
        body.workflow_uuid,
        body.task_uuid,
        body.retry_id,
        body.status,
        delivery.message.final,
        None if body.exit_code == NO_EXIT_CODE else body.exit_code,
        without_nul(body.message),
        body.node,
        body.container,
        body.pod_ip,
        body.pod,
        json_text(shown_conditions(body.conditions)) if body.conditions else "[]",
        moment(body.created_at),
        now,
        now,
        now if body.deleted or known.left_out(delivery, KIND) else None,
        epoch,
        resource_version,
        epoch,
        resource_version,
    )


def first_on_node(columns: Columns) -> Tuple:
    """The version of the oldest report that names the node which the row shows."""
    return tuple_(
        func.coalesce(columns.node_epoch, columns.status_epoch),
        func.coalesce(columns.node_resource_version, columns.status_resource_version),
    )


def _join(old: Columns, new: Columns) -> Join:
    exists_newer = existence(new) > existence(old)
    version = tuple_(new.status_epoch, new.status_resource_version)
    shows_newer = tuple_(new.ended, new.status_epoch, new.status_resource_version) > tuple_(
        old.ended, old.status_epoch, old.status_resource_version
    )
    tells_newer = and_(shows_newer, or_(new.ended, ~old.concluded))
    moves = new.node != old.node
    earlier = version < first_on_node(old)
    return Join(
        changes={
            **taken(_EXISTENCE, exists_newer, old, new),
            **taken(_SHOWN, shows_newer, old, new),
            **taken(_TOLD, tells_newer, old, new),
            "concluded": and_(old.concluded, ~new.ended),
            **taken(("status_since",), and_(tells_newer, new.status != old.status), old, new),
            **taken(("updated_at",), or_(exists_newer, shows_newer), old, new),
            **{
                name: case(
                    (case((moves, shows_newer), else_=earlier), new[of_report]),
                    else_=func.coalesce(old[name], old[of_report]),
                )
                for name, of_report in _FIRST_ON_NODE.items()
            },
        },
        when=or_(
            exists_newer,
            shows_newer,
            and_(~moves, old.node != _NOWHERE, ~old.ended, earlier),
        ),
    )


TASKS = Resource(
    kind=KIND,
    existence_kind="pod_exists",
    has_snapshots=True,
    table=tasks,
    key=_key,
    row=_row,
    join=_join,
)
"""The pods of tasks."""
