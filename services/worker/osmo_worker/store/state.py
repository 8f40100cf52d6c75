"""The state store: applies reports in batches, and answers what users ask."""

import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

import msgspec
from sqlalchemy import func, select

from osmo_transport import Delivery, Outcome
from osmo_worker.config import StoreConfig
from osmo_worker.metrics import WorkerMetrics
from osmo_worker.store.apply import Applier
from osmo_worker.store.database import Database
from osmo_worker.store.schema import tasks
from osmo_worker.store.tasks import Task, Totals


class StateStore:
    """A `BatchHandler` that keeps the newest state of every resource. Use as `async with`.

    - A batch's reports are applied in one transaction, and a snapshot's end after the reports that
      were read before it.
    - The same reports give the same rows in whatever order and however often they come; see
      `osmo_worker.store.resources`.
    - What can never be applied (an unknown kind, an unreadable payload, a value that the database
      cannot hold) is rejected for itself alone.
    - While the database is away every call raises `StoreUnavailableError`, and when it is back the
      next call succeeds. Tables that are missing are created.
    """

    def __init__(self, database: Database, applier: Applier, metrics: WorkerMetrics) -> None:
        self._database = database
        self._applier = applier
        self._metrics = metrics

    @property
    def url(self) -> str:
        """Where the rows are, without a password."""
        return self._database.name

    async def check(self) -> None:
        """Return when the database answers and its tables are there.

        Raises:
            StoreUnavailableError: it does not answer.
            StoreRefusedError: it belongs to another version, or to something else.
        """
        await self._database.call(self._check)

    async def handle_batch(self, deliveries: Sequence[Delivery]) -> Sequence[Outcome]:
        """Apply reports.

        Raises:
            StoreUnavailableError: nothing or only a part was applied; call again with the same.
            StoreRefusedError: the database belongs to another version, or to something else.
        """
        applied = await self._database.call(self._applier.apply, deliveries)
        self._metrics.stale += applied.stale
        return applied.outcomes

    async def tasks(self, backend: str | None = None, *, live_only: bool = False) -> list[Task]:
        """The rows of `tasks` in the order of their key, of one backend or of all; `live_only`
        leaves out the pods that are gone. Takes memory for all of them at once.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        return await self._database.call(self._read_tasks, backend, live_only)

    async def counts(self, backend: str | None = None) -> dict[str, int]:
        """How many live tasks are in each status, of one backend or of all. Reads the whole table:
        tens of milliseconds for 100 000 rows, during which no batch is applied.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        return await self._database.call(self._read_counts, backend)

    async def totals(self, backend: str | None = None) -> Totals:
        """The figures of all tasks, of one backend or of all. Reads the whole table as `counts`
        does, and takes no more memory the more rows there are.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        return await self._database.call(self._read_totals, backend)

    async def aclose(self) -> None:
        """Close the database. Idempotent."""
        await self._database.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def _check(self) -> None:
        with self._database.transaction(write=False):
            pass

    def _read_tasks(self, backend: str | None, live_only: bool) -> list[Task]:
        names = Task.__struct_fields__
        query = select(*(tasks.c[name] for name in names)).order_by(*tasks.primary_key)
        if backend is not None:
            query = query.where(tasks.c.backend == backend)
        if live_only:
            query = query.where(tasks.c.deleted_at.is_(None))
        with self._database.transaction(write=False) as connection:
            rows = connection.execute(query).all()
        return [msgspec.convert(dict(zip(names, row, strict=True)), Task) for row in rows]

    def _read_counts(self, backend: str | None) -> dict[str, int]:
        query = (
            select(tasks.c.status, func.count())
            .where(tasks.c.deleted_at.is_(None))
            .group_by(tasks.c.status)
            .order_by(tasks.c.status)
        )
        if backend is not None:
            query = query.where(tasks.c.backend == backend)
        with self._database.transaction(write=False) as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def _read_totals(self, backend: str | None) -> Totals:
        columns, workflows = tasks.c, func.count(tasks.c.workflow_uuid.distinct())
        by_status = select(columns.status, func.count(), func.count(columns.deleted_at))
        by_workflow = select(workflows, workflows.filter(~columns.terminal))
        if backend is not None:
            by_status = by_status.where(columns.backend == backend)
            by_workflow = by_workflow.where(columns.backend == backend)
        with self._database.transaction(write=False) as connection:
            rows = connection.execute(by_status.group_by(columns.status)).all()
            known, running = connection.execute(by_workflow).one()
        return Totals(
            statuses={status: count for status, count, _ in rows},
            deleted=sum(deleted for *_, deleted in rows),
            workflows=known,
            running=running,
        )


def open_store(
    url: str,
    config: StoreConfig | None = None,
    *,
    metrics: WorkerMetrics | None = None,
    clock: Callable[[], float] = time.time,
) -> StateStore:
    """The store at `url`: `sqlite:///PATH`, `postgresql://…`, or `memory://`, which lives as long
    as the object. The database is not asked before the first call. `metrics` counts what was
    stale; `clock` gives seconds since the Unix epoch.

    Raises:
        UnknownSchemeError: no store serves the URL's scheme.
        UsageError: the URL cannot be read.
        MissingExtraError: the driver is not installed; the text holds the command that does.
    """
    config = config or StoreConfig()
    database = Database(url, config)
    return StateStore(database, Applier(database, config, clock), metrics or WorkerMetrics())
