"""The roles of PostgreSQL that the production guide makes, and a database of theirs."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from osmo_worker.config import StoreConfig
from osmo_worker.store.migrating import migrate_store
from osmo_worker.store.schema import metadata, schema_version
from tests.documents.guide import fenced

GUIDE = "docs/production.md"
DATABASE = "osmo_guide"
OWNER, WORKER, READER = "osmo_owner", "osmo_worker", "osmo_reader"


def of(role: str, url: str) -> str:
    """The URL of the guide's database for a role of it; `url` is of whoever may do everything."""
    return url.replace("osmo@", f"{role}:PASSWORD@").replace("/postgres", f"/{DATABASE}")


@contextmanager
def made(url: str) -> Iterator[None]:
    """Do what the guide says, until the context is left."""
    try:
        _type_in(url, "CREATE ROLE osmo_owner")
        _type_in(_in_it(url), "REVOKE ALL ON SCHEMA")
        asyncio.run(migrate_store(of(OWNER, url), StoreConfig()))
        _type_in(_in_it(url), "REVOKE INSERT")
        yield
    finally:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)".encode())
            for role in (OWNER, WORKER, READER):
                connection.execute(f"DROP ROLE IF EXISTS {role}".encode())


def empty(url: str) -> None:
    """Remove all rows of the tables."""
    tables = ", ".join(metadata.tables.keys() - {schema_version.name})
    with psycopg.connect(_in_it(url), autocommit=True) as connection:
        connection.execute(f"TRUNCATE {tables}".encode())


def _in_it(url: str) -> str:
    return url.replace("/postgres", f"/{DATABASE}")


def _type_in(url: str, beginning: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in fenced(GUIDE, beginning).splitlines():
            here = statement.replace("DATABASE osmo ", f"DATABASE {DATABASE} ")
            connection.execute(here.encode())
