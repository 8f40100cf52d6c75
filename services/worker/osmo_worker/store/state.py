"""The state store: applies reports in batches, and answers what users ask."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from types import MappingProxyType, TracebackType
from typing import Any, Self, TypeVar

from sqlalchemy import ColumnElement, Connection, Table

from osmo_transport import Delivery, Outcome
from osmo_worker.config import StoreConfig
from osmo_worker.metrics import WorkerMetrics
from osmo_worker.store import queries
from osmo_worker.store import schema as tables
from osmo_worker.store.apply import Applier
from osmo_worker.store.conclusions import LateStarts
from osmo_worker.store.database import Database
from osmo_worker.store.healing import heal
from osmo_worker.store.kinds.backends import Backend
from osmo_worker.store.kinds.events import PodEvent
from osmo_worker.store.kinds.nodes import Node
from osmo_worker.store.kinds.tasks import Task, Totals
from osmo_worker.store.kinds.usage import NodeUsage
from osmo_worker.store.queries import Key, Page
from osmo_worker.store.retention import Purged, Retention
from osmo_worker.store.tally import Tally
from osmo_worker.store.values import LAST_MOMENT, moment_at

T = TypeVar("T")
Stored = TypeVar("Stored", Task, Node, NodeUsage)

NOT_NARROWED: Mapping[str, str | None] = MappingProxyType({})

EVENTS_READ = 1000
"""Events of one pod that are read at once, where nothing else is said."""
PAGE_ROWS = 100
"""Rows of a page, where nothing else is said."""


class StateStore:
    """A `BatchHandler` that keeps the newest state of every resource. Use as `async with`.

    - A batch's reports are applied in one transaction, and a snapshot's end after the reports that
      were read before it, in steps that each take some ten milliseconds.
    - The same reports give the same rows in whatever order and however often they come; see
      `osmo_worker.store.merge`.
    - What can never be applied (an unknown kind, an unreadable payload, a value that the database
      cannot hold) is rejected for itself alone.
    - While the database is away every call raises `StoreUnavailableError`, and when it is back the
      next call succeeds. Tables that are missing are created.
    """

    def __init__(
        self,
        database: Database,
        config: StoreConfig,
        metrics: WorkerMetrics,
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self._applier = Applier(database, config, metrics, clock)
        self._late_starts = LateStarts(database, config.start_timeout, clock)
        self._retention = Retention(database, config, clock)
        self._metrics = metrics
        self._clock = clock

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
        now = asyncio.get_running_loop().time
        began = now()
        applied = await self._database.call_steps(self._applier.apply(deliveries))
        self._metrics.write_time.record(now() - began)
        self._metrics.stale += applied.stale
        return applied.outcomes

    async def tasks(
        self,
        backend: str | None = None,
        *,
        workflow: str | None = None,
        pod: str | None = None,
        live_only: bool = False,
    ) -> list[Task]:
        """The rows of `tasks` in the order of their key: of one backend, workflow or pod
        (`namespace/name`), or of all; `live_only` leaves out the pods that are gone. Takes memory
        for all of them at once.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        narrowed = {"workflow_uuid": workflow, "pod": pod}
        return await self._read_rows(tables.tasks, Task, backend, live_only, narrowed)

    async def nodes(self, backend: str | None = None, *, live_only: bool = False) -> list[Node]:
        """The rows of `nodes`, as `tasks` does.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        return await self._read_rows(tables.nodes, Node, backend, live_only)

    async def node_usage(
        self, backend: str | None = None, *, live_only: bool = False
    ) -> list[NodeUsage]:
        """The rows of `node_usage`, as `tasks` does.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        return await self._read_rows(tables.node_usage, NodeUsage, backend, live_only)

    async def tasks_page(
        self,
        backend: str,
        *,
        workflow: str | None = None,
        node: str | None = None,
        live_only: bool = False,
        after: Key = (),
        limit: int = PAGE_ROWS,
    ) -> Page[Task]:
        """Some tasks of a backend in the order of their key: all of them, or those of a workflow,
        or those that are or were on a node; behind the `after` of the page before, which was asked
        for with the same. Takes some ten milliseconds, whatever the backend has: the page may have
        fewer rows than `limit`, or none, and others may still follow.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        columns = tables.tasks.c
        of = (backend,) if workflow is None else (backend, workflow)
        wanted: list[ColumnElement[bool]] = [columns.deleted_at.is_(None)] if live_only else []
        if node is not None:
            wanted.append(columns.node == node)
        return await self._read_page(Task, tables.tasks, of, wanted, after, limit)

    async def nodes_page(
        self, backend: str, *, live_only: bool = False, after: Key = (), limit: int = PAGE_ROWS
    ) -> Page[Node]:
        """Some nodes of a backend, as `tasks_page` does.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        wanted = [tables.nodes.c.deleted_at.is_(None)] if live_only else []
        return await self._read_page(Node, tables.nodes, (backend,), wanted, after, limit)

    async def node(self, backend: str, name: str) -> tuple[Node | None, NodeUsage | None]:
        """A node by its name in the cluster, and what its pods ask for; None: not reported.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        return await self._read(queries.read_node, backend, name)

    async def backends_of(self, workflow: str, *, limit: int = PAGE_ROWS) -> list[str]:
        """The names of backends that have tasks of a workflow, the first `limit` of them.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        return await self._read(queries.find_workflow, workflow, limit)

    def tally_tasks(self) -> Tally:
        """Counts live tasks by backend and status, some of them at a time."""
        return Tally(self._read, tables.tasks.c.status)

    def tally_nodes(self) -> Tally:
        """Counts nodes by backend and whether they are available, some of them at a time."""
        return Tally(self._read, tables.nodes.c.available)

    async def pod_events(
        self, pod: str, backend: str | None = None, *, limit: int = EVENTS_READ
    ) -> list[PodEvent]:
        """The newest events of the pod `namespace/name`, the newest first, at most `limit`; in one
        backend or in all.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        return await self._read(queries.read_pod_events, pod, backend, limit)

    async def backends(
        self, backend: str | None = None, *, limit: int | None = None
    ) -> list[Backend]:
        """The rows of `backends` in the order of their names: all, the one of this name if there is
        one, or the first `limit`.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        return await self._read(queries.read_backends, backend, limit)

    async def silences(self) -> dict[str, float]:
        """By backend, seconds since the last heartbeat that was applied, by the listener's clock
        and ours; of the `queries.MOST_SILENCES` that are the shortest.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        heartbeats = await self._read(queries.read_heartbeats)
        now = self._clock()
        return {name: now - at.timestamp() for name, at in heartbeats.items()}

    async def epochs(self) -> dict[str, int]:
        """By backend, the highest epoch of a snapshot or a heartbeat that was applied.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        return await self._read(queries.read_epochs)

    async def counts(self, backend: str | None = None) -> dict[str, int]:
        """How many live tasks are in each status, of one backend or of all. Reads the whole table:
        tens of milliseconds for 100 000 rows, during which no batch is applied.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        return await self._read(queries.read_counts, backend)

    async def totals(self, backend: str | None = None) -> Totals:
        """The figures of all tasks, of one backend or of all. Reads the whole table as `counts`
        does, and takes no more memory the more rows there are.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        return await self._read(queries.read_totals, backend)

    async def sweep(self) -> None:
        """Fail what did not start within `start_timeout`, and remove what is older than it is
        kept: a bounded number of each. To be called from time to time, by any of the workers of a
        database or by all.

        Raises:
            StoreUnavailableError: only a part was done.
            StoreRefusedError: the database belongs to another version, or to something else.
        """
        await self._database.call(self._late_starts.fail)
        await self._retention.enforce()

    async def heal(self, backend: str) -> int:
        """Take back what has an epoch of the future, so that the backend's next reports and its
        next snapshot count whatever was reported before; returns how many rows that were. Epochs
        are milliseconds since the Unix epoch: an honest one is of the past.

        Raises:
            StoreUnavailableError: nothing or only a part was done; call again.
            StoreRefusedError: the database belongs to another version, or to something else.
        """
        now = int(self._clock() * 1000)
        return await self._database.call_steps(heal(self._database, backend, now))

    def purge(self, backend: str, *, force: bool = False) -> AsyncGenerator[Purged, None]:
        """Remove all rows of a backend, in steps of some milliseconds; gives what each step
        removed, and at last whether the backend itself was (`backends`, 1). It is not, and more of
        its rows may be left, where something of it is applied meanwhile, unless with `force`. What
        is cut short can be done again.

        To be used of a backend that reports nothing any more: a report that comes late makes a row
        anew, and nothing is left that would say that its resource is gone.

        Raises:
            StoreUnavailableError: only a part was done.
            StoreRefusedError: the database belongs to another version, or to something else.
        """
        now = None if force else moment_at(self._clock())
        return self._retention.purge(backend, now or LAST_MOMENT)

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

    async def _read_rows(
        self,
        table: Table,
        row: type[Stored],
        backend: str | None,
        live_only: bool,
        narrowed: Mapping[str, str | None] = NOT_NARROWED,
    ) -> list[Stored]:
        where = {"backend": backend, **narrowed}
        return await self._read(queries.read_resources, table, row, where, live_only)

    async def _read_page(
        self,
        row: type[Stored],
        table: Table,
        of: Sequence[str],
        wanted: Sequence[ColumnElement[bool]],
        after: Key,
        limit: int,
    ) -> Page[Stored]:
        def read(connection: Connection) -> Page[Stored]:
            return queries.read_page(connection, row, table, of, wanted, after=after, limit=limit)

        return await self._read(read)

    async def _read(self, read: Callable[..., T], *args: Any) -> T:
        def work() -> T:
            with self._database.transaction(write=False) as connection:
                return read(connection, *args)

        return await self._database.call(work)


def open_store(
    url: str,
    config: StoreConfig | None = None,
    *,
    metrics: WorkerMetrics | None = None,
    clock: Callable[[], float] = time.time,
) -> StateStore:
    """The store at `url`: `sqlite:///PATH`, `postgresql://…`, or `memory://`, which lives as long
    as the object. The database is not asked before the first call. `metrics` counts what it
    does; `clock` gives seconds since the Unix epoch.

    Raises:
        UnknownSchemeError: no store serves the URL's scheme.
        UsageError: the URL cannot be read.
        MissingExtraError: the driver is not installed; the text holds the command that does.
    """
    config = config or StoreConfig()
    return StateStore(Database(url, config), config, metrics or WorkerMetrics(), clock)
