"""The command `osmo-worker migrate`."""

from typing import NamedTuple

from osmo_worker.config import StoreConfig
from osmo_worker.store.database import Database
from osmo_worker.store.migrations import EMPTY
from osmo_worker.store.schema import SCHEMA_VERSION


class Steps(NamedTuple):
    """What there is or was to do."""

    name: str
    """The URL without its password."""
    absent: bool
    """There is, or was, no database where the URL points."""
    found: int
    """The version of the tables; 0: there are none."""
    target: int
    """That of this release."""


async def migrate_store(url: str, config: StoreConfig, *, check: bool = False) -> Steps:
    """Bring the tables of the database at `url` to the version of this release; or only `check`
    which they have, and make nothing.

    Raises:
        StoreUnavailableError: the database does not answer.
        StoreRefusedError: the database is not fit, the text says why.
        UsageError: the URL cannot be read, or needs something that is not installed.
    """
    database = Database(url, config)
    try:
        absent = await database.call(database.is_absent)
        found = EMPTY if absent else await database.call(database.version)
        if not check:
            await database.call(_touch, database)
        return Steps(database.name, absent, found, SCHEMA_VERSION)
    finally:
        await database.aclose()


def _touch(database: Database) -> None:
    with database.transaction(write=False):
        pass
