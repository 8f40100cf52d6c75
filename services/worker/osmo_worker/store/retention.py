"""What is removed when its time is over: tasks and nodes that are gone, old events, and all of a
backend that nobody hears of any more, or of which somebody says so.

A row that is marked as deleted keeps a late report from bringing its resource back, so the time has
to be longer than a report can be on its way (`osmo_worker.config.WorkerConfig` sees to it): reports
of one key come in order, so what comes after the one that marked the row is an earlier one that the
queue gives again, for a bounded time. And whatever is of an older epoch than the newest snapshot is
marked as deleted when it is written, however late.

Rows go by few at a time, each step in a transaction and a call of the database's thread of its own:
no batch waits for more than one of them.
"""

import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    BindParameter,
    Column,
    ColumnElement,
    Delete,
    Dialect,
    FromClause,
    Select,
    and_,
    any_,
    bindparam,
    delete,
    exists,
    func,
    literal_column,
    select,
    tuple_,
)

from osmo_worker.config import StoreConfig
from osmo_worker.store.database import Database
from osmo_worker.store.schema import (
    backends,
    inventories,
    inventory_parts,
    node_usage,
    nodes,
    pod_events,
    snapshots,
    tasks,
)
from osmo_worker.store.values import moment_at

logger = logging.getLogger(__name__)

DAY = 86_400

STEP_ROWS = 100
"""Rows that one step removes: 2 to 4 ms of a million rows, so that one that meets a slow disk takes
no more than 50 ms."""
MAX_STEPS = 100
"""Steps of one call for each rule: 10 000 rows, which with the default interval is 330 a second."""

HEARING_TIME = 3600.0
"""Seconds for which a worker has been there before it takes anybody for silent: what was said while
there was none waits in the queue."""

Values = Mapping[str, str]
"""Of the parameters of a statement."""

_BEFORE: BindParameter[Any] = bindparam("before")
_BACKEND: BindParameter[Any] = bindparam("backend")


_STILL_SILENT = exists().where(backends.c.name == _BACKEND, backends.c.last_seen < _BEFORE)

_OLD_USAGE = node_usage.c.updated_at < _BEFORE
_OF_THE_NODE = and_(
    *(node_usage.c[column.name] == column for column in (nodes.c.backend, nodes.c.node))
)

_SILENT = (
    select(backends.c.name)
    .where(backends.c.last_seen < _BEFORE)
    .order_by(backends.c.name)
    .limit(MAX_STEPS)
)

_NOTES = (
    *(
        delete(table).where(
            table.c.backend == _BACKEND, table.c.applied_at < _BEFORE, _STILL_SILENT
        )
        for table in (snapshots, inventories, inventory_parts)
    ),
    delete(backends).where(backends.c.name == _BACKEND, backends.c.last_seen < _BEFORE),
)
"""What is known of a backend as a whole, itself last: as long as it is there, what else there is of
it is found."""

_OF_BACKEND = {"events": pod_events, "tasks": tasks, "usage": node_usage, "nodes": nodes}
"""The tables of what a backend has, by what their rows are called."""


class Purged(NamedTuple):
    """What a step of `Retention.purge` removed."""

    rows: str
    """What they are: events, tasks, usage, nodes, backends."""
    removed: int


class _Rule(NamedTuple):
    """Rows that are kept for a time."""

    rows: str
    """What they are, as the log says it."""
    seconds: float
    """0: for ever."""
    due: Select[Any]
    """Finds one of them whose time is over."""
    step: tuple[Delete, ...]
    """Removes some, the last statement up to `STEP_ROWS`; less, when no more are due."""


class Retention:
    """Removes rows whose time is over; any number of workers may do so in one database.

    Args:
        database: has the rows.
        config: says how long they are kept.
        clock: gives seconds since the Unix epoch.
    """

    def __init__(self, database: Database, config: StoreConfig, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock
        self._begun = clock()
        self._silence = config.backend_retention
        dialect = database.dialect

        def rule(
            rows: str,
            seconds: float,
            since: Column[Any],
            *where: ColumnElement[bool],
            before: Sequence[Delete] = (),
        ) -> _Rule:
            over = since < _BEFORE
            due = select(since).where(over).limit(1)
            return _Rule(rows, seconds, due, (*before, _some(dialect, since.table, over, *where)))

        self._rules = (
            rule("events", config.event_retention, pod_events.c.reported_at),
            rule("tasks", config.task_retention, tasks.c.deleted_at),
            rule(
                "nodes",
                config.node_retention,
                nodes.c.deleted_at,
                # Those that another worker is about to remove may have been the ones before.
                ~exists().where(_OLD_USAGE, _OF_THE_NODE),
                before=(_usage_of_gone_nodes(),),
            ),
            rule("rows of usage", config.node_retention, node_usage.c.deleted_at),
        )
        self._of_backend = {
            rows: (_some(dialect, table, table.c.backend == _BACKEND, _STILL_SILENT),)
            for rows, table in _OF_BACKEND.items()
        }

    async def enforce(self) -> None:
        """Remove what is due, of each sort at most `MAX_STEPS` times `STEP_ROWS`.

        Raises:
            StoreUnavailableError: only a part was done.
        """
        for rule in self._rules:
            values = self._before(rule.seconds)
            if values is None:
                continue
            # Where nothing is due, nobody should wait for a lock.
            if await self._database.call(self._find, rule.due, values):
                removed, _ = await self._repeat(rule.step, MAX_STEPS, values)
                days = rule.seconds / DAY
                logger.info("removed %d %s after %g days", removed, rule.rows, days)
        over = self._before(self._silence)
        if over is not None and self._clock() - self._begun >= HEARING_TIME:
            await self._forget_silent(over)

    async def purge(self, backend: str, before: str) -> AsyncGenerator[Purged, None]:
        """Remove all of a backend that was not heard of since the moment `before`, itself last; a
        step at a time, and what each removed. Where it is heard of meanwhile, no more is removed.

        Raises:
            StoreUnavailableError: only a part was done.
        """
        values = {"before": before, "backend": backend}
        for rows, step in self._of_backend.items():
            removed = STEP_ROWS
            while removed == STEP_ROWS:
                removed = await self._database.call(self._remove, step, values)
                yield Purged(rows, removed)
        yield Purged("backends", await self._database.call(self._remove, _NOTES, values))

    async def _forget_silent(self, values: Values) -> None:
        left = MAX_STEPS
        for name in await self._database.call(self._find, _SILENT, values):
            of_backend = {**values, "backend": name}
            for step in self._of_backend.values():
                _, steps = await self._repeat(step, left, of_backend)
                left -= steps
                if left == 0:
                    return
            if await self._database.call(self._remove, _NOTES, of_backend):
                days = self._silence / DAY
                logger.warning("removed all of %s, silent for %g days", name, days)

    async def _repeat(
        self, step: tuple[Delete, ...], limit: int, values: Values
    ) -> tuple[int, int]:
        """Do a step up to `limit` times; how many rows that removed, and how many steps did."""
        removed = steps = 0
        while steps < limit:
            last = await self._database.call(self._remove, step, values)
            removed += last
            steps += last > 0
            if last < STEP_ROWS:
                break
        return removed, steps

    def _remove(self, step: tuple[Delete, ...], values: Values) -> int:
        with self._database.transaction() as connection:
            *_, last = [connection.execute(each, values).rowcount for each in step]
        self._database.fold()
        return last

    def _find(self, query: Select[Any], values: Values) -> list[Any]:
        with self._database.transaction(write=False) as connection:
            return list(connection.scalars(query, values))

    def _before(self, seconds: float) -> Values | None:
        """What is over that lasts so many seconds; None where nothing is."""
        moment = moment_at(self._clock() - seconds) if seconds else None
        return None if moment is None else {"before": moment}


def _some(dialect: Dialect, table: FromClause, *where: ColumnElement[bool]) -> Delete:
    """Remove up to `STEP_ROWS` of the table's rows, the first that are found."""
    on_postgres = dialect.name == "postgresql"
    place: ColumnElement[Any] = literal_column("ctid" if on_postgres else "rowid")
    # A batch locks its rows in the order of their keys; who never waits for it cannot stop it.
    found = select(place).select_from(table).where(*where).limit(STEP_ROWS).correlate(None)
    if on_postgres:
        locked = found.with_for_update(skip_locked=True).scalar_subquery()
        return delete(table).where(place == any_(func.array(locked)))  # type: ignore[arg-type]
    return delete(table).where(place.in_(found))  # type: ignore[arg-type]


def _usage_of_gone_nodes() -> Delete:
    """Remove the usage of those nodes that are removed next."""
    gone = select(nodes.c.backend, nodes.c.node).where(nodes.c.deleted_at < _BEFORE)
    its_node = tuple_(node_usage.c.backend, node_usage.c.node)
    return delete(node_usage).where(_OLD_USAGE, its_node.in_(gone.limit(STEP_ROWS)))
