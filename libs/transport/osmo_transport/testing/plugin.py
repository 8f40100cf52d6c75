"""The pytest plugin: fixtures that run a user's own test over every installed implementation.

    async def test_it_arrives(transport):
        async with transport.listen() as server, transport.connect(server) as client:
            ...

    async def test_it_is_kept(queue):
        async with queue.open() as store:
            ...

Both fixtures are plain functions, so that they work under any plugin that runs `async` tests. An
implementation whose library is not installed is skipped, with the command that installs it.
"""

import os
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import entry_points
from typing import Any

import pytest

from osmo_transport.client import Client, connect
from osmo_transport.errors import MissingExtraError
from osmo_transport.factory import open_queue, transport_for
from osmo_transport.queues.abc import Queue, QueueConfig
from osmo_transport.server import Server, listen


class TransportUnderTest:
    """One installed transport."""

    def __init__(self, scheme: str) -> None:
        self.scheme = scheme
        """Of its URLs."""
        self.url = "memory://" if scheme == "memory" else f"{scheme}://127.0.0.1:0"
        """Where `listen` listens: a free address."""

    def listen(self, **options: Any) -> AbstractAsyncContextManager[Server]:
        """`osmo_transport.listen` at a free address, with its options."""
        return listen(self.url, **options)

    def connect(
        self, server: Server | str, *, backend: str = "backend", **options: Any
    ) -> AbstractAsyncContextManager[Client]:
        """`osmo_transport.connect` to a server or its URL, with its options."""
        url = server if isinstance(server, str) else server.url
        return connect(url, backend=backend, **options)


class QueueUnderTest:
    """One installed queue, empty at the start of each test."""

    def __init__(self, scheme: str, url: str) -> None:
        self.scheme = scheme
        """Of its URL."""
        self.url = url
        """Of a store that belongs to this test."""

    @asynccontextmanager
    async def open(self, config: QueueConfig | None = None) -> AsyncIterator[Queue]:
        """`osmo_transport.open_queue`; each call opens the same store."""
        async with await open_queue(self.url, config) as queue:
            yield queue


def _others() -> list[str]:
    return [entry.name for entry in entry_points(group="osmo_transport.transports")]


@pytest.fixture(params=["memory", "ws", "grpc", *_others()])
def transport(request: pytest.FixtureRequest) -> TransportUnderTest:
    """Each installed transport in turn; third parties' too, which have to serve `127.0.0.1:0`."""
    under_test = TransportUnderTest(request.param)
    try:
        transport_for(under_test.url)
    except MissingExtraError as exc:
        pytest.skip(str(exc))
    return under_test


@pytest.fixture(params=["memory", "redis"])
def queue(request: pytest.FixtureRequest) -> Iterator[QueueUnderTest]:
    """Each installed queue in turn, empty."""
    name = f"test-{uuid.uuid4().hex}"
    if request.param == "memory":
        yield QueueUnderTest("memory", f"memory://{name}")
        return
    url: str = request.getfixturevalue("osmo_redis_url")
    from osmo_transport.testing.redis_server import remove_namespace  # noqa: PLC0415

    yield QueueUnderTest("redis", f"{url}{'&' if '?' in url else '?'}namespace={name}")
    remove_namespace(url, name)


@pytest.fixture(scope="session")
def osmo_redis_url() -> Iterator[str]:
    """The URL of a server for `redis://`: the one that `OSMO_TEST_REDIS` names, or one that is
    started for the session, or a skip that says what is missing."""
    try:
        from osmo_transport.testing.redis_server import (  # noqa: PLC0415
            CHOICE,
            RedisServer,
        )
    except ModuleNotFoundError:
        pytest.skip("redis:// needs redis: pip install 'osmo-pipeline[redis]'")
    given = os.environ.get(CHOICE, "")
    if "://" in given:
        yield given
        return
    try:
        server = RedisServer()
    except FileNotFoundError as exc:
        pytest.skip(str(exc))
    with server:
        yield server.url
