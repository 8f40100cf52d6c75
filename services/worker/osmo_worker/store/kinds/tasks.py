"""The rows of `tasks`: one per pod, identified by backend, workflow, task and retry.

The parts of a row (see `osmo_worker.store.merge`):

- *Its existence*: version and deletion of the newest report. A resource is also gone when a newer
  snapshot did not list it, which means: when `epoch` is below the epoch of the newest snapshot of
  its backend and kind. A report of the snapshot's own epoch revives the row, however late it comes.
  A report of existence alone has a part in this only, and makes no row.
- *What it shows*: the newest report of a state. Whether the pod has ended its listener says, who
  also keeps to that: a row goes on after its end only if the cluster does, because the pod was
  created anew or the cluster was restored.

Nearly always one report is the newest of both, and the two versions are equal; they part when a
report of existence alone is the newest.

A worker may conclude itself that a pod has failed (`osmo_worker.store.conclusions`). That gives the
row status, exit code and message; what was reported is kept beside them. A later report of the pod
takes the conclusion back, unless it says only that the pod is gone, or still waits to start.
"""

from collections.abc import Iterable
from datetime import datetime

import msgspec
from msgspec.structs import astuple
from sqlalchemy import ColumnElement, Tuple, and_, func, literal_column, or_, tuple_

from osmo_reports.bodies import NO_EXIT_CODE, Condition, PodExists, UpdatePod
from osmo_transport import Delivery
from osmo_worker.store.merge import Columns, Join, Known, Resource, Row, existence, taken
from osmo_worker.store.schema import INITIALIZING, tasks
from osmo_worker.store.values import cleaned, json_text, moment, moment_at, without_nul

KIND = "update_pod"

HIDDEN_CONDITIONS = frozenset({"ContainersReady"})
"""Types of conditions that tell a user nothing that another one does not."""
HIDDEN_WHEN_FALSE = frozenset({"Initialized", "Ready"})
"""Types of conditions that tell a user something only when they are true."""

_EXISTENCE = ("epoch", "resource_version", "deleted_at")
_SHOWN = (
    *("ended", "node", "container", "pod_ip", "reported_pod", "conditions", "created_at"),
    *("status_epoch", "status_resource_version"),
)
_TOLD = (
    *("status", "exit_code", "message", "concluded"),
    *("reported_status", "reported_exit_code", "reported_message"),
)

NODE_LOST = (
    "FAILED_BACKEND_ERROR",
    3001,
    "Node got removed from the cluster while the pod was on it",
)
"""Status, exit code and message of a task whose node is gone."""
START_TIMEOUT = "FAILED_START_TIMEOUT"
"""The status of a task that did not start in time."""


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One row of `tasks`."""

    backend: str
    workflow_uuid: str
    task_uuid: str
    retry_id: int
    status: str
    terminal: bool
    """Whether the pod has ended, or a worker concluded that it has."""
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
    """When the status was reported that the row has now, by the clock of the listener; of a
    conclusion, when it was drawn."""
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


_NOTHING = (None, None, None)


def _key(delivery: Delivery, body: UpdatePod | PodExists) -> Row:
    workflow_uuid, task_uuid = without_nul(body.workflow_uuid), without_nul(body.task_uuid)
    return delivery.backend, workflow_uuid, task_uuid, body.retry_id


def _row(delivery: Delivery, body: UpdatePod, known: Known) -> Row:
    message, now = delivery.message, known.now
    epoch, resource_version = astuple(message.version)
    gone = body.deleted or known.left_out(delivery, KIND)
    status, text, node, pod = body.status, body.message, body.node, body.pod
    names = f"{body.workflow_uuid}{body.task_uuid}{node}{body.container}{body.pod_ip}{pod}"
    if "\0" in f"{names}{status}{text}":
        return _row(delivery, cleaned(body), known)
    code = None if body.exit_code == NO_EXIT_CODE else body.exit_code
    since = moment_at(message.timestamp) or now
    reported: tuple[str | None, int | None, str | None] = _NOTHING
    lost = not (message.final or gone) and (delivery.backend, node) in known.gone
    if lost:
        reported, (status, code, text), since = (status, code, text), NODE_LOST, now
    return (
        delivery.backend,
        body.workflow_uuid,
        body.task_uuid,
        body.retry_id,
        status,
        code,
        text,
        message.final,
        lost,
        *reported,
        node,
        body.container,
        body.pod_ip,
        pod,
        pod,
        json_text(shown_conditions(body.conditions)) if body.conditions else "[]",
        moment(body.created_at),
        since,
        now,
        now if gone else None,
        epoch,
        resource_version,
        epoch,
        resource_version,
    )


def _join(old: Columns, new: Columns) -> Join:
    exists_newer = existence(new) > existence(old)
    shows_newer = _shown(new) > _shown(old)
    knows_better = _knows_better(old, new)
    tells_newer = or_(
        and_(shows_newer, or_(new.ended, ~old.concluded, ~_leaves_concluded(old, new))),
        knows_better,
    )
    changed = or_(new.status != old.status, _is_another_pod(old, new))
    is_higher = or_(exists_newer, shows_newer, knows_better)
    return Join(
        changes={
            **taken(_EXISTENCE, exists_newer, old, new),
            **taken(_SHOWN, shows_newer, old, new),
            **taken(_TOLD, tells_newer, old, new),
            **taken(("status_since",), and_(tells_newer, changed), old, new),
            **taken(("updated_at",), is_higher, old, new),
        },
        when=is_higher,
        follows={"pod": "reported_pod"},
    )


def _shown(columns: Columns) -> Tuple:
    """What of a row orders the reports of a state."""
    return tuple_(columns.status_epoch, columns.status_resource_version)


def _knows_better(old: Columns, new: Columns) -> ColumnElement[bool]:
    """Whether the report that the row shows has come again, and the node is gone by now or is not
    gone any more: whoever wrote the row may have been killed before it looked again."""
    is_shown = _shown(new) == _shown(old)
    lost: ColumnElement[str] = literal_column(f"'{NODE_LOST[0]}'")
    went = and_(new.concluded, ~old.concluded)
    came = and_(~new.concluded, old.concluded, old.status == lost)
    both_alive = and_(old.deleted_at.is_(None), new.deleted_at.is_(None))
    return and_(is_shown, both_alive, or_(went, came))


def _leaves_concluded(old: Columns, new: Columns) -> ColumnElement[bool]:
    """Whether a report that is no end says nothing against what was concluded: the pod is gone, or
    waits to start as before."""
    reported = func.coalesce(new.reported_status, new.status)
    # Written out: a statement of many rows has no other parameters than their values.
    late: ColumnElement[str] = literal_column(f"'{START_TIMEOUT}'")
    waiting: ColumnElement[str] = literal_column(f"'{INITIALIZING}'")
    waits = and_(old.status == late, reported == waiting)
    return or_(new.deleted_at.is_not(None), and_(waits, ~_is_another_pod(old, new)))


def _is_another_pod(old: Columns, new: Columns) -> ColumnElement[bool]:
    """Whether the task's pod was created anew."""
    another: ColumnElement[bool] = new.created_at.is_distinct_from(old.created_at)
    return another


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
