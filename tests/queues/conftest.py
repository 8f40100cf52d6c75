"""Servers that all queue tests share."""

from collections.abc import Iterator

import pytest

from osmo_transport.testing.redis_server import RedisServer, redis_binaries


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
