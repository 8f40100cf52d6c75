"""A PostgreSQL for tests: the one that `OSMO_TEST_POSTGRES_URL` names, or one that is started."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from osmo_benchmarks import postgres

MISSING = f"{postgres.MISSING}, or set OSMO_TEST_POSTGRES_URL"


def emptied(url: str) -> str:
    """The same database, without any table in its schema `public`."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return url


@contextmanager
def running_postgres() -> Iterator[str | None]:
    """The URL of a database that tests may fill; None where there is no PostgreSQL."""
    given = os.environ.get("OSMO_TEST_POSTGRES_URL")
    if given or postgres.programs() is None:
        yield given or None
        return
    with postgres.running_postgres() as url:
        yield url
