"""Stores to test with: every contract test runs over each of them."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from osmo_worker.store import StateStore, open_store
from tests.postgres import MISSING, emptied, running_postgres
from tests.worker import roles
from tests.worker.harness import STORE


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a PostgreSQL for the whole session, or a skip that says what is missing."""
    with running_postgres() as url:
        if url is None:
            pytest.skip(MISSING)
        yield url


@pytest.fixture
def postgres(postgres_server: str) -> str:
    """The URL of an empty PostgreSQL."""
    return emptied(postgres_server)


@pytest.fixture(scope="session")
def guide_database(postgres_server: str) -> Iterator[str]:
    """A database that was made as the production guide says; see `roles`."""
    with roles.made(postgres_server):
        yield postgres_server


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store of each sort; in PostgreSQL with the rights of a worker."""
    match request.param:
        case "memory":
            return "memory://"
        case "sqlite":
            return f"sqlite:///{tmp_path}/store.db"
        case _:
            url: str = request.getfixturevalue("guide_database")
            roles.empty(url)
            return roles.of(roles.WORKER, url)


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[StateStore]:
    """An empty store of each sort."""
    async with open_store(store_url, STORE) as opened:
        yield opened
