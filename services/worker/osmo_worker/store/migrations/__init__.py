"""The version that the tables of a database have, and how they come to the one of this release.

The module `vN` beside this one has the function `upgrade`, which turns the tables of version N-1
into those of version N, with Alembic's operations, in SQLite and PostgreSQL alike; `v1` begins with
none. A change of the tables is the new `schema.metadata`, `SCHEMA_VERSION` raised by one, and one
such module, which is never changed again: it must not look at the metadata of today. What
SQLite's own `ALTER TABLE` cannot do, `op.batch_alter_table` does by copying the table there.

All of it is one transaction, with a lock that nobody else has: a program that is killed midway has
changed nothing. Alembic is imported when there is something to do: that takes two thirds of what a
worker takes to import its store.
"""

import logging
from importlib import import_module

from sqlalchemy import Connection, insert, inspect, select, update

from osmo_transport import MissingExtraError
from osmo_worker.store.schema import SCHEMA_VERSION, metadata, schema_version

EMPTY = 0
"""The version of a database without any table of ours."""


class ForeignTablesError(Exception):
    """The database has tables that are called as ours and are not."""


def version_of(connection: Connection) -> int:
    """The version of the tables; `EMPTY` where there are none.

    Raises:
        ForeignTablesError: there are tables of somebody else.
    """
    existing = _tables(connection)
    if schema_version.name in existing:
        return int(connection.execute(select(schema_version.c.version)).scalar_one())
    if foreign := sorted(existing & metadata.tables.keys()):
        raise ForeignTablesError(f"has a table {foreign[0]!r} that is not ours")
    return EMPTY


def complete(connection: Connection) -> bool:
    """Whether all tables of today are there."""
    return metadata.tables.keys() <= _tables(connection)


def create(connection: Connection) -> None:
    """Create those of today's tables that are missing, in a database that is empty or of today's
    version."""
    metadata.create_all(connection)
    if connection.scalar(select(schema_version.c.version)) is None:
        connection.execute(insert(schema_version).values(version=SCHEMA_VERSION))


def migrate(connection: Connection, found: int, target: int = SCHEMA_VERSION) -> None:
    """Turn tables of the version `found` into those of the version `target`, rows and all.

    Raises:
        MissingExtraError: Alembic is not installed.
    """
    try:
        from alembic.migration import MigrationContext  # noqa: PLC0415
        from alembic.operations import Operations  # noqa: PLC0415
    except ModuleNotFoundError as exc:
        raise MissingExtraError(
            "changing the tables needs Alembic: pip install 'osmo-pipeline[store]'"
        ) from exc

    # What it says at INFO is not so: SQLite's DDL is transactional as we use it.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with Operations.context(MigrationContext.configure(connection)):
        for version in range(found + 1, target + 1):
            import_module(f"{__name__}.v{version}").upgrade()
            connection.execute(update(schema_version).values(version=version))


def _tables(connection: Connection) -> set[str]:
    return set(inspect(connection).get_table_names())
