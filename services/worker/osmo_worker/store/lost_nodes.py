"""The tasks of a node that is gone from the cluster.

A live pod that has not ended fails if its node was lost after a report of the pod named the node.
Every such pair of a loss and a report is found when the later of the two is applied: a loss looks
for tasks, and a report of a task for losses. A pod of which every report is newer than the loss
runs on a node that came back, and does not fail.

A node is lost by a report that says that it is removed, and by the newest inventory if that does
not list it and is newer than a report of it.

What is asked of the row is its state at that moment. So of a pod that is gone itself, the row says
what was learned first: that the pod is gone, or that its node is.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Dialect,
    and_,
    bindparam,
    literal_column,
    select,
    tuple_,
)

from osmo_reports.bodies import UpdateNode, UpdatePod
from osmo_transport import Delivery, Version
from osmo_worker.store import nodes as node_rows
from osmo_worker.store.conclusions import HAS_KEY, failing, key_parameters
from osmo_worker.store.joining import Inventory, Known, Row, compile_text
from osmo_worker.store.schema import UNFINISHED, nodes, tasks
from osmo_worker.store.tasks import TASKS, first_on_node

NODE_LOST = "FAILED_BACKEND_ERROR"
NODE_LOST_CODE = 3001
NODE_LOST_MESSAGE = "Node got removed from the cluster while the pod was on it"

MAX_NAMES = 500
"""Names of nodes in one statement: well below what every database takes."""

MAX_REMOVED = 100
"""Removals of nodes that are read as such: where more are newer than a batch, those are looked for
that it names."""

NO_NAMES = frozenset({"", "-"})
"""What stands for a hostname where there is none."""


class Loss(NamedTuple):
    """A node that was lost."""

    backend: str
    names: frozenset[str]
    """What a pod may call it: its name and its hostname."""
    version: Version


class Losses(dict[str, dict[str, Version]]):
    """By backend and by what a pod may call its node: the version at which it was lost last."""

    def __init__(self, losses: Iterable[Loss]) -> None:
        super().__init__()
        for backend, names, version in losses:
            there = self.setdefault(backend, {})
            for name in names:
                there[name] = max(version, there.get(name, version))


class _OnNode(NamedTuple):
    """A task that named a lost node when it was looked at."""

    key: Row
    node: str
    lost: Version


def lost_by_reports(reports: Iterable[tuple[Delivery, UpdateNode]], known: Known) -> Iterator[Loss]:
    """The nodes that reports of nodes show to be lost."""
    for delivery, body in reports:
        version = node_rows.loss(delivery, body, known)
        if version is not None:
            yield _loss(delivery.backend, body.node, body.hostname, version)


def lost_by_inventory(
    connection: Connection, backend: str, inventory: Inventory, called: Iterable[str]
) -> Iterator[Loss]:
    """Of the nodes that are called so, those that the inventory shows to be lost."""
    older = node_rows.first_at(nodes.c) < tuple(inventory.version)
    for node, hostname, _ in _called(connection, backend, set(called) - inventory.nodes, older):
        if node not in inventory.nodes:
            yield _loss(backend, node, hostname, inventory.version)


def called_by_tasks(connection: Connection, backend: str) -> set[str]:
    """What the tasks of the backend that may fail call their nodes."""
    columns = tasks.c
    found = connection.execute(select(columns.node, columns.backend).distinct().where(UNFINISHED))
    return {node for node, its_backend in found if its_backend == backend}


def fail_tasks_on(
    connection: Connection, backend: str, lost: Mapping[str, Version], now: str
) -> None:
    """Fail the tasks of the backend on nodes that are called so and were lost then.

    The caller holds the exclusive lock of the backend.
    """
    columns, called = tasks.c, sorted(lost)
    found: list[_OnNode] = []
    for start in range(0, len(called), MAX_NAMES):
        # Without the backend, for which SQLite would look up each of its tasks in the table.
        some = columns.node.in_(called[start : start + MAX_NAMES])
        rows = connection.execute(select(*tasks.primary_key, columns.node).where(some, UNFINISHED))
        found += [_OnNode(tuple(key), node, lost[node]) for *key, node in rows if key[0] == backend]
    _fail(connection, found, now)


class LostNodes:
    """Looks for losses that concern reports of tasks; for use in the database's thread."""

    def __init__(self, dialect: Dialect) -> None:
        columns = nodes.c
        removed = select(
            columns.node, columns.hostname, columns.lost_epoch, columns.lost_resource_version
        ).where(
            columns.backend == bindparam("backend"),
            node_rows.lost_at(columns) > tuple_(bindparam("epoch"), bindparam("version")),
        )
        few: ColumnElement[int] = literal_column(str(MAX_REMOVED))
        none: ColumnElement[int] = literal_column("0")
        self._removed = compile_text(removed.limit(few).offset(none), dialect)

    def fail_reported(
        self,
        connection: Connection,
        reports: Sequence[tuple[Delivery, UpdatePod]],
        oldest: Mapping[str, Version],
        known: Known,
    ) -> None:
        """Fail those of these tasks, just written, whose node was lost since they named it.
        `oldest`: the lowest version among the reports of each backend."""
        losses = Losses(self._lost_since(connection, reports, oldest, known))
        if losses:
            found = [
                _OnNode(TASKS.key(delivery, body), body.node, lost)
                for delivery, body in reports
                if (lost := losses.get(delivery.backend, {}).get(body.node)) is not None
            ]
            _fail(connection, found, known.now)

    def _lost_since(
        self,
        connection: Connection,
        reports: Sequence[tuple[Delivery, UpdatePod]],
        oldest: Mapping[str, Version],
        known: Known,
    ) -> Iterator[Loss]:
        for backend, lowest in oldest.items():
            rows = connection.exec_driver_sql(self._removed, (backend, *lowest)).all()
            removed = [(node, host, Version(*version)) for node, host, *version in rows]
            if len(removed) == MAX_REMOVED:
                called = {body.node for delivery, body in reports if delivery.backend == backend}
                later = node_rows.lost_at(nodes.c) > tuple(lowest)
                removed = list(_called(connection, backend, called, later))
            for node, hostname, version in removed:
                yield _loss(backend, node, hostname, version)
        for backend, inventory in known.inventories.items():
            called = {
                body.node
                for delivery, body in reports
                if delivery.backend == backend and delivery.message.version < inventory.version
            }
            yield from lost_by_inventory(connection, backend, inventory, called)


def _called(
    connection: Connection, backend: str, called: Iterable[str], where: ColumnElement[bool]
) -> Iterator[tuple[str, str, Version]]:
    """The nodes that are called so, by name or hostname: both, and when they were removed."""
    columns, some = nodes.c, sorted(set(called) - NO_NAMES)
    for start, column in itertools.product(
        range(0, len(some), MAX_NAMES), (columns.node, columns.hostname)
    ):
        found = connection.execute(
            select(
                columns.node, columns.hostname, columns.lost_epoch, columns.lost_resource_version
            ).where(columns.backend == backend, column.in_(some[start : start + MAX_NAMES]), where)
        )
        for node, hostname, *version in found:
            yield node, hostname, Version(*version)


def _fail(connection: Connection, found: Iterable[_OnNode], now: str) -> None:
    """Fail those that are still on their node, and were before it was lost."""
    # Two workers that lock rows in the same order cannot wait for each other.
    rows = [_parameters(each) for each in sorted(found)]
    if rows:
        statement = failing(NODE_LOST, NODE_LOST_CODE, NODE_LOST_MESSAGE, now)
        connection.execute(statement.where(_WAS_ON_NODE, UNFINISHED), rows)


_WAS_ON_NODE = and_(
    HAS_KEY,
    tasks.c.node == bindparam("its_node"),
    first_on_node(tasks.c)
    < tuple_(bindparam("lost_epoch", type_=BigInteger), bindparam("lost", type_=BigInteger)),
)


def _parameters(task: _OnNode) -> dict[str, Any]:
    epoch, resource_version = task.lost
    there = {"its_node": task.node, "lost_epoch": epoch, "lost": resource_version}
    return key_parameters(task.key) | there


def _loss(backend: str, node: str, hostname: str, version: Version) -> Loss:
    return Loss(backend, frozenset({node, hostname}) - NO_NAMES, version)
