"""The databases that a worker writes into: what is in them afterwards, and how fast each takes the
same rows by itself."""

import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, closing
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from osmo_benchmarks.errors import ProgramError
from osmo_benchmarks.postgres import running_postgres
from osmo_worker.store.engines.sqlite import CACHE_KILOBYTES, CHECKPOINT_PAGES
from osmo_worker.store.merge import ROWS

if TYPE_CHECKING:
    import psycopg

T = TypeVar("T")

TABLE = "tasks"
KEY = ("backend", "workflow_uuid", "task_uuid", "retry_id")
VERSION = ("epoch", "resource_version")
BATCH = 1_000
"""Rows of a transaction: as many as a worker has read at most."""
GOES = 3
"""Tries of what does not take the same time twice."""

Rows = Sequence[tuple[Any, ...]]


class Database(ABC):
    """One that has the worker's tables once a worker has opened it."""

    url: str
    """What a worker opens."""

    @abstractmethod
    def rows(self) -> tuple[Sequence[str], Rows]:
        """The columns of `tasks` that are not computed, and every row, by version."""

    @abstractmethod
    def take(self, columns: Sequence[str], rows: Rows) -> float:
        """Empty the table and put `rows` into it again, by the fastest means that lets a newer row
        take the place of an older one; rows per second."""


class Sqlite(Database):
    """A file."""

    def __init__(self, path: Path) -> None:
        self.url = f"sqlite:///{path}"
        self._path = path

    def rows(self) -> tuple[Sequence[str], Rows]:
        """See `Database`."""
        with closing(sqlite3.connect(self._path)) as connection:
            # Computed columns are not among them.
            columns = [each[1] for each in connection.execute(f"PRAGMA table_info({TABLE})")]
            return columns, connection.execute(_select(columns)).fetchall()

    def take(self, columns: Sequence[str], rows: Rows) -> float:
        """See `Database`. As a worker has it: with its cache and its write-ahead log, and as many
        rows in a statement, which takes a quarter less than one for each."""
        values = f"({', '.join('?' * len(columns))})"
        insert = f"INSERT INTO {TABLE} ({', '.join(columns)}) VALUES {values}"
        statement = f"{insert}{f', {values}' * (ROWS - 1)} {_newer(columns)}"
        single = f"{insert} {_newer(columns)}"
        with closing(sqlite3.connect(self._path, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
            connection.execute(f"PRAGMA cache_size = -{CACHE_KILOBYTES}")
            connection.execute(f"DELETE FROM {TABLE}")
            began = time.perf_counter()
            for batch in _batches(rows):
                connection.execute("BEGIN IMMEDIATE")
                whole = len(batch) - len(batch) % ROWS
                for start in range(0, whole, ROWS):
                    taken = chain.from_iterable(batch[start : start + ROWS])
                    connection.execute(statement, tuple(taken))
                connection.executemany(single, batch[whole:])
                connection.execute("COMMIT")
            return len(rows) / (time.perf_counter() - began)


class Postgres(Database):
    """One of a server's."""

    def __init__(self, url: str) -> None:
        self.url = url

    def another(self, name: str) -> "Postgres":
        """An empty one of that name at the same server."""
        with self._connect() as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
        return Postgres(f"{self.url.rpartition('/')[0]}/{name}")

    def rows(self) -> tuple[Sequence[str], Rows]:
        """See `Database`. Values are as `COPY` has them; texts of reports need no escapes."""
        with self._connect() as connection, connection.cursor() as cursor:
            found = cursor.execute(
                "SELECT column_name FROM information_schema.columns WHERE table_name = %s"
                " AND is_generated = 'NEVER' ORDER BY ordinal_position",
                (TABLE,),
            )
            columns = [name for (name,) in found]
            with cursor.copy(f"COPY ({_select(columns)}) TO STDOUT".encode()) as copy:
                lines = b"".join(bytes(each) for each in copy).decode().splitlines()
        return columns, [
            tuple(None if cell == r"\N" else cell for cell in line.split("\t")) for line in lines
        ]

    def take(self, columns: Sequence[str], rows: Rows) -> float:
        """See `Database`: copied into a table of the session, and from there."""
        names = ", ".join(columns)
        join = f"INSERT INTO {TABLE} ({names}) SELECT {names} FROM given {_newer(columns)}".encode()
        copy_in = f"COPY given ({names}) FROM STDIN".encode()
        copied = [_lines(batch) for batch in _batches(rows)]

        def write(cursor: "psycopg.Cursor[Any]", lines: str) -> None:
            with cursor.copy(copy_in) as copy:
                copy.write(lines)
            cursor.execute(join)

        return len(rows) / self._timed(write, copied)

    def take_one_by_one(self, columns: Sequence[str], rows: Rows) -> float:
        """The same by a statement for each row, which the driver sends without waiting for the one
        before. Over the server's socket in the file system: over TCP, where both now and then have
        a full buffer before them, one looks again after 200 ms. That happens to none, one or two of
        ten transactions, which gives 52 000, 25 000 or 16 000 rows a second."""
        insert = _insert(columns)

        def write(cursor: "psycopg.Cursor[Any]", batch: Rows) -> None:
            cursor.executemany(insert, batch)

        with self._connect() as connection:
            found = connection.execute("SHOW unix_socket_directories").fetchone()
        assert found is not None
        return len(rows) / self._timed(write, list(_batches(rows)), host=found[0])

    def take_awaited(self, columns: Sequence[str], rows: Rows) -> float:
        """Likewise, but with each answer before the next statement goes, as where one report is
        handled after the other. That is one round trip a row, and how long one takes depends on
        whether both processes were given the same core, by a factor of two: the fastest of `GOES`,
        each with its share of the rows."""
        insert = _insert(columns)

        def write(cursor: "psycopg.Cursor[Any]", batch: Rows) -> None:
            for row in batch:
                cursor.execute(insert, row)

        shares = [rows[go::GOES] for go in range(GOES)]
        return max(len(each) / self._timed(write, list(_batches(each))) for each in shares)

    def _connect(self, host: str | None = None) -> "psycopg.Connection[Any]":
        import psycopg  # noqa: PLC0415 (only here, and 80 ms)

        return psycopg.connect(self.url, autocommit=True, host=host)

    def _timed(
        self,
        write: "Callable[[psycopg.Cursor[Any], T], None]",
        batches: Sequence[T],
        host: str | None = None,
    ) -> float:
        """Seconds that a transaction for each of `batches` takes, with the table empty before; over
        the host of `url`, or another one."""
        with self._connect(host) as connection:
            connection.execute(f"TRUNCATE {TABLE}".encode())
            connection.execute(
                f"CREATE TEMPORARY TABLE given (LIKE {TABLE}) ON COMMIT DELETE ROWS".encode()
            )
            began = time.perf_counter()
            for each in batches:
                with connection.transaction(), connection.cursor() as cursor:
                    write(cursor, each)
            return time.perf_counter() - began


@asynccontextmanager
async def postgres_server() -> AsyncIterator[Postgres]:
    """A PostgreSQL for all heats of an experiment.

    Raises:
        ProgramError: it does not start.
    """
    with ExitStack() as stack:
        try:
            url = stack.enter_context(running_postgres())
        except (RuntimeError, OSError) as exc:
            raise ProgramError(f"PostgreSQL does not start: {exc}") from exc
        yield Postgres(url)


def _select(columns: Sequence[str]) -> str:
    return f"SELECT {', '.join(columns)} FROM {TABLE} ORDER BY {', '.join(VERSION)}"


def _insert(columns: Sequence[str]) -> bytes:
    values = ", ".join(["%s"] * len(columns))
    insert = f"INSERT INTO {TABLE} ({', '.join(columns)}) VALUES ({values}) {_newer(columns)}"
    return insert.encode()


def _newer(columns: Sequence[str]) -> str:
    changes = ", ".join(f"{name} = excluded.{name}" for name in columns if name not in KEY)
    ours, theirs = (", ".join(f"{of}.{name}" for name in VERSION) for of in ("excluded", TABLE))
    return f"ON CONFLICT ({', '.join(KEY)}) DO UPDATE SET {changes} WHERE ({ours}) > ({theirs})"


def _batches(rows: Rows) -> Iterator[Rows]:
    left = iter(rows)
    while batch := list(islice(left, BATCH)):
        yield batch


def _lines(rows: Rows) -> str:
    return "".join("\t".join(r"\N" if v is None else v for v in row) + "\n" for row in rows)
