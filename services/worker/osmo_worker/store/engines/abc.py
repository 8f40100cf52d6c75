"""What a database has to be able to do besides SQL."""

from abc import ABC, abstractmethod

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError


class RowRefusedError(Exception):
    """The database is fine, and a row of this transaction is what it cannot hold."""


class StoreEngine(ABC):
    """One connection at a time to one database. Used by the store's thread, but for `cut`."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def is_absent(self) -> bool:
        """Whether there is nothing yet where the URL points, and a connection would make it."""
        return False

    def admit(self, connection: Connection) -> str | None:
        """Look at a database to which a connection was just opened; why the store cannot be in it,
        None where it can."""
        return None

    @abstractmethod
    def begin(self, connection: Connection) -> None:
        """Called first in each transaction."""

    @abstractmethod
    def unlimited(self, connection: Connection) -> None:
        """Let the statements of this transaction take as long as they do."""

    @abstractmethod
    def lock_schema(self, connection: Connection) -> None:
        """Keep others from changing the tables until the transaction ends."""

    def fold(self, connection: Connection) -> None:
        """Do now, between two transactions, what would else make a later one take long."""
        return

    def behind(self) -> str | None:
        """Whether the database that the connection is to is no longer the one that the URL names;
        if so, what has become of that."""
        return None

    @abstractmethod
    def blames_row(self, cause: BaseException) -> bool:
        """Whether an error of the driver is about the data alone."""

    @abstractmethod
    def blames_user(self, cause: BaseException) -> bool:
        """Whether an error of the driver is about what no waiting mends."""

    @abstractmethod
    def advice(self, cause: BaseException) -> str | None:
        """What to do about an error of the driver, where more can be said than it does."""

    @abstractmethod
    def cut(self) -> None:
        """Let what the connection is waiting for fail now; called by another thread.

        What it cannot reach (a name that is being looked up, a disk) has limits of its own.
        """

    def disconnect(self) -> None:
        """Close the connection: the next transaction opens another one."""
        self.engine.dispose()

    def error_of(self, exc: BaseException) -> BaseException:
        """The driver's own error."""
        return exc.orig if isinstance(exc, DBAPIError) and exc.orig is not None else exc
