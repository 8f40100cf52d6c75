"""Versions of pods, nodes and events are counted by clusters' stores of their own: none of them
enters the reports of another resource, also where one of them goes back."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import astuple

from osmo_listener.hostnames import Hostnames
from osmo_listener.informer import Handler, Informer
from osmo_listener.informer.fanout import Branch, Fanout
from osmo_listener.listeners.event import EventConfig, EventListener
from osmo_listener.listeners.node import NodeListener
from osmo_listener.listeners.objects import (
    Event,
    Node,
    PodLabels,
    PodMetadata,
    PodStatus,
    SharedPod,
    SharedSpec,
)
from osmo_listener.listeners.registry import Listener
from osmo_listener.listeners.usage import UsageConfig, UsageListener
from osmo_listener.listeners.workflow import WorkflowListener
from osmo_listener.reporter import Reporter
from osmo_listener.testing import FakeSource
from osmo_reports.bodies import decode_body
from osmo_transport import Client, ClientConfig, Message, Server, connect, listen
from tests.helpers import eventually
from tests.listener.harness import INSTANT
from tests.listener_rules.events import make_event
from tests.listener_rules.harness import T0
from tests.listener_rules.nodes import make_node
from tests.listener_rules.usage_harness import cores, make_pod

STARTS = {"pods": 3 * 10**12, "nodes": 500, "events": 7 * 10**6}
"""Where the counter of each resource stands."""
RESOURCE_OF = {
    "update_pod": "pods",
    "pod_exists": "pods",
    "update_node": "nodes",
    "node_inventory": "nodes",
}
"""Whose counter the revisions of a kind come from."""


def pod(name: str, node: str = "n1") -> SharedPod:
    """A pod that runs a task."""
    metadata = PodMetadata(name, "osmo", f"uid-{name}", labels=PodLabels("w", name))
    return SharedPod(metadata, SharedSpec(node), PodStatus("Running"))


class World:
    """Three counters, the listeners that share them, and an operator that keeps what it gets."""

    def __init__(self, server: Server, client: Client) -> None:
        self.server = server
        self.client = client
        self.got: list[Message] = []
        self.now = T0
        self.pods: FakeSource[SharedPod] = FakeSource()
        self.nodes: FakeSource[Node] = FakeSource()
        self.events: FakeSource[Event] = FakeSource()
        self.counters: dict[str, FakeSource[Any]] = {
            "pods": self.pods,
            "nodes": self.nodes,
            "events": self.events,
        }
        for name, source in self.counters.items():
            source.version = STARTS[name]
        self.usage = UsageListener(UsageConfig(), "osmo", self._hostname)
        self.hostnames = Hostnames(self.usage.node_changed)
        self.reporters: list[Reporter[Any]] = []

    def _hostname(self, node: str) -> str | None:
        return self.hostnames.get(node)

    def works(self) -> list[Coroutine[Any, Any, object]]:
        """What has to run."""
        informers = [
            self._watch(self.pods, self._reporter(WorkflowListener()), self._reporter(self.usage)),
            self._watch(self.nodes, self.hostnames, self._reporter(NodeListener())),
            self._watch(self.events, self._reporter(EventListener(EventConfig(), "osmo"))),
        ]
        followers = [reporter.follow_epochs() for reporter in self.reporters]
        return [self.receive(), *followers, *(informer.run() for informer in informers)]

    def _reporter(self, listener: Listener[Any]) -> Reporter[Any]:
        self.reporters.append(Reporter(listener, self.client, clock=lambda: self.now))
        return self.reporters[-1]

    def _watch(self, source: FakeSource[Any], *handlers: Handler[Any]) -> Informer[Any]:
        branches = [Branch(handler) for handler in handlers]
        informer: Informer[Any] = Informer(source, Fanout(branches), INSTANT)
        for reporter in handlers:
            if isinstance(reporter, Reporter):
                reporter.read_from(informer.store.values)
        return informer

    async def receive(self) -> None:
        async for incoming in self.server:
            self.got += incoming.messages
            incoming.acknowledge()

    async def flush(self) -> None:
        """Let what is due be reported, and acknowledged."""
        self.now += UsageConfig().flush_interval
        await self.reporters[1].report(self.usage.due)
        await self.client.flush()

    def ends(self, epoch: int) -> set[str]:
        """The kinds of which everything was reported with this epoch."""
        ends = [message for message in self.got if message.version.epoch == epoch]
        kinds = {message.key for message in ends if message.kind == "snapshot_end"}
        return kinds | {message.kind for message in ends if message.kind == "node_inventory"}


@contextlib.asynccontextmanager
async def world() -> AsyncIterator[World]:
    """A cluster with two pods, two nodes and an event, all of it reported."""
    async with (
        listen("memory://") as server,
        connect(server.url, backend="b", config=ClientConfig(drain_timeout=0.0)) as client,
    ):
        w = World(server, client)
        for name in ("a", "b"):
            w.pods.add(pod(name))
            w.nodes.add(make_node(f"n{name}"))
        w.events.add(make_event("a"))
        tasks = [asyncio.create_task(work) for work in w.works()]
        try:
            await eventually(lambda: w.ends(w.client.epoch) == ALL)
            await eventually(lambda: any(message.kind == "pod_event" for message in w.got))
            yield w
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


ALL = {"update_pod", "update_node_usage", "node_inventory"}


def check(w: World) -> None:
    """Every revision is one of its own resource's counter, within what that has counted so far; the
    totals of nodes and what is noted of pods have counts of their own."""
    for message in w.got:
        resource = RESOURCE_OF.get(message.kind)
        if message.kind == "snapshot_end":
            resource = "pods"
        revision = message.version.revision
        if resource is None:
            assert 0 < revision < 100
        else:
            assert STARTS[resource] - 100 <= revision <= STARTS[resource] + 100, message


async def test_counters_far_apart() -> None:
    """What happens to one resource moves the revisions of no other."""
    async with world() as w:
        w.pods.modify(pod("a", "n2"))
        w.nodes.modify(make_node("na", labels={"kubernetes.io/hostname": "other"}))
        w.events.add(make_event("b", uid="u2"))
        await eventually(lambda: w.hostnames.get("na") == "other")
        await eventually(lambda: len([m for m in w.got if m.kind == "pod_event"]) == 2)
        await eventually(lambda: len([m for m in w.got if m.kind == "update_node"]) == 3)
        await w.flush()
        w.nodes.expire()
        await eventually(lambda: len([m for m in w.got if m.kind == "node_inventory"]) == 2)
        check(w)
        inventories = [m.version.revision for m in w.got if m.kind == "node_inventory"]
        assert inventories == [502, 504]


@pytest.mark.parametrize("restored", STARTS)
async def test_one_counter_goes_back(restored: str) -> None:
    """After the restore of one store everything is reported with a new epoch: of each resource with
    its own revisions, low where they went back and as before where they did not."""
    async with world() as w:
        before = w.client.epoch
        source = w.counters[restored]
        kept = list(source._objects.values())[:1]
        low = [_old(item, STARTS[restored] - 50) for item in kept]
        source.restore(low, STARTS[restored] - 40)
        await eventually(lambda: w.client.epoch > before and w.ends(w.client.epoch) == ALL)
        await w.flush()
        check(w)
        epoch = w.client.epoch
        new = [message for message in w.got if message.version.epoch == epoch]
        for kind, resource in RESOURCE_OF.items():
            revisions = [message.version.revision for message in new if message.kind == kind]
            back = resource == restored
            assert all((revision < STARTS[resource]) == back for revision in revisions)
        inventory = next(message for message in new if message.kind == "node_inventory")
        nodes = [message.version for message in new if message.kind == "update_node"]
        assert all(astuple(version) <= astuple(inventory.version) for version in nodes)
        tasks = {
            m.key
            for m in new
            if m.kind == "update_pod" and not decode_body(m.kind, m.payload).deleted
        }
        assert tasks == ({"w/a/0"} if restored == "pods" else {"w/a/0", "w/b/0"})


def _old(item: Any, version: int) -> Any:
    metadata = msgspec.structs.replace(item.metadata, resource_version=str(version))
    return msgspec.structs.replace(item, metadata=metadata)


@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=8))
def test_totals_have_a_count_of_their_own(versions: list[int]) -> None:
    """Whatever the versions of pods are, rising or not, the reports of a node's usage are numbered
    one by one, and a snapshot's as well."""
    listener = UsageListener(UsageConfig(), "osmo", lambda _: None)
    listener.restart(1)
    list(listener.snapshot([], versions[0], T0))
    now, numbers = T0, []
    for number, version in enumerate(versions, 1):
        listener.on_change(None, make_pod(str(number), cores(1), rv=version), version, now)
        now += UsageConfig().flush_interval
        numbers += [message.version.revision for message in listener.due(now)]
    listener.restart(2)
    first, _ = listener.snapshot([make_pod("1", cores(1))], min(versions), now)
    assert [*numbers, first.version.revision] == list(range(1, len(versions) + 2))
