"""SQLite: in a file, which may be removed or replaced while it is open, or in memory."""

import os
import sqlite3
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import NoneType

from sqlalchemy import URL, Connection, Engine, StaticPool, create_engine, event

from osmo_transport import UsageError
from osmo_worker.config import StoreConfig
from osmo_worker.store.engines.abc import StoreEngine

CHECKPOINT_PAGES = 8000
"""Pages of 4 kB in SQLite's write-ahead log before it is folded into the file: eight times the
default, because updates of random keys dirty the same pages again and again."""
LOCK_POLL = 0.01
"""Seconds between two tries for a lock that SQLite does not wait for."""

CACHE_KILOBYTES = 32_768
"""Of SQLite's pages in memory: the index of 300 000 tasks, whose keys are random. With the default,
a sixteenth of it, their inserts take a sixth longer."""

_NONE: dict[None, None] = {}

# Without an adapter the driver looks for one for each value that is a bool or None, at the cost of
# binding several numbers. That of None is no function of Python's, for its speed.
sqlite3.register_adapter(bool, int)
sqlite3.register_adapter(NoneType, _NONE.get)

ADVICE = {
    sqlite3.SQLITE_BUSY: "another program holds its lock",
    sqlite3.SQLITE_CANTOPEN: "it must be a file in a folder that exists, and both be writable",
    sqlite3.SQLITE_CORRUPT: "name another file, or move this one away",
    sqlite3.SQLITE_FULL: "make room on its disk",
    sqlite3.SQLITE_NOTADB: "name another file, or move this one away",
    sqlite3.SQLITE_READONLY: "make the file and its folder writable",
}
"""What to do about errors of SQLite, by primary code."""

ROW_FAULTS = (sqlite3.DataError, sqlite3.IntegrityError, OverflowError, UnicodeEncodeError)

UNFIT = frozenset({sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT})

Identity = Mapping[Path, tuple[int, int]]
"""Of the files of a database: by path, what the file system knows a file by."""


class _Sqlite(StoreEngine):
    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._connection: sqlite3.Connection | None = None
        event.listen(engine, "connect", self._opened)
        event.listen(engine, "begin", _begin)

    def begin(self, connection: Connection) -> None:
        """See `StoreEngine`. The lock of the whole database was taken already."""

    def unlimited(self, connection: Connection) -> None:
        """See `StoreEngine`. There is no limit."""

    def lock_schema(self, connection: Connection) -> None:
        """See `StoreEngine`. One transaction writes at a time."""

    def blames_row(self, cause: BaseException) -> bool:
        """See `StoreEngine`."""
        return isinstance(cause, ROW_FAULTS)

    def blames_user(self, cause: BaseException) -> bool:
        """See `StoreEngine`."""
        return _code(cause) in UNFIT

    def advice(self, cause: BaseException) -> str | None:
        """See `StoreEngine`."""
        return ADVICE.get(_code(cause))

    def cut(self) -> None:
        """See `StoreEngine`."""
        connection = self._connection
        if connection is not None:
            # The thread may have closed it by now.
            with suppress(sqlite3.ProgrammingError):
                connection.interrupt()

    def _opened(self, connection: sqlite3.Connection, _record: object) -> None:
        self._connection = connection


class MemoryEngine(_Sqlite):
    """A database that lives as long as its only connection."""

    def __init__(self) -> None:
        super().__init__(
            create_engine(
                "sqlite+pysqlite://",
                connect_args={"isolation_level": None, "check_same_thread": False},
                poolclass=StaticPool,
            )
        )

    def disconnect(self) -> None:
        """See `StoreEngine`: there is nothing that could be opened anew."""


class SqliteEngine(_Sqlite):
    """A database in a file.

    Raises:
        UsageError: the URL names no file.
    """

    def __init__(self, url: URL, config: StoreConfig) -> None:
        if not url.database or url.database == ":memory:":
            raise UsageError("an SQLite URL names a file, sqlite:///PATH; or use memory://")
        self._path = None if "uri" in url.query else Path(url.database)
        """None: a URI, which says itself whether what is not there is made."""
        self._busy_timeout = config.busy_timeout
        self._files: Identity = {}
        super().__init__(
            create_engine(
                url.set(drivername="sqlite+pysqlite"),
                hide_parameters=True,
                pool_size=1,
                max_overflow=0,
                # `isolation_level` None leaves transactions to us: the driver would begin them too
                # late, as readers that cannot become writers while another program writes.
                connect_args={"timeout": config.busy_timeout, "isolation_level": None},
            )
        )

    def is_absent(self) -> bool:
        """See `StoreEngine`. In a folder that is absent too, a connection makes nothing."""
        path = self._path
        return path is not None and path.parent.is_dir() and not path.exists()

    def fold(self, connection: Connection) -> None:
        """See `StoreEngine`: whoever fills the write-ahead log has to fold it into the file, which
        for all of `CHECKPOINT_PAGES` at random places takes a third of a second."""
        driver: sqlite3.Connection = connection.connection.driver_connection  # type: ignore[assignment]
        driver.execute("PRAGMA wal_checkpoint(PASSIVE)").close()

    def behind(self) -> str | None:
        """See `StoreEngine`: a file stays writable when it was removed, and nobody reads it."""
        for path, known in self._files.items():
            found = _identity(path)
            if found != known:
                return f"{path} was {'removed' if found is None else 'replaced'}"
        return None

    def disconnect(self) -> None:
        """See `StoreEngine`."""
        self._files = {}
        super().disconnect()

    def _opened(self, connection: sqlite3.Connection, record: object) -> None:
        super()._opened(connection, record)
        # With a write-ahead log readers never wait. NORMAL survives the crash of every process; a
        # power cut may take the last transactions, which FULL would keep at a tenth of the speed.
        _write_ahead(connection, self._busy_timeout)
        connection.execute("PRAGMA synchronous = NORMAL").close()
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}").close()
        connection.execute(f"PRAGMA cache_size = -{CACHE_KILOBYTES}").close()
        # Reading anything opens the log.
        connection.execute("SELECT count(*) FROM sqlite_master").close()
        (_, _, name), *_ = connection.execute("PRAGMA database_list").fetchall()
        paths = (Path(name), Path(f"{name}-wal"))
        found = {path: _identity(path) for path in paths}
        self._files = {path: identity for path, identity in found.items() if identity is not None}


def _begin(connection: Connection) -> None:
    read_only = connection.get_execution_options().get("read_only", False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


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


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - twice per transaction, at half the cost
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _code(cause: BaseException) -> int:
    code: int = getattr(cause, "sqlite_errorcode", 0)
    return code & 0xFF
