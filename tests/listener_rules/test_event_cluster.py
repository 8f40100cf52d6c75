"""Events of a cluster, over HTTP and the informer, up to the operator; on both kinds of cluster."""

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from osmo_listener.informer import Informer
from osmo_listener.kubernetes.config import Resource
from osmo_listener.kubernetes.credentials import Credentials
from osmo_listener.kubernetes.kubeconfig import load_kubeconfig
from osmo_listener.kubernetes.listwatch import ListWatch
from osmo_listener.listeners.event import EventConfig, EventListener
from osmo_listener.listeners.objects import Event
from osmo_listener.reporter import Reporter
from osmo_simulator.api_server import NAMESPACE, RealCluster
from osmo_simulator.builders import make_event, make_pod
from osmo_simulator.faults import Fail
from osmo_simulator.server import Simulator, SimulatorConfig
from osmo_transport import Message, Server, connect, listen
from tests.helpers import eventually
from tests.listener.harness import QUICK
from tests.listener_rules.events import NEWER, TTL, Sent, sent
from tests.listener_rules.harness import SINCE, T0

EVENTS = f"/api/v1/namespaces/{NAMESPACE}/events"


def about(pod: str, reason: str, name: str) -> dict[str, Any]:
    """An Event about a pod, as it is created."""
    event = make_event(make_pod(pod, namespace=NAMESPACE), reason, "text", now=SINCE)
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "Event", **event, "metadata": metadata}


def preempted(pod: str, name: str) -> dict[str, Any]:
    """What the scheduler notes of a PodGroup, one of whose pods it evicted."""
    return {
        **about("", "Evict", name),
        "message": f"Pod {NAMESPACE}/{pod} was preempted by a higher priority workload",
        "involvedObject": {
            "kind": "PodGroup",
            "apiVersion": "scheduling.run.ai/v2alpha2",
            "namespace": NAMESPACE,
            "name": "group",
        },
        "source": {"component": "kai-scheduler"},
        "reportingComponent": "kai-scheduler",
    }


class Cluster(ABC):
    """A cluster without Events at first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @abstractmethod
    def kubeconfig(self) -> str:
        """Its kubeconfig, as text."""

    @abstractmethod
    async def create(self, event: dict[str, Any]) -> None:
        """Create an Event."""

    @abstractmethod
    async def patch(self, name: str, fields: dict[str, Any]) -> None:
        """Change an Event, as its author does when it notes the same again."""

    @abstractmethod
    async def delete(self, name: str) -> None:
        """Delete an Event, as when it expires."""

    def credentials(self) -> Credentials:
        """The way to it."""
        path = self._folder / "kubeconfig"
        path.write_text(self.kubeconfig())
        return load_kubeconfig(path)


class Simulated(Cluster):
    """The simulator."""

    def __init__(self, folder: Path, simulator: Simulator) -> None:
        super().__init__(folder)
        self.simulator = simulator

    def kubeconfig(self) -> str:
        return self.simulator.kubeconfig()

    async def create(self, event: dict[str, Any]) -> None:
        self.simulator.cluster.create("events", event)

    async def patch(self, name: str, fields: dict[str, Any]) -> None:
        self.simulator.cluster.patch("events", name, fields, namespace=NAMESPACE)

    async def delete(self, name: str) -> None:
        self.simulator.cluster.delete("events", name, namespace=NAMESPACE)


class Real(Cluster):
    """A real API server; requests run in a thread, so that the informer goes on meanwhile."""

    def __init__(self, folder: Path, cluster: RealCluster) -> None:
        super().__init__(folder)
        self._cluster = cluster

    def kubeconfig(self) -> str:
        return self._cluster.kubeconfig()

    async def create(self, event: dict[str, Any]) -> None:
        await asyncio.to_thread(self._cluster.request, "POST", EVENTS, event)

    async def patch(self, name: str, fields: dict[str, Any]) -> None:
        await asyncio.to_thread(self._cluster.request, "PATCH", f"{EVENTS}/{name}", fields)

    async def delete(self, name: str) -> None:
        await asyncio.to_thread(self._cluster.request, "DELETE", f"{EVENTS}/{name}")


@pytest.fixture
async def simulated(tmp_path: Path) -> AsyncIterator[Simulated]:
    """A simulator that sends bookmarks often."""
    async with Simulator(SimulatorConfig(bookmark_interval=0.05)) as simulator:
        yield Simulated(tmp_path, simulator)


@pytest.fixture(params=["simulator", pytest.param("real", marks=pytest.mark.cluster)])
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Cluster:
    """Each kind of cluster."""
    if request.param == "simulator":
        simulated: Simulated = request.getfixturevalue("simulated")
        return simulated
    real: RealCluster = request.getfixturevalue("real_cluster")
    real.clear()
    return Real(tmp_path, real)


class World:
    """A listener at work, and an operator that keeps what it gets; the clock stands still."""

    def __init__(self) -> None:
        self.now = T0
        self.got: list[Message] = []
        self.ticks: asyncio.Queue[None] = asyncio.Queue()
        self.listener = EventListener(EventConfig(dedupe_ttl=TTL), NAMESPACE)

    def reports(self) -> list[Sent]:
        """What the operator got."""
        return sent(self.got)

    async def pass_time(self, seconds: float) -> None:
        """Move the clock, and let what is due be reported."""
        self.now += seconds
        self.ticks.put_nowait(None)
        await eventually(self.ticks.empty)

    async def receive(self, server: Server) -> None:
        while incoming := await server.receive():
            for each in incoming:
                self.got += each.messages
                each.acknowledge()

    async def tick(self, _: float) -> None:
        await self.ticks.get()


@contextlib.asynccontextmanager
async def running(cluster: Cluster) -> AsyncIterator[tuple[World, Informer[Event]]]:
    world = World()
    source = ListWatch(cluster.credentials(), Resource(path=EVENTS, type=Event))
    async with (
        listen("memory://") as server,
        connect(server.url, backend="b") as client,
    ):
        reporter = Reporter(world.listener, client, clock=lambda: world.now, sleep=world.tick)
        informer = Informer(source, reporter, QUICK)
        reporter.read_from(informer.store.values)
        async with asyncio.TaskGroup() as tasks:
            work = (
                *(world.receive(server), informer.run()),
                *(reporter.follow_epochs(), reporter.keep_time()),
            )
            started = [tasks.create_task(each) for each in work]
            await informer.synced()
            yield world, informer
            await client.flush()
            for task in started:
                task.cancel()
    source.close()


async def test_events_of_pods(cluster: Cluster) -> None:
    """3.5: what existed before is reported, then what is new; repeats are counted and come when the
    time is up, and an Event that is deleted is nothing to report and nothing lost."""
    await cluster.create(about("a", "BackOff", "first"))
    async with running(cluster) as (world, informer):
        await eventually(lambda: world.reports() == [Sent("a", "BackOff", 1)])
        await cluster.create(about("b", "Failed", "second"))
        await cluster.patch("first", {"count": 4, "lastTimestamp": NEWER})
        await cluster.create(preempted("c", "third"))
        await eventually(lambda: len(world.got) == 3)
        assert world.reports()[1:] == [Sent("b", "Failed", 1), Sent("c", "Evict", 1)]
        await cluster.delete("second")
        await eventually(lambda: len(informer.store) == 2)
        await world.pass_time(TTL)
        await eventually(lambda: len(world.got) == 4)
        assert world.reports()[3] == Sent("a", "BackOff", 3, NEWER)
        assert (world.listener.vanished, world.listener.ignored) == (0, 0)


async def test_the_newer_form(cluster: Cluster) -> None:
    """3.5: an Event of the newer form is reported, and its series counted."""
    newer = {
        "firstTimestamp": None,
        "lastTimestamp": None,
        "count": 0,
        "eventTime": "2026-01-02T03:04:05.000001Z",
        "action": "Pulling",
        "reportingComponent": "kubelet",
        "reportingInstance": "node-1",
    }
    series = {"count": 3, "lastObservedTime": "2026-01-02T03:05:06.500000Z"}
    async with running(cluster) as (world, _):
        await cluster.create({**about("a", "Pulling", "newer"), **newer})
        await eventually(lambda: world.got)
        await cluster.patch("newer", {"series": series})
        await eventually(lambda: world.listener.held_back)
        await world.pass_time(TTL)
        await eventually(lambda: len(world.got) == 2)
        assert world.reports() == [
            Sent("a", "Pulling", 1, "2026-01-02T03:04:05.000001Z"),
            Sent("a", "Pulling", 2, "2026-01-02T03:05:06.500000Z"),
        ]


async def test_a_gap_in_the_watch(simulated: Simulated) -> None:
    """What was noted in a gap and still lives is reported; what is gone after it is counted."""
    simulator = simulated.simulator
    for name in ("first", "second"):
        await simulated.create(about(name, "BackOff", name))
    async with running(simulated) as (world, informer):
        simulator.faults.inject(Fail(code=503, count=None))
        simulator.disconnect()
        await eventually(lambda: informer.status().failures)
        await simulated.delete("first")
        await simulated.create(about("third", "BackOff", "third"))
        simulator.cluster.compact()
        simulator.faults.clear()
        await eventually(lambda: world.listener.history_lost)
        await eventually(lambda: len(world.got) == 3)
        assert informer.status().lists == 2
        assert (world.listener.vanished, world.listener.history_lost) == (1, 1)
        assert world.reports()[2] == Sent("third", "BackOff", 1)
