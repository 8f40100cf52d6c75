"""One connection in one thread: transactions whose every failure is an error of ours.

A single writer is what SQLite wants, and what keeps the event loop free: the driver blocks in its
own thread. Nothing but this package imports SQLAlchemy.

The database may change behind the connection: a server becomes a standby, a name leads to another
one, a link carries nothing any more, a file is removed. So a connection on which anything failed is
never used again, and each new one is looked at anew: what is behind it, and of which version its
tables are.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection, event
from sqlalchemy.exc import SQLAlchemyError

from osmo_worker.config import StoreConfig
from osmo_worker.errors import StoreRefusedError, StoreUnavailableError
from osmo_worker.store import migrations
from osmo_worker.store.engines import open_engine
from osmo_worker.store.engines.abc import RowRefusedError
from osmo_worker.store.migrations import EMPTY, ForeignTablesError
from osmo_worker.store.schema import SCHEMA_VERSION
from osmo_worker.store.thread import CallThread

__all__ = ("Database", "RowRefusedError")

T = TypeVar("T")

CLOSE_TIMEOUT = 1.0
"""Seconds that a database which is closed has to end what it has begun; then its connection is cut,
and it has as long again. A transaction at work takes a tenth of it."""

logger = logging.getLogger(__name__)


class Database:
    """A database by URL. Nothing is opened before the first transaction, which brings the tables to
    the version of this release where they are of an older one or not there."""

    def __init__(self, url: str, config: StoreConfig) -> None:
        self._config = config
        self._backing = open_engine(url, config)
        self._engine = self._backing.engine
        self._thread = CallThread("osmo-store")
        self._prepared = False
        self._closed = False
        self._allow: Callable[[float], None]
        self.dialect = self._engine.dialect
        public = self._engine.url.set(drivername=self.dialect.name)
        self.name = public.render_as_string(hide_password=True)
        """The URL without its password."""
        event.listen(self._engine, "connect", self._opened)

    async def call(self, work: Callable[..., T], *args: Any) -> T:
        """Run `work(*args)` in the thread.

        Raises:
            StoreUnavailableError: it did, or did not end within `call_timeout`; what it waits for
                is cut off then.
            StoreRefusedError: the database is not fit, the text says why.
        """
        loop = asyncio.get_running_loop()
        limit = asyncio.timeout(self._config.call_timeout)

        def allow(seconds: float) -> None:
            # The call may have ended meanwhile.
            with suppress(RuntimeError):
                limit.reschedule(loop.time() + seconds)

        def run() -> T:
            self._allow = partial(_soon, loop, allow)
            return work(*args)

        future = self._thread.submit(run)
        try:
            async with limit:
                return await asyncio.wrap_future(future)
        except TimeoutError as exc:
            if future.running():
                self._backing.cut()
            raise StoreUnavailableError(
                f"{self.name} did not answer within {self._config.call_timeout} s"
            ) from exc

    async def call_steps(self, steps: Generator[None, None, T]) -> T:
        """Run what goes in steps, each as a `call`, so that others have their turn between two;
        returns what it returns.

        Raises: as `call`; what is left is not done.
        """
        done: list[T] = []
        while not done:
            done = await self.call(_advance, steps)
        return done[0]

    @contextmanager
    def transaction(self, *, write: bool = True) -> Iterator[Connection]:
        """A transaction, committed on leaving; for use in the thread.

        Raises:
            RowRefusedError: the database cannot hold a row of it.
            StoreUnavailableError: it failed for another reason, and has to be done again.
            StoreRefusedError: as `call`.
        """
        with self._translated():
            if changed := self._backing.behind():
                logger.warning("%s: opened anew", changed)
                self._backing.disconnect()
            with self._engine.connect() as connection:
                if not self._prepared:
                    self._prepare(connection)
                    self._prepared = True
                with self._begin(connection, write=write):
                    yield connection
        if write and (changed := self._backing.behind()):
            raise StoreUnavailableError(f"{changed} while it was written to")

    def fold(self) -> None:
        """Let a transaction that changed rows at many places make no later one take long; for use
        in the thread.

        Raises: as `transaction`.
        """
        with self._translated(), self._engine.connect() as connection:
            self._backing.fold(connection)

    def is_absent(self) -> bool:
        """Whether there is no database yet, and whoever opens it makes it: a file of SQLite."""
        return self._backing.is_absent()

    def version(self) -> int:
        """The version of the tables, `EMPTY` where there are none; for use in the thread. Changes
        nothing, but makes what `is_absent`.

        Raises: as `transaction`.
        """
        with (
            self._translated(),
            self._engine.connect() as connection,
            self._begin(connection, write=False),
        ):
            return self._version(connection)

    @property
    def has_many_writers(self) -> bool:
        """Whether another transaction may write while one does: SQLite admits one at a time."""
        return self.dialect.name == "postgresql"

    async def aclose(self) -> None:
        """Close the connection when the work in the thread has ended, or after twice
        `CLOSE_TIMEOUT`. Idempotent."""
        if self._closed:
            return
        self._closed = True
        closing = asyncio.wrap_future(self._thread.submit(self._engine.dispose))
        self._thread.end()
        await asyncio.wait([closing], timeout=CLOSE_TIMEOUT)
        if not closing.done():
            self._backing.cut()
            await asyncio.wait([closing], timeout=CLOSE_TIMEOUT)
        if not closing.done():
            logger.warning("%s does not let go: left as it is", self.name)

    @contextmanager
    def _begin(self, connection: Connection, *, write: bool) -> Iterator[None]:
        connection.execution_options(read_only=not write)
        with connection.begin():
            self._backing.begin(connection)
            yield

    def _opened(self, *_: object) -> None:
        self._prepared = False

    def _prepare(self, connection: Connection) -> None:
        """Look at what the connection leads to, and bring its tables to our version.

        The look needs no lock: it is taken where something has to be done.
        """
        with self._begin(connection, write=False):
            if unfit := self._backing.admit(connection):
                raise StoreRefusedError(f"{self.name}: {unfit}")
            found = self._version(connection)
            if found == SCHEMA_VERSION and migrations.complete(connection):
                return
        with self._begin(connection, write=True):
            self._backing.lock_schema(connection)
            found = self._version(connection)
            if found in {EMPTY, SCHEMA_VERSION}:
                migrations.create(connection)
            else:
                self._migrate(connection, found)

    def _version(self, connection: Connection) -> int:
        try:
            found = migrations.version_of(connection)
        except ForeignTablesError as exc:
            raise StoreRefusedError(f"{self.name} {exc}: use another database") from exc
        if found > SCHEMA_VERSION:
            raise StoreRefusedError(
                f"{self.name} has schema version {found} and this worker knows"
                f" {SCHEMA_VERSION}: use the release that wrote it, or a newer one"
            )
        return found

    def _migrate(self, connection: Connection, found: int) -> None:
        logger.info("%s: migrating from version %d to %d", self.name, found, SCHEMA_VERSION)
        begun = time.monotonic()
        self._backing.unlimited(connection)
        self._allow(self._config.migration_timeout)
        migrations.migrate(connection, found)
        self._allow(self._config.call_timeout)
        logger.info("%s: migrated in %.1f s", self.name, time.monotonic() - begun)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        backing = self._backing
        try:
            yield
        except (
            SQLAlchemyError,
            self.dialect.loaded_dbapi.Error,
            OverflowError,
            UnicodeEncodeError,
        ) as exc:
            cause = backing.error_of(exc)
            if backing.blames_row(cause):
                raise RowRefusedError(f"the database refuses a row: {cause}") from exc
            # Whatever it was, the tables may be gone with it, or this server is not the one any
            # more that the URL leads to.
            self._prepared = False
            backing.disconnect()
            advice = backing.advice(cause)
            text = f"{self.name}: {_first_line(cause)}" + (f" ({advice})" if advice else "")
            refused = backing.blames_user(cause)
            raise (StoreRefusedError if refused else StoreUnavailableError)(text) from exc


def _advance(steps: Generator[None, None, T]) -> list[T]:
    """Do the next step; with what all of them return, if it was the last one."""
    try:
        next(steps)
    except StopIteration as end:
        return [end.value]
    return []


def _soon(
    loop: asyncio.AbstractEventLoop, callback: Callable[[float], None], seconds: float
) -> None:
    # The loop may have ended before the thread.
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(callback, seconds)


def _first_line(cause: object) -> str:
    return str(cause).strip().partition("\n")[0]
