"""PostgreSQL: by itself or behind a pooler, and whichever server its address leads to."""

import os
import socket
from contextlib import suppress
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, Connection, Dialect, create_engine, event, func, select
from sqlalchemy.engine.interfaces import DBAPIConnection

from osmo_transport import MissingExtraError, UsageError
from osmo_transport.passwords import PasswordFile
from osmo_worker.config import StoreConfig
from osmo_worker.store.engines.abc import StoreEngine

if TYPE_CHECKING:
    import psycopg

ROW_FAULTS = ("22", "23", "54")
"""Classes of SQLSTATE that blame the data: data exception, constraint, a limit exceeded."""

USER_FAULTS = frozenset({"42501", "3F000"})
"""SQLSTATEs that no waiting mends: no right to do this, no schema to do it in."""

ADVICE = {
    "25006": "it is a standby, or was made read-only: the connection is opened anew",
    "3F000": "name a schema in the role's search_path, and let it CREATE there",
    "42501": "GRANT the role TEMPORARY on the database and SELECT, INSERT, UPDATE and DELETE on the"
    " tables; who makes or changes them, as `osmo-worker migrate`, has to own them and needs CREATE"
    " on the schema",
    "55P03": "another program holds its lock",
}
"""What to do about errors of PostgreSQL, by SQLSTATE."""

REFUSED_PASSWORD = "password authentication failed"  # noqa: S105  (what a server says of one)

NO_PASSPHRASE = "none"  # noqa: S105  (that there is none)
"""Of a client's key, where the URL has no `sslpassword`: an encrypted key is refused with it."""

LOCKED_KEY = "could not load private key file"

MAX_AGE = 1800
"""Seconds after which a connection is opened anew, so that a name that leads to another server by
now is noticed, also where the old one goes on: what other pools do by default."""

ENCODINGS = frozenset({"UTF8", "SQL_ASCII"})
"""Of a database that can hold every text: SQL_ASCII keeps the bytes that it is given."""


SCHEMA_LOCK = int.from_bytes(blake2b(b"osmo schema", digest_size=8).digest(), signed=True)
"""The key of the lock under which tables are changed."""


class PostgresEngine(StoreEngine):
    """A database on a server.

    What a session has to be like is said in each transaction, for that transaction: a pooler may
    give the next one another session, and refuses to be told at the start.

    Raises:
        MissingExtraError: the driver is not installed.
        UsageError: an option of the URL has a value that it cannot have.
    """

    def __init__(self, url: URL, config: StoreConfig) -> None:
        answer = round(1000 * config.call_timeout)
        limits = {
            "statement_timeout": answer,
            # What holds locks in a session that we no longer reach lets go of them.
            "idle_in_transaction_session_timeout": answer,
            "lock_timeout": round(1000 * config.busy_timeout),
            "TimeZone": "UTC",
            "DateStyle": "ISO",
        }
        settings = [f"set_config('{name}', '{value}', true)" for name, value in limits.items()]
        self._begin = f"SELECT {', '.join(('pg_backend_pid()', *settings))}".encode()
        self._socket: socket.socket | None = None
        options: dict[str, Any] = {
            "client_encoding": "utf8",
            "connect_timeout": max(2, round(config.busy_timeout)),
            "tcp_user_timeout": answer,
            # Without one, the driver asks the terminal for that of an encrypted key, and waits.
            "sslpassword": NO_PASSPHRASE,
        }
        options = {name: value for name, value in options.items() if name not in url.query}
        if "prepare_threshold" in url.query:
            options["prepare_threshold"] = _threshold(url.query["prepare_threshold"])
            url = url.difference_update_query(["prepare_threshold"])
        url, password = _with_password_file(url)
        try:
            engine = create_engine(
                url.set(drivername="postgresql+psycopg"),
                paramstyle="format",
                hide_parameters=True,
                pool_size=1,
                max_overflow=0,
                pool_recycle=MAX_AGE,
                use_native_hstore=False,
                connect_args=options,
            )
        except ModuleNotFoundError as exc:
            raise MissingExtraError(
                "a PostgreSQL store needs psycopg: pip install 'osmo-pipeline[postgres]'"
            ) from exc
        super().__init__(engine)
        event.listen(engine, "connect", self._opened)
        if password is not None:
            event.listen(engine, "do_connect", partial(_identify, password))
        event.listen(engine, "close", self._closed)

    def admit(self, connection: Connection) -> str | None:
        """See `StoreEngine`."""
        encoding = connection.scalar(select(func.current_setting("server_encoding")))
        if encoding in ENCODINGS:
            return None
        return (
            f"its encoding {encoding} has not every character:"
            " use a database that was created with ENCODING 'UTF8'"
        )

    def begin(self, connection: Connection) -> None:
        """See `StoreEngine`."""
        driver: psycopg.Connection[tuple[Any, ...]]
        driver = connection.connection.driver_connection  # type: ignore[assignment]
        found = driver.execute(self._begin, prepare=False).fetchone()
        if found is None or found[0] != driver.info.backend_pid:
            # A pooler: what is prepared in this session is not in the next transaction's.
            driver.prepare_threshold = None

    def unlimited(self, connection: Connection) -> None:
        """See `StoreEngine`."""
        connection.execute(select(func.set_config("statement_timeout", "0", True)))

    def lock_schema(self, connection: Connection) -> None:
        """See `StoreEngine`."""
        connection.execute(select(func.pg_advisory_xact_lock(SCHEMA_LOCK)))

    def blames_row(self, cause: BaseException) -> bool:
        """See `StoreEngine`."""
        driver = self.engine.dialect.loaded_dbapi
        kinds = (driver.DataError, driver.IntegrityError, OverflowError, UnicodeEncodeError)
        return isinstance(cause, kinds) or _state(cause).startswith(ROW_FAULTS)

    def blames_user(self, cause: BaseException) -> bool:
        """See `StoreEngine`."""
        state = _state(cause)
        # Without a state, the driver itself refuses an option of the URL.
        refused = not state and isinstance(cause, self.engine.dialect.loaded_dbapi.ProgrammingError)
        return refused or state in USER_FAULTS

    def advice(self, cause: BaseException) -> str | None:
        """See `StoreEngine`."""
        if LOCKED_KEY in str(cause):
            return "name in sslkey a key that is not encrypted, or its passphrase in sslpassword"
        return ADVICE.get(_state(cause))

    def cut(self) -> None:
        """See `StoreEngine`."""
        ours = self._socket
        if ours is not None:
            with suppress(OSError):
                ours.shutdown(socket.SHUT_RDWR)

    def _opened(self, connection: "psycopg.Connection[Any]", _record: object) -> None:
        # A descriptor of our own: the driver's number may be another file's when it is needed.
        self._socket = socket.socket(fileno=os.dup(connection.fileno()))

    def _closed(self, _connection: object, _record: object) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _with_password_file(url: URL) -> tuple[URL, PasswordFile | None]:
    path = url.query.get("password_file")
    if path is None:
        return url, None
    if url.password or "password" in url.query:
        raise UsageError("the store has a password in its URL and a password file: choose one")
    if not isinstance(path, str):
        raise UsageError("the store has several password files: choose one")
    return url.difference_update_query(["password_file"]), PasswordFile(Path(path))


def _identify(
    password: PasswordFile,
    dialect: Dialect,
    _record: object,
    arguments: tuple[Any, ...],
    options: dict[str, Any],
) -> DBAPIConnection:
    options["password"] = password.read()
    try:
        connection = dialect.connect(*arguments, **options)
    except dialect.loaded_dbapi.OperationalError as exc:
        # The driver tells no SQLSTATE of a connection that it did not get.
        if REFUSED_PASSWORD in str(exc):
            password.refused()
        raise
    password.accepted()
    return connection


def _threshold(text: str | tuple[str, ...]) -> int | None:
    if text == "None":
        return None
    try:
        return int(text)  # type: ignore[arg-type]
    except (TypeError, ValueError) as exc:
        raise UsageError(
            f"prepare_threshold in the store's URL must be a number or None, and is {text!r}"
        ) from exc


def _state(cause: BaseException) -> str:
    return getattr(cause, "sqlstate", None) or ""
