"""The pytest plugin: fixtures that run a user's own test over every installed implementation.

    async def test_it_arrives(osmo_transport: TransportUnderTest) -> None:
        async with osmo_transport.listen() as server, osmo_transport.connect(server) as client:
            ...

    async def test_it_is_kept(osmo_queue: QueueUnderTest) -> None:
        async with osmo_queue.open() as queue:
            ...

Third parties' are among them, once they are installed. Both fixtures are plain functions, so that
they work under any plugin that runs `async` tests. An implementation whose library is not installed
is skipped, with the command that installs it.

What a test does with what it opened takes `PATIENCE` seconds at most. One that waits for what does
not come fails then, and is told which of its lines waited, and what had been sent and acknowledged.

Of a kind that is registered as `Policy.LATEST` only the newest report of each key matters, so a
test that sends two of one key may receive one: while the first waits in the client's outbox, the
second takes its place (`client.stats.coalesced` counts that). Who reads from a queue may do the
same with what it has read; the queue itself coalesces nothing. A test that wants to see each one
waits for the first before it sends the second, gives each a key of its own, or takes a kind that is
registered as `Policy.EVERY`.

Where a test listens is `SCHEME://127.0.0.1:0`, and what it opens `SCHEME://NAME`, a fresh name for
each test. An implementation that needs something else says so by an entry point of its scheme in
the group `osmo_transport.testing`: a function of that name, which returns a context manager that
gives a URL.
"""

import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager

import pytest

from osmo_transport.client import Client, ClientConfig, connect
from osmo_transport.errors import MissingExtraError
from osmo_transport.queues.abc import Queue, QueueConfig
from osmo_transport.registry import (
    QUEUES,
    TRANSPORTS,
    Group,
    find,
    implementations,
    named,
    open_queue,
    transport_for,
)
from osmo_transport.server import Admit, Server, ServerConfig, listen
from osmo_transport.testing.contracts.suite import run_under_asyncio_plugin
from osmo_transport.testing.patience import PATIENCE, describe_client, describe_queue, patience

ASYNCIO_PLUGIN = "asyncio"
"""How pytest-asyncio is registered."""

PLACES = Group("osmo_transport.testing", extras=QUEUES.extras)


class TransportUnderTest:
    """One installed transport."""

    def __init__(self, scheme: str, url: str) -> None:
        self.scheme = scheme
        """Of its URLs."""
        self.url = url
        """Where `listen` listens: a free address."""
        self.patience = PATIENCE
        """Seconds that a test may take with what it opens from now on."""
        self._servers: list[Server] = []
        self._clients: dict[str, Client] = {}

    @asynccontextmanager
    async def listen(
        self, *, admit: Admit | None = None, config: ServerConfig | None = None
    ) -> AsyncIterator[Server]:
        """`osmo_transport.listen` at a free address."""
        __tracebackhide__ = True
        async with (
            listen(self.url, admit=admit, config=config) as server,
            patience(self.patience, stands=self._stands),
        ):
            self._servers.append(server)
            yield server

    @asynccontextmanager
    async def connect(
        self,
        server: Server | str,
        *,
        backend: str = "backend",
        source: str = "client",
        config: ClientConfig | None = None,
    ) -> AsyncIterator[Client]:
        """`osmo_transport.connect` to a server or its URL."""
        __tracebackhide__ = True
        url = server if isinstance(server, str) else server.url
        async with (
            connect(url, backend=backend, source=source, config=config) as client,
            patience(self.patience, stands=self._stands),
        ):
            self._clients[f"{backend}/{source}"] = client
            yield client

    async def _stands(self) -> str:
        parts = [
            f"messages of {name}: {describe_client(client)}"
            for name, client in self._clients.items()
        ]
        parts += [
            f"{server.url}: {server.waiting_bytes} bytes of batches that nobody received"
            for server in self._servers
        ]
        return "; ".join(parts)


class QueueUnderTest:
    """One installed queue, empty at the start of each test."""

    def __init__(self, scheme: str, url: str) -> None:
        self.scheme = scheme
        """Of its URL."""
        self.url = url
        """Of a store that belongs to this test."""
        self.patience = PATIENCE
        """Seconds that a test may take with what it opens from now on."""

    @asynccontextmanager
    async def open(self, config: QueueConfig | None = None) -> AsyncIterator[Queue]:
        """`osmo_transport.open_queue`; each call opens the same store."""
        __tracebackhide__ = True
        async with await open_queue(self.url, config) as queue:

            async def stands() -> str:
                return describe_queue(await queue.status())

            async with patience(self.patience, stands=stands):
                yield queue


def pytest_configure(config: pytest.Config) -> None:
    """Let the contracts run under what is there."""
    if config.pluginmanager.hasplugin(ASYNCIO_PLUGIN):
        run_under_asyncio_plugin()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Let a test that takes one of the fixtures run once for each implementation; one that serves
    several schemes is tested by the first of them."""
    for fixture, group in (("osmo_transport", TRANSPORTS), ("osmo_queue", QUEUES)):
        if fixture in metafunc.fixturenames:
            metafunc.parametrize(fixture, implementations(group), indirect=True)


@pytest.fixture
def osmo_transport(request: pytest.FixtureRequest) -> Iterator[TransportUnderTest]:
    """Each installed transport in turn. Of two reports of one key that are sent at once the newer
    one arrives alone, where their kind is registered as `Policy.LATEST`."""
    scheme: str = request.param
    with _skipped_without_extra():
        transport_for(f"{scheme}://")
    with _place(scheme, f"{scheme}://127.0.0.1:0") as url:
        yield TransportUnderTest(scheme, url)


@pytest.fixture
def osmo_queue(request: pytest.FixtureRequest) -> Iterator[QueueUnderTest]:
    """Each installed queue in turn, empty. It delivers all that is put into it; who reads from it
    may handle the newest of each key alone."""
    scheme: str = request.param
    with _skipped_without_extra():
        find(QUEUES, f"{scheme}://")
    with _place(scheme, f"{scheme}://test-{uuid.uuid4().hex}") as url:
        yield QueueUnderTest(scheme, url)


@contextmanager
def _skipped_without_extra() -> Iterator[None]:
    try:
        yield
    except MissingExtraError as exc:
        pytest.skip(str(exc))


@contextmanager
def _place(scheme: str, usual: str) -> Iterator[str]:
    make = named(PLACES, scheme)
    if scheme == "memory" and usual.startswith("memory://127"):
        yield "memory://"
    elif make is None:
        yield usual
    else:
        with ExitStack() as stack:
            try:
                url: str = stack.enter_context(make(f"test-{uuid.uuid4().hex}"))
            except FileNotFoundError as exc:
                pytest.skip(str(exc))
            yield url
