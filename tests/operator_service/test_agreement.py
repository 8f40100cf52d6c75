"""Two operators, three listeners of two backends: whatever is decided, and lost, all agree."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from osmo_operator import service
from osmo_operator.config import OperatorConfig
from osmo_operator.names import Names
from osmo_reports import Directory, Registration, open_directory
from osmo_reports.bodies import encode_introduction
from osmo_reports.conditions import DEFAULT_RULES
from osmo_reports.directory import RULES_KIND, Origin, decode_rules, redis
from osmo_reports.errors import RulesDeclaredError
from osmo_runtime.queues import QueueLayout, queue_url
from osmo_transport import Client, UsageError, connect
from osmo_transport.message import new_id
from osmo_transport.testing.contracts.queue_suite import PATIENCE
from osmo_transport.testing.patience import patience
from osmo_transport.testing.redis_server import RedisServer
from tests.helpers import eventually

ONE = encode_introduction(Registration("uid-1"))
TWO = encode_introduction(Registration("uid-2"))

SOON = 0.02
"""Seconds between two looks of everybody: no pause that a test would see."""


@dataclass
class Place:
    """Where a queue is, and the server that can lose its memory."""

    url: str
    layout: QueueLayout = "own"
    server: RedisServer | None = None


@dataclass
class Fleet:
    """Two operators with one file, and who listens: `a` at each, `b` at the second."""

    place: Place
    urls: list[str]
    names: list[Names]
    file: Path
    directory: Directory
    listeners: dict[str, list[Client]]

    def declare(self, text: str) -> None:
        """Let the file say something else."""
        new = self.file.with_name("new")
        new.write_text(text)
        new.replace(self.file)

    async def agrees(self, backend: str, rules: dict[str, str], origin: Origin) -> None:
        """Return when every listener of `backend`, and one that comes now to whichever operator,
        has these rules under one version, and the directory says who decided them."""
        async with patience(PATIENCE), AsyncExitStack() as stack:
            late = [
                await stack.enter_async_context(connect(url, backend=backend, source=new_id()))
                for url in self.urls
            ]
            versions = set()
            for listener in [*self.listeners[backend], *late]:
                push = await listener.push_after(RULES_KIND, 0)
                while decode_rules(push.payload) != rules:
                    push = await listener.push_after(RULES_KIND, push.version)
                versions.add(push.version)
        known = (await self.directory.rules())[backend]
        assert (known.rules, known.origin, versions) == (rules, origin, {known.version})


@pytest.fixture(params=["memory", "own", "osmo"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """A queue in memory, and in Redis in each layout."""
    if request.param == "memory":
        yield Place(f"memory://{new_id()}")
    else:
        with RedisServer() as server:
            yield Place(server.url, request.param, server)


@pytest.fixture
async def fleet(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Fleet]:
    """All of them, with a file that declares nothing yet."""
    for module, name in (
        (service, "RULES_INTERVAL"),
        (redis, "CLAIMS_INTERVAL"),
        (redis, "BLOCK"),
    ):
        monkeypatch.setattr(module, name, SOON)
    names: list[Names] = []

    class Noted(Names):
        """Whose knowledge can be looked at."""

        def __init__(self, *of: object) -> None:
            super().__init__(*of)  # type: ignore[arg-type]
            names.append(self)

    monkeypatch.setattr(service, "Names", Noted)
    (file := tmp_path / "rules.toml").write_text("")
    async with _operators(place, file) as urls, AsyncExitStack() as stack:
        where = queue_url(place.url, place.layout)
        directory = await stack.enter_async_context(await open_directory(where))
        listeners: dict[str, list[Client]] = {"a": [], "b": []}
        for backend, url, said in (("a", urls[0], ONE), ("a", urls[1], ONE), ("b", urls[1], TWO)):
            listener = await stack.enter_async_context(
                connect(url, backend=backend, source=new_id(), introduction=said)
            )
            listeners[backend].append(listener)
            await listener.epoch_after(0)
        yield Fleet(place, urls, names, file, directory, listeners)


@asynccontextmanager
async def _operators(place: Place, file: Path) -> AsyncIterator[list[str]]:
    config = OperatorConfig(
        queue=place.url,
        layout=place.layout,
        listen=("ws://127.0.0.1:0",),
        rules_file=file,
        check_interval=SOON,
    )
    stop, urls = asyncio.Event(), []
    async with asyncio.TaskGroup() as tasks:
        for _ in range(2):
            ready: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
            tasks.create_task(service.run_operator(config, stop, ready.set_result))
            urls += await ready
        yield urls
        stop.set()


async def test_all_agree_on_the_rules(fleet: Fleet) -> None:
    """Set by command, declared by the file and taken out of it, forgotten; and after each of it the
    store loses its memory."""

    async def agree(*expected: tuple[str, dict[str, str], Origin]) -> None:
        for each in expected:
            await fleet.agrees(*each)
        if fleet.place.server is not None:
            before = await fleet.directory.rules()
            fleet.place.server.flush()
            async with patience(PATIENCE), aclosing(fleet.directory.follow_rules()) as following:
                while await anext(following) != before:
                    pass
            for each in expected:
                await fleet.agrees(*each)

    for backend in "ab":
        await fleet.directory.set_rules(backend, {"Ready": "1"})
    b = ("b", {"Ready": "1"}, Origin.COMMAND)
    await agree(("a", {"Ready": "1"}, Origin.COMMAND), b)
    fleet.declare('[a]\nReady = "2"')
    await agree(("a", {"Ready": "2"}, Origin.FILE), b)
    with pytest.raises(RulesDeclaredError):
        await fleet.directory.set_rules("a", {"Ready": "3"})
    fleet.declare('[a]\nReady = "4"')
    await agree(("a", {"Ready": "4"}, Origin.FILE), b)
    await fleet.directory.forget("b")
    b = ("b", dict(DEFAULT_RULES), Origin.DEFAULT)
    await agree(("a", {"Ready": "4"}, Origin.FILE), b)
    fleet.declare("")
    await agree(("a", dict(DEFAULT_RULES), Origin.DEFAULT), b)


async def test_all_agree_on_the_names(fleet: Fleet) -> None:
    """No operator lets another cluster in under a name that is taken, also when the store has just
    lost its memory; the right one reports on."""
    before = await fleet.directory.claims()
    await eventually(lambda: [names.known for names in fleet.names] == [before, before])
    if fleet.place.server is not None:
        fleet.place.server.flush()
    async with patience(PATIENCE):
        for url in fleet.urls:
            async with connect(url, backend="a", source="x", introduction=TWO) as wrong:
                with pytest.raises(UsageError, match=r"uid-1.*uid-2"):
                    await wrong.epoch_after(0)
            async with connect(url, backend="a", source=new_id(), introduction=ONE) as right:
                await right.epoch_after(0)
        async with aclosing(fleet.directory.follow_claims()) as following:
            while await anext(following) != before:
                pass
