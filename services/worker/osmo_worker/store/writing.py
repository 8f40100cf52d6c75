"""Transactions that write reports, and what they know when they begin."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import NamedTuple

from sqlalchemy import Connection, literal, select, union_all

from osmo_transport import Version
from osmo_worker.store.backends import Seen, Told
from osmo_worker.store.database import Database
from osmo_worker.store.inventories import INVENTORY, Inventories
from osmo_worker.store.joining import Known, compile_text
from osmo_worker.store.schema import inventories, snapshots
from osmo_worker.store.values import written


class Writing(NamedTuple):
    """A transaction that has begun."""

    connection: Connection
    known: Known


class Writer:
    """Begins transactions; for use in the database's thread.

    A transaction that writes reports holds a shared lock of each of their backends, and one that
    draws conclusions from them an exclusive lock. So no worker writes a report that another one
    would have to look at, and neither sees the other's.
    """

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self.database = database
        self.clock = clock
        self.inventories = Inventories(database.dialect)
        self._seen = Seen(database.dialect)
        notes = union_all(
            select(
                snapshots.c.backend,
                snapshots.c.kind,
                snapshots.c.epoch,
                snapshots.c.resource_version,
            ),
            select(
                inventories.c.backend,
                literal(INVENTORY, literal_execute=True),
                inventories.c.epoch,
                inventories.c.resource_version,
            ),
        )
        self._notes = compile_text(notes, database.dialect)

    def now(self) -> str:
        """The moment of writing."""
        return written(datetime.fromtimestamp(self.clock(), UTC))

    @contextmanager
    def reports(
        self,
        backends: Iterable[str],
        now: str,
        *,
        oldest: Mapping[str, Version] | None = None,
        told: Told | None = None,
    ) -> Iterator[Writing]:
        """Write reports of these backends.

        Args:
            backends: those that are heard of.
            now: the moment of writing.
            oldest: by backend, the lowest version of its reports that an inventory may concern.
            told: what their heartbeats tell.
        """
        names = sorted(backends)
        with self.database.transaction() as connection:
            for name in names:
                self.database.lock(connection, name, shared=True)
            newest = self.newest(connection)
            newer = {
                backend: self.inventories.read(connection, backend, version)
                for backend, lowest in (oldest or {}).items()
                if (version := newest.get((backend, INVENTORY))) is not None and version > lowest
            }
            yield Writing(connection, Known(now, newest, newer))
            self._seen.write(connection, names, now, told)

    @contextmanager
    def conclusion(self, backend: str, *, heard: bool = True) -> Iterator[tuple[Connection, str]]:
        """Write what follows from reports of this backend; with the moment of writing. `heard`: it
        was heard of."""
        now = self.now()
        with self.database.transaction() as connection:
            self.database.lock(connection, backend)
            yield connection, now
            if heard:
                self._seen.write(connection, [backend], now)

    def newest(self, connection: Connection) -> dict[tuple[str, str], Version]:
        """By backend and kind: the version of the newest snapshot, or of the newest inventory."""
        # All of them: the tables have a row or two per backend.
        found = connection.exec_driver_sql(self._notes)
        return {(backend, kind): Version(*version) for backend, kind, *version in found}
