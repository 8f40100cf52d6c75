"""Two operators, three listeners of two backends: whatever is decided, and lost, all agree."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, replace
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
from osmo_transport import BackoffConfig, Client, ClientConfig, UsageError, connect
from osmo_transport.message import new_id
from osmo_transport.testing.contracts.queue_suite import PATIENCE
from osmo_transport.testing.patience import patience
from osmo_transport.testing.redis_server import RedisServer
from tests.helpers import eventually

ONE = encode_introduction(Registration("uid-1"))
TWO = encode_introduction(Registration("uid-2"))

EAGER = ClientConfig(backoff=BackoffConfig(base=0.01, maximum=0.05))

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
    operators: "Operators"

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

    async def forgets_rules(self) -> bool:
        """The store loses its memory: return when it has the rules again. False: it cannot."""
        if self.place.server is None:
            return False
        before = await self.directory.rules()
        self.place.server.flush()
        async with patience(PATIENCE), aclosing(self.directory.follow_rules()) as following:
            while await anext(following) != before:
                pass
        return True


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
    async with Operators(place, file) as operators, AsyncExitStack() as stack:
        urls = [await operators.start(number) for number in range(2)]
        where = queue_url(place.url, place.layout)
        directory = await stack.enter_async_context(await open_directory(where))
        listeners: dict[str, list[Client]] = {"a": [], "b": []}
        for backend, url, said in (("a", urls[0], ONE), ("a", urls[1], ONE), ("b", urls[1], TWO)):
            listener = await stack.enter_async_context(
                connect(url, backend=backend, source=new_id(), introduction=said, config=EAGER)
            )
            listeners[backend].append(listener)
            await listener.epoch_after(0)
        yield Fleet(place, urls, names, file, directory, listeners, operators)


class Operators:
    """Those of one queue, each in a task of its own. Use as `async with`."""

    def __init__(self, place: Place, file: Path) -> None:
        self._config = OperatorConfig(
            queue=place.url,
            layout=place.layout,
            listen=("ws://127.0.0.1:0",),
            rules_file=file,
            check_interval=SOON,
        )
        self._stop = asyncio.Event()
        self._running: dict[int, asyncio.Task[None]] = {}
        self._urls: dict[int, str] = {}

    async def start(self, number: int, *, has_file: bool = True) -> str:
        """Let it serve, where it did before; returns its URL."""
        config = replace(
            self._config,
            listen=(self._urls.get(number, self._config.listen[0]),),
            rules_file=self._config.rules_file if has_file else None,
        )
        ready: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        serving = service.run_operator(config, self._stop, ready.set_result)
        self._running[number] = asyncio.create_task(serving)
        (self._urls[number],) = await ready
        return self._urls[number]

    async def kill(self, number: int) -> None:
        """End it as it is."""
        killed = self._running.pop(number)
        killed.cancel()
        await asyncio.wait([killed])

    async def __aenter__(self) -> "Operators":
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        await asyncio.gather(*self._running.values())


async def test_all_agree_on_the_rules(fleet: Fleet) -> None:
    """Set by command, declared by the file and taken out of it, forgotten; and after each of it the
    store loses its memory."""

    async def agree(*expected: tuple[str, dict[str, str], Origin]) -> None:
        for each in expected:
            await fleet.agrees(*each)
        if await fleet.forgets_rules():
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


async def test_one_that_was_away_agrees(fleet: Fleet) -> None:
    """With what was decided meanwhile, though the store has lost its memory as well; and so do the
    listeners that it had."""
    await fleet.directory.set_rules("b", {"Ready": "1"})
    await fleet.agrees("b", {"Ready": "1"}, Origin.COMMAND)
    await fleet.operators.kill(1)
    await fleet.directory.set_rules("b", {"Ready": "2"})
    await fleet.directory.set_rules("a", {"Ready": "2"})
    await fleet.forgets_rules()
    await fleet.operators.start(1)
    for backend in "ab":
        await fleet.agrees(backend, {"Ready": "2"}, Origin.COMMAND)
    async with patience(PATIENCE):
        for url in fleet.urls:
            async with connect(url, backend="b", source="x", introduction=ONE) as wrong:
                with pytest.raises(UsageError, match=r"uid-2.*uid-1"):
                    await wrong.epoch_after(0)


async def test_what_a_file_declared_outlives_the_file(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    """An operator without it, be it started by mistake, changes nothing, and says so."""
    fleet.declare('[a]\nReady = "2"')
    await fleet.agrees("a", {"Ready": "2"}, Origin.FILE)
    for number in range(2):
        await fleet.operators.kill(number)
        await fleet.operators.start(number, has_file=False)
        await fleet.agrees("a", {"Ready": "2"}, Origin.FILE)
    text = "a file declared the condition rules of 1 backend, and they hold on"
    assert caplog.text.count(text) == 2
    with pytest.raises(RulesDeclaredError):
        await fleet.directory.set_rules("a", {"Ready": "3"})
