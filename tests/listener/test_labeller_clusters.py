"""The labeller on an API server, simulated and real: what becomes of the nodes."""

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from osmo_listener.informer import Informer
from osmo_listener.informer.store import Change
from osmo_listener.kubernetes.config import HttpConfig, Resource
from osmo_listener.kubernetes.credentials import Credentials
from osmo_listener.kubernetes.kubeconfig import load_kubeconfig
from osmo_listener.kubernetes.listwatch import ListWatch
from osmo_listener.kubernetes.patching import Patcher
from osmo_listener.labeller import LabellerConfig, NodeLabeller
from osmo_listener.listeners import NodeListener
from osmo_listener.listeners.objects import Node
from osmo_simulator.api_server import RealCluster
from osmo_simulator.faults import AnyFault, Cut, Drop, Fail, Hang, Slow, Throttle
from osmo_transport.backoff import BackoffConfig
from osmo_transport.message import Message
from tests.helpers import eventually
from tests.listener.clusters import Simulated
from tests.listener.harness import QUICK
from tests.listener.labels import LABEL, PREFIX, at_work, settled
from tests.listener_rules.nodes import make_node

NODES = "/api/v1/nodes"
MERGE = "application/merge-patch+json"
SOON = LabellerConfig(
    backoff=BackoffConfig(base=0.01, maximum=0.02, healthy_after=0.0), forbidden_delay=0.01
)
IMPATIENT = HttpConfig(head_timeout=0.1, body_timeout=0.1)


class Nodes(ABC):
    """The nodes of a cluster that has none at first."""

    credentials: Credentials

    @abstractmethod
    async def create(self, name: str, *, cordoned: bool = False) -> str:
        """Create a node; returns its uid."""

    @abstractmethod
    async def patch(self, name: str, patch: dict[str, Any]) -> None:
        """Merge a patch into a node."""

    @abstractmethod
    async def delete(self, name: str) -> None:
        """Delete a node."""

    @abstractmethod
    async def labels(self, name: str) -> dict[str, str]:
        """The labels of a node."""


class SimulatedNodes(Nodes):
    """Those of the simulator."""

    def __init__(self, simulated: Simulated) -> None:
        self.credentials = simulated.credentials()
        self._cluster = simulated.simulator.cluster

    async def create(self, name: str, *, cordoned: bool = False) -> str:
        made = self._cluster.create("nodes", _body(name, cordoned))
        return str(made["metadata"]["uid"])

    async def patch(self, name: str, patch: dict[str, Any]) -> None:
        self._cluster.patch("nodes", name, patch, kind=MERGE)

    async def delete(self, name: str) -> None:
        self._cluster.delete("nodes", name)

    async def labels(self, name: str) -> dict[str, str]:
        return dict(self._cluster.get("nodes", name)["metadata"].get("labels", {}))


class RealNodes(Nodes):
    """Those of a real API server."""

    def __init__(self, cluster: RealCluster, folder: Path) -> None:
        path = folder / "kubeconfig"
        path.write_text(cluster.kubeconfig())
        self.credentials = load_kubeconfig(path)
        self._request = cluster.request

    async def create(self, name: str, *, cordoned: bool = False) -> str:
        made = await asyncio.to_thread(self._request, "POST", NODES, _body(name, cordoned))
        return str(made["metadata"]["uid"])

    async def patch(self, name: str, patch: dict[str, Any]) -> None:
        await asyncio.to_thread(
            self._request, "PATCH", f"{NODES}/{name}", patch, content_type=MERGE
        )

    async def delete(self, name: str) -> None:
        await asyncio.to_thread(self._request, "DELETE", f"{NODES}/{name}")

    async def labels(self, name: str) -> dict[str, str]:
        got = await asyncio.to_thread(self._request, "GET", f"{NODES}/{name}")
        return dict(got["metadata"].get("labels", {}))


def _body(name: str, cordoned: bool) -> dict[str, Any]:
    labels = {"kubernetes.io/hostname": name}
    return {"metadata": {"name": name, "labels": labels}, "spec": {"unschedulable": cordoned}}


@pytest.fixture(params=["simulator", pytest.param("real", marks=pytest.mark.cluster)])
def nodes(request: pytest.FixtureRequest, tmp_path: Path) -> Nodes:
    """Each kind of cluster."""
    if request.param == "simulator":
        return SimulatedNodes(request.getfixturevalue("simulated"))
    real: RealCluster = request.getfixturevalue("real_cluster")
    real.clear()
    return RealNodes(real, tmp_path)


class Reports:
    """A handler that makes the reports of a node listener."""

    def __init__(self, listener: NodeListener) -> None:
        self.messages: list[Message] = []
        self._listener = listener
        listener.restart(1)

    async def changed(self, changes: Sequence[Change[Node]]) -> None:
        for change in changes:
            version = change.resource_version
            self.messages += self._listener.on_change(change.old, change.new, version, 0.0)

    async def synced(self, resource_version: int, count: int) -> None: ...

    async def regressed(self, resource_version: int) -> None: ...

    def of(self, name: str) -> int:
        """How many reports there are of a node."""
        return sum(message.key == name for message in self.messages)


@contextlib.asynccontextmanager
async def labelling(
    nodes: Nodes, http: HttpConfig | None = None
) -> AsyncIterator[tuple[NodeLabeller, Reports]]:
    """An informer of nodes, a listener that judges them, and a labeller."""
    credentials = nodes.credentials
    with (
        contextlib.closing(Patcher(credentials, http)) as patcher,
        contextlib.closing(ListWatch(credentials, Resource(path=NODES, type=Node))) as source,
    ):
        labeller = NodeLabeller(patcher, PREFIX, SOON)
        listener = NodeListener(on_verdict=labeller.on_verdict, on_gone=labeller.on_gone)
        reports = Reports(listener)
        informing = asyncio.create_task(Informer(source, reports, QUICK).run())
        try:
            async with at_work(labeller):
                yield labeller, reports
        finally:
            informing.cancel()
            await asyncio.gather(informing, return_exceptions=True)


async def test_the_life_of_a_label(nodes: Nodes) -> None:
    """It follows the verdict and is put right when somebody changes it; what it causes is one more
    report and no further patch, and the other labels stay."""
    await nodes.create("a")
    await nodes.create("b", cordoned=True)
    async with labelling(nodes) as (labeller, reports):
        await eventually(lambda: (reports.of("a"), reports.of("b")) == (2, 2))
        assert await nodes.labels("a") == {"kubernetes.io/hostname": "a", LABEL: "True"}
        assert await nodes.labels("b") == {"kubernetes.io/hostname": "b", LABEL: "False"}
        assert labeller.written == 2
        await nodes.patch("a", {"spec": {"unschedulable": True}})
        await eventually(lambda: reports.of("a") == 4)
        assert (await nodes.labels("a"))[LABEL] == "False"
        await nodes.patch("a", {"metadata": {"labels": {LABEL: "True"}}})
        await eventually(lambda: reports.of("a") == 6)
        assert (await nodes.labels("a"))[LABEL] == "False"
        await nodes.delete("b")
        await eventually(lambda: reports.of("b") == 3)
        await settled(labeller)
        assert (labeller.written, labeller.failures.total()) == (4, 0)


async def test_a_node_that_was_created_again_is_another(nodes: Nodes) -> None:
    """What was found about a node is not written on its successor of the same name."""
    uid = await nodes.create("a")
    with contextlib.closing(Patcher(nodes.credentials)) as patcher:
        labeller = NodeLabeller(patcher, PREFIX, SOON)
        labeller.on_verdict(make_node("a", uid="00000000-0000-0000-0000-000000000000"), False)
        async with at_work(labeller):
            await eventually(lambda: labeller.failures["StatusError"] > 0)
            assert LABEL not in await nodes.labels("a")
            labeller.on_verdict(make_node("a", uid=uid), True)
            await settled(labeller)
        assert (await nodes.labels("a"))[LABEL] == "True"


@pytest.mark.parametrize(
    "fault",
    [
        Fail(code=409),
        Throttle(retry_after=0),
        Fail(code=500),
        Fail(code=503),
        Fail(code=401),
        Fail(code=403),
        Drop(),
        Cut(after_bytes=0),
        Hang(),
        Hang(after_bytes=1),
        Slow(delay=0.01),
    ],
    ids=repr,
)
async def test_trouble(simulated: Simulated, fault: AnyFault) -> None:
    """Whatever happens to three patches, every node has its label in the end."""
    nodes = SimulatedNodes(simulated)
    fields = {name: getattr(fault, name) for name in fault.__struct_fields__}
    simulated.simulator.faults.inject(
        type(fault)(**fields | {"verb": "patch", "resource": "nodes", "count": 3})
    )
    names = [f"n{number}" for number in range(6)]
    for number, name in enumerate(names):
        await nodes.create(name, cordoned=number % 2 == 1)
    async with labelling(nodes, IMPATIENT) as (labeller, reports):
        await eventually(lambda: [reports.of(name) for name in names] == [2] * 6)
        await settled(labeller)
        assert not simulated.simulator.faults.waiting()
        found = [(await nodes.labels(name))[LABEL] for name in names]
        assert found == ["True", "False"] * 3
        assert isinstance(fault, Slow) or labeller.failures.total() >= 3
