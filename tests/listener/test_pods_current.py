"""Until when pods are known is told while they are seen, and behind what is reported of them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from osmo_listener.informer import Informer
from osmo_listener.listeners.objects import Pod, PodLabels, PodMetadata, PodStatus
from osmo_listener.listeners.workflow import WorkflowListener
from osmo_listener.pods_current import Dated, tell_pods_current
from osmo_listener.reporter import Reporter
from osmo_listener.testing import FakeSource
from osmo_reports.bodies import PodsCurrent, decode_body
from osmo_reports.kinds import Stream
from osmo_transport import (
    Client,
    ClientConfig,
    Limits,
    Message,
    Policy,
    Server,
    SessionConfig,
    Version,
    connect,
    kind_of,
    listen,
)
from tests.helpers import eventually
from tests.listener.harness import INSTANT


def pod(name: str, phase: str = "Running") -> Pod:
    """A pod that runs a task."""
    labels = PodLabels("w", name)
    metadata = PodMetadata(name=name, namespace="osmo", uid=f"uid-{name}", labels=labels)
    return Pod(metadata=metadata, status=PodStatus(phase))


class World:
    """A cluster, its listener, and an operator that keeps what it gets."""

    def __init__(self, server: Server, client: Client) -> None:
        self.server = server
        self.client = client
        self.cluster: FakeSource[Pod] = FakeSource()
        self.now = 1000.0
        self.dated = Dated(self.cluster, lambda: self.now)
        self.there = asyncio.Event()
        """Whether the operator takes what it gets."""
        self.got: list[Message] = []
        self._beats: asyncio.Queue[None] = asyncio.Queue()
        self._waiting = asyncio.Event()

    async def sleep(self, _: float) -> None:
        """The pause between two reports."""
        self._waiting.set()
        await self._beats.get()

    async def beat(self) -> None:
        """Let one pause be over, and wait for the next."""
        await self._waiting.wait()
        self._waiting.clear()
        self._beats.put_nowait(None)
        await self._waiting.wait()

    async def receive(self) -> None:
        await self.there.wait()
        async for incoming in self.server:
            self.got += incoming.messages
            incoming.acknowledge()

    def told(self) -> list[float]:
        """Until when the pods were said to be known."""
        return [
            decode_body(message.kind, message.payload).at
            for message in self.got
            if message.kind == "pods_current"
        ]


@contextlib.asynccontextmanager
async def world(
    *pods: Pod, held: bool = False, there: bool = True, window: int = 1000
) -> AsyncIterator[World]:
    """A listener at work, in a cluster with these pods; `held`: no list gets beyond its first page;
    `window`: what the operator lets be in flight."""
    session = SessionConfig(limits=Limits(window_messages=window))
    config = ClientConfig(session=session, drain_timeout=0.0)
    async with (
        listen("memory://") as server,
        connect(server.url, backend="b", config=config) as client,
    ):
        w = World(server, client)
        for each in pods:
            w.cluster.add(each)
        if held:
            w.cluster.hold_lists()
        if there:
            w.there.set()
        reporter = Reporter(WorkflowListener(), client, clock=lambda: w.now)
        informer: Informer[Pod] = Informer(w.dated, reporter, INSTANT)
        reporter.read_from(informer.store.values)
        telling = tell_pods_current(
            reporter, w.dated, "b", 20.0, clock=lambda: w.now, sleep=w.sleep
        )
        works = (w.receive(), informer.run(), reporter.follow_epochs(), telling)
        tasks = [asyncio.create_task(work) for work in works]
        try:
            yield w
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def test_the_kind() -> None:
    """It goes with the reports of pods, and none takes the place of another: the newer one would
    stand where the older one was, before reports that came between them."""
    assert kind_of("pods_current") == (Policy.EVERY, Stream.PODS)


async def test_the_first_list() -> None:
    """Nothing is told before the whole list is reported; then the moment at which it began."""
    async with world(pod("a"), pod("b"), pod("c"), held=True) as w:
        await w.beat()
        await eventually(lambda: len(w.got) == 2)
        w.now += 5
        await w.beat()
        assert w.told() == []
        w.cluster.release_lists()
        await eventually(lambda: w.dated.current_at is not None)
        await w.beat()
        await eventually(lambda: w.told() == [1000.0])
        *reports, current = w.got
        assert [message.kind for message in reports] == ["update_pod"] * 3 + ["snapshot_end"]
        assert (current.key, current.version, current.timestamp) == (
            "b",
            Version(w.client.epoch, 1),
            w.now,
        )
        assert decode_body("pods_current", current.payload) == PodsCurrent(1000.0)


async def test_signs_of_the_watch() -> None:
    """Bookmarks move the moment, and events behind one; where nothing came, nothing is told."""
    async with world() as w:
        await eventually(lambda: len(w.got) == 1)
        await eventually(lambda: w.dated.current_at == 1000.0)
        await w.beat()
        await w.beat()
        await eventually(lambda: w.told() == [1000.0])
        w.now = 1005.0
        w.cluster.add(pod("a"))
        await eventually(lambda: len(w.got) == 3)
        w.now = 1010.0
        w.cluster.bookmark()
        await eventually(lambda: w.dated.current_at == 1010.0)
        await w.beat()
        w.now = 1020.0
        w.cluster.add(pod("b"))
        await eventually(lambda: w.dated.current_at == 1020.0)
        w.now = 1030.0
        await w.beat()
        await eventually(lambda: w.told() == [1000.0, 1010.0, 1020.0])


async def test_a_watch_that_catches_up() -> None:
    """Events of a watch that was interrupted may have happened long before: they say nothing until
    a bookmark comes behind them."""
    async with world(pod("a")) as w:
        await eventually(lambda: w.dated.current_at == 1000.0)
        w.cluster.bookmark()
        w.cluster.reset_watch()
        await eventually(lambda: len(w.cluster.watched_from) == 2)
        w.now = 2000.0
        w.cluster.modify(pod("a", "Succeeded"))
        await eventually(lambda: len(w.got) == 3)
        assert w.dated.current_at == 1000.0
        w.cluster.bookmark()
        await eventually(lambda: w.dated.current_at == 2000.0)


async def test_a_blind_watch() -> None:
    """While lists fail and pages are missing nothing is told; then the moment of the list that
    succeeded."""
    async with world(pod("a"), pod("b"), pod("c")) as w:
        await eventually(lambda: w.dated.current_at == 1000.0)
        await w.beat()
        w.now = 2000.0
        w.cluster.hold_lists()
        w.cluster.expire()
        await eventually(lambda: w.cluster.lists == 2)
        await w.beat()
        w.now = 3000.0
        await w.beat()
        await w.client.flush()
        assert w.told() == [1000.0]
        w.cluster.release_lists()
        await eventually(lambda: w.dated.current_at == 2000.0)
        await w.beat()
        await eventually(lambda: w.told() == [1000.0, 2000.0])


async def test_a_process_that_was_suspended() -> None:
    """What it reads first came long before, and there may be more of it: nothing is told before it
    has had the time of a pause to take all of it over."""
    async with world(pod("a")) as w:
        await eventually(lambda: w.dated.current_at == 1000.0)
        w.cluster.bookmark()
        await w.beat()
        w.now = 1600.0
        w.cluster.modify(pod("a", "Succeeded"))
        await eventually(lambda: w.dated.current_at == 1600.0)
        await w.beat()
        await w.client.flush()
        assert w.told() == [1000.0]
        w.now = 1620.0
        await w.beat()
        await eventually(lambda: w.told() == [1000.0, 1600.0])


async def test_a_new_epoch() -> None:
    """What the queue has lost is reported again before anything is said to be known."""
    async with world(pod("a")) as w:
        await eventually(lambda: w.dated.current_at == 1000.0)
        await w.client.flush()
        before = w.client.epoch
        w.client.renew_epoch()
        epoch = await w.client.epoch_after(before)
        w.now = 1010.0
        w.cluster.bookmark()
        await eventually(lambda: w.dated.current_at == 1010.0)
        await w.beat()
        await eventually(lambda: w.told()[-1:] == [1010.0])
        kinds = [message.kind for message in w.got if message.version.epoch == epoch]
        assert kinds == ["update_pod", "snapshot_end", "pods_current"]


async def test_it_overtakes_no_report() -> None:
    """What waits for an operator leaves in such an order that no report that was made until then
    comes behind the moment."""
    async with world(pod("a"), pod("b", "Pending"), there=False, window=1) as w:
        await eventually(lambda: w.dated.current_at == 1000.0)
        w.now = 1000.5
        w.cluster.bookmark()
        await eventually(lambda: w.dated.current_at == w.now)
        for step in range(1, 20):
            w.now = 1000.0 + step
            w.cluster.modify(pod("ab"[step % 2], ("Pending", "Running")[step // 2 % 2]))
            await eventually(lambda: w.dated.current_at == w.now)
            await w.beat()
        assert w.client.stats.waiting > 10
        w.there.set()
        await w.client.flush()
        told = w.told()
        assert told == [1000.0 + step for step in range(1, 20)]
        for place, message in enumerate(w.got):
            if message.kind == "pods_current":
                later = [each.timestamp for each in w.got[place:] if each.kind == "update_pod"]
                assert all(at > decode_body("pods_current", message.payload).at for at in later)
        last = decode_body("update_pod", [m for m in w.got if m.kind == "update_pod"][-1].payload)
        assert last.status == "RUNNING"


async def test_the_source_behind() -> None:
    """All that a reader asks for is asked of it."""
    cluster: FakeSource[Pod] = FakeSource()
    dated = Dated(cluster)
    cluster.left_out = 3
    dated.forget_credentials()
    assert (dated.left_out, cluster.forgotten, await dated.position()) == (3, 1, cluster.version)
