"""Two API servers of one cluster behind one address, on a real etcd: what a rolling restart shows,
and a server that knows less than the one before it."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from osmo_listener.informer import Change, ChangeType, Informer, Unstructured, watch
from osmo_listener.kubernetes.config import Resource, resource_path
from osmo_listener.kubernetes.credentials import Credentials
from osmo_listener.kubernetes.kubeconfig import load_kubeconfig
from osmo_listener.kubernetes.listwatch import ListWatch
from osmo_listener.listeners.objects import Node, Pod
from osmo_simulator import api_server
from osmo_simulator.api_server import NAMESPACE, ApiServer, RealCluster
from osmo_simulator.builders import make_node, make_pod
from tests.helpers import eventually
from tests.listener.clusters import Proxy
from tests.listener.widgets import PATH, WIDGETS, Widget, define, widget

pytestmark = pytest.mark.cluster

PODS = resource_path("v1/pods", NAMESPACE)
NODES = resource_path("v1/nodes")
MAPS = resource_path("v1/configmaps", NAMESPACE)
MERGE = {"content_type": "application/merge-patch+json"}
PAUSE = 0.02
"""Seconds between two changes."""
GRACE = 2.0
"""Seconds from the request to end until a server is killed; in a cluster some thirty."""
LONGEST = 120.0
"""Seconds that a test waits for anything: longer than any delay that follows an error."""


class Servers:
    """Two API servers of one cluster, and the address in front of them."""

    def __init__(self, first: ApiServer, second: ApiServer, folder: Path) -> None:
        self.all = (first, second)
        self.proxy = Proxy(first.port, second.port)
        self._kubeconfig = folder / "config"

    def kubeconfig(self) -> Path:
        """That leads to the address of both."""
        server = self.all[0]
        text = server.cluster.kubeconfig().replace(f":{server.port}", f":{self.proxy.port}")
        self._kubeconfig.write_text(text)
        return self._kubeconfig

    def credentials(self) -> Credentials:
        return load_kubeconfig(self.kubeconfig())

    def other(self, server: ApiServer) -> RealCluster:
        """The cluster as the other one shows it."""
        first, second = self.all
        return (second if server is first else first).cluster


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[ApiServer, ApiServer]]:
    """Two servers on one etcd, with a pod, a node and a map of settings."""
    if api_server.assets() is None:
        pytest.skip(api_server.MISSING)
    with api_server.backed_up() as cluster:
        first, second = cluster.server, cluster.another()
        second.start()
        try:
            yield first, second
        finally:
            second.stop()


@pytest.fixture
async def servers(running: tuple[ApiServer, ApiServer], tmp_path: Path) -> AsyncIterator[Servers]:
    """Both of them, behind one address; nothing else is in the cluster."""
    servers = Servers(*running, tmp_path)
    cluster = running[0].cluster
    await asyncio.to_thread(cluster.clear)
    await asyncio.to_thread(cluster.request, "DELETE", MAPS)
    async with servers.proxy.listening():
        yield servers


class Follower:
    """An informer with the default settings, and when it was told of which version."""

    def __init__(self, credentials: Credentials, path: str, kind: type[Any]) -> None:
        self.source: ListWatch[Any] = ListWatch(credentials, Resource(path=path, type=kind))
        self.informer: Informer[Any] = Informer(self.source, self)
        self.path = path
        self.regressions = 0
        self.delays: list[float] = []
        """Seconds from the moment at which a change was written until it was told."""
        self._written: dict[int, float] = {}
        self._told: dict[int, float] = {}

    def wrote(self, version: int, at: float) -> None:
        """A change was written at a moment of `time.monotonic`."""
        self._written[version] = at
        self._match(version)

    @property
    def waits(self) -> bool:
        """Whether a change was written that it was not told of."""
        return bool(self._written)

    async def changed(self, changes: Sequence[Change[Any]]) -> None:
        now = time.monotonic()
        for change in changes:
            self._told[change.resource_version] = now
            self._match(change.resource_version)

    async def synced(self, resource_version: int, count: int) -> None:
        """What a list shows was told; of several changes of one object only the last one was."""
        now = time.monotonic()
        for version in [each for each in self._written if each <= resource_version]:
            self._told.setdefault(version, now)
            self._match(version)

    async def regressed(self, resource_version: int) -> None:
        self.regressions += 1

    def _match(self, version: int) -> None:
        if version in self._written and version in self._told:
            self.delays.append(self._told.pop(version) - self._written.pop(version))


@contextlib.asynccontextmanager
async def following(servers: Servers) -> AsyncIterator[list[Follower]]:
    """A pod in protobuf, a node in protobuf, and settings in JSON."""
    cluster = servers.all[0].cluster
    for path, item in (
        (PODS, make_pod("a", namespace=NAMESPACE, labels={})),
        (NODES, make_node("a")),
        (MAPS, {"metadata": {"name": "a"}}),
    ):
        await asyncio.to_thread(cluster.request, "POST", path, item)
    followers = [
        Follower(servers.credentials(), path, kind)
        for path, kind in ((PODS, Pod), (NODES, Node), (MAPS, Unstructured))
    ]
    async with asyncio.TaskGroup() as tasks:
        work = [tasks.create_task(each.informer.run()) for each in followers]
        for each in followers:
            await each.informer.synced()
        yield followers
        for task in work:
            task.cancel()
    for each in followers:
        each.source.close()


async def keep_writing(
    cluster: RealCluster, followers: Sequence[Follower], enough: asyncio.Event
) -> None:
    """Change each object in turns until it is enough, and know of each change that was made."""
    with cluster.session() as session:
        for number in itertools.count():
            if enough.is_set():
                return
            for each in followers:
                patch = {"metadata": {"annotations": {"number": str(number)}}}
                target = f"{each.path}/a"
                answer = await asyncio.to_thread(session.request, "PATCH", target, patch, **MERGE)
                each.wrote(int(answer["metadata"]["resourceVersion"]), time.monotonic())
                await asyncio.sleep(PAUSE)


async def test_a_rolling_restart_blinds_nobody(servers: Servers) -> None:
    """One server after the other ends and comes back while everything changes: each informer is
    told of all, and none takes a server that is behind for a cluster that was restored."""
    async with following(servers) as followers:
        for server in servers.all:
            enough = asyncio.Event()
            work = keep_writing(servers.other(server), followers, enough)
            writing = asyncio.create_task(work)
            await asyncio.sleep(10 * PAUSE)
            began = time.monotonic()
            await asyncio.to_thread(server.drain, GRACE)
            await asyncio.to_thread(server.start)
            lasted = time.monotonic() - began
            enough.set()
            await writing
            await eventually(lambda: not any(each.waits for each in followers), LONGEST)
            for each in followers:
                print(  # noqa: T201
                    f"{each.path}: {len(each.delays)} changes within {lasted:.1f} s,"
                    f" the last one told after {max(each.delays):.3f} s,"
                    f" {each.informer.status().lists} lists, {each.informer.status().failures}"
                )
                each.delays.clear()
        for each in followers:
            assert each.regressions == 0
            listed = servers.all[0].cluster.request("GET", each.path)
            known = {
                item.metadata.name: item.metadata.resource_version
                for item in each.informer.store.values()
            }
            assert known == {
                item["metadata"]["name"]: item["metadata"]["resourceVersion"]
                for item in listed["items"]
            }


async def test_a_deletion_that_nobody_saw_is_found(servers: Servers) -> None:
    """By the list that follows where the history is no longer there to go on with: here on a server
    that has started since."""
    first, second = servers.all
    cluster = first.cluster
    await asyncio.to_thread(define, cluster)
    for name, width in (("stays", 1), ("goes", 2)):
        await asyncio.to_thread(cluster.request, "POST", PATH, widget(name, width, {}))
    servers.proxy.upstreams = [first.port]
    async with watch(WIDGETS, Widget, kubeconfig=servers.kubeconfig()) as widgets:
        changes = aiter(widgets)
        told = [await anext(changes), await anext(changes)]
        assert {change.type for change in told} == {ChangeType.ADDED}
        servers.proxy.upstreams = []
        servers.proxy.drop()
        await asyncio.to_thread(cluster.request, "DELETE", f"{PATH}/goes")
        await asyncio.to_thread(second.stop)
        await asyncio.to_thread(second.start)
        servers.proxy.upstreams = [second.port]
        async with asyncio.timeout(LONGEST):
            change = await anext(changes)
        assert (change.type, change.new) == (ChangeType.VANISHED, None)
        assert change.old is not None
        assert (change.old.metadata.name, change.old.spec.width) == ("goes", 2)
        assert [each.metadata.name for each in widgets.store.values()] == ["stays"]
