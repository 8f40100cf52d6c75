"""An API server whose nodes are patched, and a labeller that does it."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable

from osmo_listener.kubernetes.credentials import Credentials
from osmo_listener.kubernetes.patching import Patcher
from osmo_listener.labeller import LabellerConfig, NodeLabeller
from tests.helpers import eventually
from tests.listener.wire import Exchange, plain, serve

PREFIX = "osmo.nvidia.com/"
LABEL = PREFIX + "verified"
DONE = plain(b"{}")


class Delays:
    """Instead of sleeping: what was to be slept."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.passing = asyncio.Event()
        """While it is clear, a delay does not end."""
        self.passing.set()

    async def sleep(self, seconds: float) -> None:
        self.seconds.append(seconds)
        await asyncio.sleep(0)
        await self.passing.wait()


class Patches:
    """The patches that an API server gets, and its answers."""

    def __init__(self) -> None:
        self.got: list[tuple[str, str]] = []
        """Node and value of each, in their order."""
        self.tokens: list[str] = []
        """The `Authorization` header of each, or nothing."""
        self.answers: dict[str, list[bytes]] = {}
        """What each node's next patches are answered with; DONE when there is none left."""
        self.answering = asyncio.Event()
        """While it is clear, no answer is given."""
        self.answering.set()
        self.open: list[str] = []
        """The nodes whose patch is not answered yet."""

    async def respond(self, exchange: Exchange) -> None:
        method, target, headers = exchange.head.split(" ", 2)
        assert method == "PATCH"
        assert "\r\nContent-Type: application/merge-patch+json\r\n" in headers
        node = target.removeprefix("/api/v1/nodes/")
        metadata = json.loads(exchange.body)["metadata"]
        assert metadata["uid"] == f"uid-{node}"
        self.got.append((node, metadata["labels"][LABEL]))
        self.tokens.append(headers.partition("Authorization: ")[2].partition("\r\n")[0])
        self.open.append(node)
        await self.answering.wait()
        self.open.remove(node)
        answers = self.answers.get(node)
        await exchange.send(answers.pop(0) if answers else DONE)


@contextlib.asynccontextmanager
async def patching(
    patches: Patches,
    *,
    concurrency: int = 4,
    delays: Delays | None = None,
    draw: Callable[[], float] = lambda: 0.5,
    decides: Callable[[], bool] = lambda: True,
    credentials: Credentials | None = None,
) -> AsyncIterator[NodeLabeller]:
    """A labeller at work on that server."""
    async with serve(patches.respond) as wire:
        way = credentials or wire.credentials()
        way.endpoint = wire.endpoint
        sleep = (delays or Delays()).sleep
        config = LabellerConfig(concurrency=concurrency)
        with contextlib.closing(Patcher(way)) as patcher:
            labeller = NodeLabeller(
                patcher, PREFIX, config, decides=decides, sleep=sleep, draw=draw
            )
            try:
                async with at_work(labeller):
                    yield labeller
            finally:
                patches.answering.set()


@contextlib.asynccontextmanager
async def at_work(labeller: NodeLabeller) -> AsyncIterator[None]:
    """Let it run."""
    task = asyncio.create_task(labeller.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def settled(labeller: NodeLabeller) -> None:
    """Until nothing is left to write."""
    await eventually(lambda: labeller.pending == 0)
