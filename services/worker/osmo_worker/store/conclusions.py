"""What a worker concludes of a pod that does not report it itself: that it has failed.

Its node is gone, or it did not start in time. A conclusion gives the row status, exit code and
message, and what was reported is kept beside them: a later report of the pod, or its node that came
back, takes the conclusion back, and the pod's own end replaces it.

*A node is gone* if its row says so, and no other row that is called like it says otherwise. Whether
a live pod that has not ended is on such a node is all that is asked. Pods and nodes are told by
listeners of their own, from different counters, so no report of one is older or newer than a report
of the other: what counts is what the newest of each say, in whatever order they come.

*Not started in time* is judged by the backend's own clock: since when the pod waits to start, and
when its listener said last that what it tells of pods is up to date.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from itertools import groupby
from operator import itemgetter

from sqlalchemy import (
    ColumnElement,
    Connection,
    Update,
    and_,
    bindparam,
    func,
    literal,
    null,
    or_,
    select,
    update,
)

from osmo_runtime.texts import counted
from osmo_worker.store.database import Database
from osmo_worker.store.kinds.tasks import KIND, NODE_LOST, START_TIMEOUT
from osmo_worker.store.merge import Row, among, compile_text, texts
from osmo_worker.store.schema import (
    CONCLUDED,
    GONE,
    STARTING,
    UNFINISHED,
    backends,
    nodes,
    snapshots,
    tasks,
)
from osmo_worker.store.values import EPOCH, moment_at
from osmo_worker.store.walk import having_key, key_values

logger = logging.getLogger(__name__)

START_TIMEOUT_CODE = 3005

STEP_ROWS = 1000
"""Tasks that one transaction changes: some ten milliseconds, for which other workers wait."""

FEW_GONE = 1000
"""Nodes that are gone which a batch reads as such: where the backends of a batch have more, those
are looked for that its pods name."""

MAX_NAMES = 500
"""Names of nodes in one statement: well below what every database takes."""

NO_NAMES = frozenset({"", "-"})
"""What stands for a hostname where there is none."""

_IS_ON_NODE = tasks.c.node == bindparam("its_node")


class LostNodes:
    """Finds which nodes are gone, and what that means for the tasks on them; for use in the
    database's thread."""

    def __init__(self, database: Database) -> None:
        self._database = database
        columns = nodes.c
        some_gone = select(columns.backend, columns.node, columns.hostname).where(
            among(columns.backend, database.dialect), GONE
        )
        self._some_gone = compile_text(some_gone.limit(FEW_GONE + 1).offset(0), database.dialect)

    def gone(
        self, connection: Connection, named: Mapping[str, Set[str]]
    ) -> frozenset[tuple[str, str]]:
        """Backend and name of the nodes that are gone, of those that are `named` by backend."""
        if not named:
            return frozenset()
        names = texts(sorted(named), self._database.dialect)
        found = connection.exec_driver_sql(self._some_gone, (names, FEW_GONE + 1, 0)).all()
        if not found:
            return frozenset()
        called: dict[str, set[str]] = {}
        for backend, *names_of_one in found:
            called.setdefault(backend, set()).update(names_of_one)
        if len(found) > FEW_GONE:
            called = {backend: set(those) for backend, those in named.items()}
        return frozenset(
            (backend, name)
            for backend, those in called.items()
            for name, gone in self._states(connection, backend, those & named[backend]).items()
            if gone
        )

    def reconcile(self, backend: str, now: str, names: Set[str] | None = None) -> Iterator[None]:
        """Conclude what nodes of a backend mean for its tasks, in steps: fail those on nodes that
        are gone, and take it back of those on nodes that are there. `names`: what the nodes are
        called; None: all."""
        called = sorted(names - NO_NAMES) if names is not None else None
        if called is None:
            with self._database.transaction(write=False) as connection:
                called = self._all_called(connection, backend)
        for start in range(0, len(called), MAX_NAMES):
            some = called[start : start + MAX_NAMES]
            # One after the other: each locks its tasks in the order of their keys.
            for step in (_fail_some, _restore_some):
                while True:
                    with self._database.transaction() as connection:
                        states = self._states(connection, backend, set(some), hold=True)
                        left = step(connection, backend, states, now)
                    if not left:
                        break
                    yield
            yield

    def _all_called(self, connection: Connection, backend: str) -> list[str]:
        """What tasks of the backend call nodes that are gone, or that were."""
        columns, of_tasks = nodes.c, tasks.c
        gone = select(columns.node, columns.hostname).where(columns.backend == backend, GONE)
        called = {name for names in connection.execute(gone) for name in names}
        found: set[str] = set()
        if called:
            live = select(of_tasks.node).where(of_tasks.backend == backend, UNFINISHED).distinct()
            found = {node for (node,) in connection.execute(live)} & called
        lost = select(of_tasks.node).where(of_tasks.backend == backend, CONCLUDED).distinct()
        return sorted(found | {node for (node,) in connection.execute(lost)})

    def _states(
        self, connection: Connection, backend: str, called: Set[str], *, hold: bool = False
    ) -> dict[str, bool]:
        """Of the names those of nodes that are known, and whether these are gone; `hold`: it stays
        so until the transaction ends."""
        columns, some = nodes.c, sorted(called - NO_NAMES)
        states: dict[str, bool] = {}
        for start in range(0, len(some), MAX_NAMES):
            part = some[start : start + MAX_NAMES]
            query = select(columns.node, columns.hostname, GONE).where(
                columns.backend == backend,
                or_(columns.node.in_(part), columns.hostname.in_(part)),
            )
            if hold and self._database.has_many_writers:
                # In the order in which batches lock them.
                query = query.order_by(columns.node.collate("C")).with_for_update(read=True)
            for node, hostname, gone in connection.execute(query):
                for name in {node, hostname} & called:
                    states[name] = bool(gone) and states.get(name, True)
        return states


class LateStarts:
    """Fails what did not start within so many seconds, 0: for ever; for use in the database's
    thread. Any number of workers may do so, as often as they like."""

    def __init__(self, database: Database, timeout: float, clock: Callable[[], float]) -> None:
        self._database = database
        self._timeout = timeout
        self._clock = clock

    def fail(self) -> None:
        """Fail at most `STEP_ROWS` tasks: what is left waits for the next time.

        Raises:
            StoreUnavailableError: only a part was done.
        """
        if self._timeout == 0:
            return
        now = moment_at(self._clock()) or EPOCH
        with self._database.transaction(write=False) as connection:
            judged = self._judged(connection)
            late = list(self._late(connection, judged))
        message = f"Pod did not start within {self._timeout / 60:g} minutes"
        for backend, rows in groupby(sorted(late), itemgetter(0)):
            before, seen_at = judged[backend]
            told = START_TIMEOUT, START_TIMEOUT_CODE, message
            change = _concluding(*told, now=now, since=seen_at)
            still = tasks.c.starting_since < before
            keys = [key_values(tasks, row) for row in rows]
            with self._database.transaction() as connection:
                failed = connection.execute(change.where(having_key(tasks), still), keys).rowcount
            logger.info("%s of %s did not start in time", counted(failed, "task"), backend)

    def _judged(self, connection: Connection) -> dict[str, tuple[str, str]]:
        """By backend: before when a pod that still waits must have begun to, and when that was
        known. Not of one whose listener has just begun and not told of all its pods yet."""
        columns = backends.c
        told_all = (
            select(snapshots.c.epoch)
            .where(snapshots.c.backend == columns.name, snapshots.c.kind == KIND)
            .scalar_subquery()
        )
        query = select(columns.name, func.coalesce(columns.pods_current_at, columns.last_heartbeat))
        found = connection.execute(
            query.where(
                or_(columns.pods_current_epoch.is_(None), columns.pods_current_epoch <= told_all)
            )
        )
        judged = {}
        for backend, current_at in found:
            if current_at is not None:
                seen = current_at.timestamp()
                before, seen_at = moment_at(seen - self._timeout), moment_at(seen)
                if before is not None and seen_at is not None:
                    judged[backend] = before, seen_at
        return judged

    def _late(self, connection: Connection, judged: Mapping[str, tuple[str, str]]) -> Iterator[Row]:
        """The keys of those that are late."""
        left = STEP_ROWS
        waiting = select(tasks.c.backend).where(STARTING).distinct()
        for (backend,) in connection.execute(waiting).all():
            if backend in judged and left > 0:
                before, _ = judged[backend]
                query = select(*tasks.primary_key).where(
                    tasks.c.backend == backend, tasks.c.starting_since < before
                )
                for row in connection.execute(query.order_by(*tasks.primary_key).limit(left)):
                    left -= 1
                    yield tuple(row)


def _fail_some(connection: Connection, backend: str, states: Mapping[str, bool], now: str) -> bool:
    """Fail tasks on nodes that are gone; whether any may be left."""
    gone = [name for name, is_gone in states.items() if is_gone]
    change = _concluding(*NODE_LOST, now=now, since=now)
    return _change_some(connection, change, backend, gone, UNFINISHED)


def _restore_some(
    connection: Connection, backend: str, states: Mapping[str, bool], now: str
) -> bool:
    """Take it back of tasks on nodes that are there; whether any may be left."""
    there = [name for name, is_gone in states.items() if not is_gone]
    change = _RESTORING.values(status_since=now, updated_at=now)
    lost = and_(CONCLUDED, tasks.c.status == NODE_LOST[0])
    return _change_some(connection, change, backend, there, lost)


def _change_some(
    connection: Connection,
    change: Update,
    backend: str,
    on_nodes: Sequence[str],
    which: ColumnElement[bool],
) -> bool:
    """Change a bounded number of the backend's tasks on these nodes; whether any may be left.
    `which` they are, and on which node, has to hold still when a task's turn comes."""
    if not on_nodes:
        return False
    key, columns = list(tasks.primary_key), tasks.c
    query = select(*key, columns.node).where(
        columns.backend == backend, columns.node.in_(on_nodes), which
    )
    rows = connection.execute(query.order_by(*key).limit(STEP_ROWS)).all()
    if rows:
        # In the order in which batches lock them, whatever the database's is.
        found = sorted(tuple(row) for row in rows)
        changes = [{**key_values(tasks, row[:-1]), "its_node": row[-1]} for row in found]
        connection.execute(change.where(having_key(tasks), _IS_ON_NODE, which), changes)
    return len(rows) == STEP_ROWS


def _concluding(status: str, exit_code: int, message: str, *, now: str, since: str) -> Update:
    """The statement that gives tasks this end; without a condition."""
    columns = tasks.c
    return update(tasks).values(
        status=status,
        exit_code=exit_code,
        message=message,
        concluded=True,
        reported_status=columns.status,
        reported_exit_code=columns.exit_code,
        reported_message=columns.message,
        status_since=since,
        updated_at=now,
    )


_RESTORING = update(tasks).values(
    status=func.coalesce(tasks.c.reported_status, literal("UNKNOWN")),
    exit_code=tasks.c.reported_exit_code,
    message=func.coalesce(tasks.c.reported_message, literal("")),
    concluded=False,
    reported_status=null(),
    reported_exit_code=null(),
    reported_message=null(),
)
"""The statement that takes a conclusion back; without a condition."""
