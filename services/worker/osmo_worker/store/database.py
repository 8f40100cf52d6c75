"""One connection in one thread: transactions whose every failure is an error of ours.

A single writer is what SQLite wants, and what keeps the event loop free: the driver blocks in its
own thread. Nothing but this package imports SQLAlchemy.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any, TypeVar

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    StaticPool,
    create_engine,
    event,
    func,
    insert,
    inspect,
    make_url,
    select,
)
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, SQLAlchemyError

from osmo_transport import MissingExtraError, UnknownSchemeError, UsageError
from osmo_worker.config import StoreConfig
from osmo_worker.errors import StoreRefusedError, StoreUnavailableError
from osmo_worker.store.schema import SCHEMA_VERSION, metadata, schema_version

T = TypeVar("T")

ROW_FAULTS = ("22", "23", "54")
"""Classes of SQLSTATE that blame the data: data exception, constraint, a limit exceeded."""

CHECKPOINT_PAGES = 8000
"""Pages of 4 kB in SQLite's write-ahead log before it is folded into the file: eight times the
default, because updates of random keys dirty the same pages again and again."""
SCHEMA_LOCK = int.from_bytes(blake2b(b"osmo schema", digest_size=8).digest(), signed=True)
"""The key of PostgreSQL's lock under which tables are made."""
LOCK_POLL = 0.01
"""Seconds between two tries for a lock that SQLite does not wait for."""

CACHE_KILOBYTES = 32_768
"""Of SQLite's pages in memory: the index of 300 000 tasks, whose keys are random. With the default,
a sixteenth of it, their inserts take a sixth longer."""

# Without an adapter the driver looks for one for each value that is a bool, at the cost of binding
# several numbers.
sqlite3.register_adapter(bool, int)

ADVICE = {
    sqlite3.SQLITE_BUSY: "another program holds its lock",
    sqlite3.SQLITE_CANTOPEN: "it must be a file in a folder that exists, and both be writable",
    sqlite3.SQLITE_FULL: "make room on its disk",
    sqlite3.SQLITE_READONLY: "make the file and its folder writable",
}
"""What to do about errors of SQLite that pass, by primary code."""


class RowRefusedError(Exception):
    """The database is fine, and a row of this transaction is what it cannot hold."""


class Database:
    """A database by URL. Nothing is opened before the first transaction, which creates the tables
    where there are none."""

    def __init__(self, url: str, config: StoreConfig) -> None:
        self._config = config
        self._engine = _engine(url, config)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="osmo-store")
        self._prepared = False
        self._closed = False
        self.dialect = self._engine.dialect
        public = self._engine.url.set(drivername=self.dialect.name)
        self.name = public.render_as_string(hide_password=True)
        """The URL without its password."""

    async def call(self, work: Callable[..., T], *args: Any) -> T:
        """Run `work(*args)` in the thread.

        Raises:
            StoreUnavailableError: it did, or did not end within `call_timeout`.
            StoreRefusedError: the database belongs to another version, or to something else.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._config.call_timeout):
                return await loop.run_in_executor(self._thread, work, *args)
        except TimeoutError as exc:
            raise StoreUnavailableError(
                f"{self.name} did not answer within {self._config.call_timeout} s"
            ) from exc

    @contextmanager
    def transaction(self, *, write: bool = True) -> Iterator[Connection]:
        """A transaction, committed on leaving; for use in the thread.

        Raises:
            RowRefusedError: the database cannot hold a row of it.
            StoreUnavailableError: it failed for another reason; nothing was written.
            StoreRefusedError: as `call`.
        """
        engine = self._engine if write else self._engine.execution_options(read_only=True)
        with self._translated():
            if not self._prepared:
                with self._engine.begin() as connection:
                    self._prepare(connection)
                self._prepared = True
            with engine.begin() as connection:
                yield connection

    @property
    def has_many_writers(self) -> bool:
        """Whether another transaction may write while one does: SQLite admits one at a time."""
        return self.dialect.name == "postgresql"

    async def aclose(self) -> None:
        """Close the connection when the work in the thread has ended. Idempotent."""
        if self._closed:
            return
        self._closed = True
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._thread, self._engine.dispose)
        finally:
            self._thread.shutdown(wait=False)

    def _prepare(self, connection: Connection) -> None:
        if self.has_many_writers:
            connection.execute(select(func.pg_advisory_xact_lock(SCHEMA_LOCK)))
        existing = set(inspect(connection).get_table_names())
        if schema_version.name in existing:
            found = connection.scalar(select(schema_version.c.version))
        elif foreign := sorted(existing & metadata.tables.keys()):
            raise StoreRefusedError(
                f"{self.name} has a table {foreign[0]!r} that is not ours: use another database"
            )
        else:
            metadata.create_all(connection)
            connection.execute(insert(schema_version).values(version=SCHEMA_VERSION))
            return
        if found != SCHEMA_VERSION:
            raise StoreRefusedError(
                f"{self.name} has schema version {found} and this worker writes {SCHEMA_VERSION}:"
                " use another database, or the release that wrote this one"
            )
        metadata.create_all(connection)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, self.dialect.loaded_dbapi.Error) as exc:
            cause = exc.orig if isinstance(exc, DBAPIError) else exc
            state = getattr(cause, "sqlstate", None) or ""
            if isinstance(exc, DataError | IntegrityError) or state.startswith(ROW_FAULTS):
                raise RowRefusedError(f"the database refuses a row: {cause}") from exc
            # Whatever it was, the tables may be gone with it.
            self._prepared = False
            code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
            if code in {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}:
                raise StoreRefusedError(
                    f"{self.name}: {_first_line(cause)}: name another file, or move this one away"
                ) from exc
            advice = f" ({ADVICE[code]})" if code in ADVICE else ""
            raise StoreUnavailableError(f"{self.name}: {_first_line(cause)}{advice}") from exc
        except OverflowError as exc:
            raise RowRefusedError(f"the database refuses a row: {exc}") from exc


def _first_line(cause: object) -> str:
    return str(cause).strip().partition("\n")[0]


def _engine(url: str, config: StoreConfig) -> Engine:
    parsed = _parse(url)
    if parsed.get_backend_name() == "sqlite":
        return _sqlite_engine(parsed, config)
    milliseconds = round(1000 * config.call_timeout)
    try:
        return create_engine(
            parsed,
            paramstyle="format",
            hide_parameters=True,
            pool_size=1,
            max_overflow=0,
            connect_args={
                "connect_timeout": max(2, round(config.busy_timeout)),
                "tcp_user_timeout": milliseconds,
                "options": f"-c statement_timeout={milliseconds}"
                f" -c lock_timeout={round(1000 * config.busy_timeout)}",
            },
        )
    except ModuleNotFoundError as exc:
        raise MissingExtraError(
            "a PostgreSQL store needs psycopg: pip install 'osmo-pipeline[postgres]'"
        ) from exc


def _write_ahead(connection: sqlite3.Connection, busy_timeout: float) -> None:
    # SQLite does not wait here for another program that is doing the same.
    deadline = time.monotonic() + busy_timeout
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").close()
            return
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(LOCK_POLL)


def _sqlite_engine(url: URL, config: StoreConfig) -> Engine:
    # `isolation_level` None leaves transactions to us: the driver would begin them too late, as
    # readers that cannot become writers while another program writes.
    connect_args = {"timeout": config.busy_timeout, "isolation_level": None}
    if url.database is None:
        # One connection for good: the database lives as long as it does.
        engine = create_engine(
            url, connect_args={**connect_args, "check_same_thread": False}, poolclass=StaticPool
        )
    else:
        engine = create_engine(
            url, hide_parameters=True, pool_size=1, max_overflow=0, connect_args=connect_args
        )

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _record: object) -> None:
        # With a write-ahead log readers never wait. NORMAL survives the crash of every process; a
        # power cut may take the last transactions, which FULL would keep at a tenth of the speed.
        _write_ahead(connection, config.busy_timeout)
        connection.execute("PRAGMA synchronous = NORMAL").close()
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}").close()
        connection.execute(f"PRAGMA cache_size = -{CACHE_KILOBYTES}").close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        read_only = connection.get_execution_options().get("read_only", False)
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine


def _parse(url: str) -> URL:
    scheme, _, _ = url.partition("://")
    if scheme == "memory":
        return URL.create("sqlite+pysqlite")
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as exc:
        # The text may hold a password, so it is not repeated.
        raise UsageError(
            "the store's URL cannot be read: it must look like sqlite:///PATH,"
            " postgresql://HOST/DATABASE with USER:PASSWORD@ before the host, or memory://"
        ) from exc
    match scheme:
        case "sqlite":
            if not parsed.database or parsed.database == ":memory:":
                raise UsageError("an SQLite URL names a file, sqlite:///PATH; or use memory://")
            return parsed.set(drivername="sqlite+pysqlite")
        case "postgresql" | "postgres":
            return parsed.set(drivername="postgresql+psycopg")
        case _:
            raise UnknownSchemeError(
                f"no store serves {scheme!r}: use sqlite:///PATH, postgresql://… or memory://"
            )
