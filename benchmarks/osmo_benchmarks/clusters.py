"""Clusters whose pods are reported: the simulator, or a real API server where there is one."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, ParamSpec

from osmo_benchmarks.errors import ProgramError
from osmo_benchmarks.systems import NAMESPACE
from osmo_simulator import api_server
from osmo_simulator.api_server import ApiError, RealCluster, Session
from osmo_simulator.builders import TYPICAL_PADDING, make_node, make_pod, task_labels
from osmo_simulator.server import Simulator

PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
MANY = 1_000
"""From so many on, pods of a real API server are copied within etcd: it takes milliseconds to
create each."""

Status = dict[str, Any]
P = ParamSpec("P")


class Pod(NamedTuple):
    """A task's pod."""

    workflow: str
    task: str

    @property
    def name(self) -> str:
        """Of the pod in its namespace."""
        return f"{self.workflow}-{self.task}"

    @property
    def key(self) -> str:
        """As records have it."""
        return f"{self.workflow}/{self.task}"


class Cluster(ABC):
    """A cluster that its owner changes, which has the namespace `osmo`. A change that is refused
    raises `ProgramError`."""

    kubeconfig: Path

    @abstractmethod
    async def create(self, pods: Sequence[Pod]) -> None:
        """Create pending pods of 14 kB. Many have workflows and tasks whose names are of one length
        each."""

    @abstractmethod
    async def set_status(self, pods: Sequence[Pod], status: Status) -> None:
        """Patch the status of pods, at once as far as the cluster can."""

    @abstractmethod
    async def clear(self) -> None:
        """Delete all pods."""


class SimulatedCluster(Cluster):
    """In this process, which does little else meanwhile."""

    def __init__(self, simulator: Simulator, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        self._cluster = simulator.cluster
        self._pods: list[Pod] = []

    async def create(self, pods: Sequence[Pod]) -> None:
        for each in pods:
            self._cluster.create("pods", _pod(each))
        self._pods += pods

    async def set_status(self, pods: Sequence[Pod], status: Status) -> None:
        for each in pods:
            self._cluster.patch_status("pods", each.name, status, namespace=NAMESPACE)

    async def clear(self) -> None:
        for each in self._pods:
            self._cluster.delete("pods", each.name, namespace=NAMESPACE)
        self._pods.clear()

    def create_nodes(self, count: int) -> None:
        """Ready nodes."""
        for number in range(count):
            self._cluster.create("nodes", make_node(f"node-{number}"))


class ApiServerCluster(Cluster):
    """A real API server, over one connection."""

    def __init__(self, cluster: RealCluster, session: Session, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        self._cluster = cluster
        self._session = session

    async def create(self, pods: Sequence[Pod]) -> None:
        await self._call(self._create, pods)

    def _create(self, pods: Sequence[Pod]) -> None:
        created = len(pods) if len(pods) < MANY else 1
        for each in pods[:created]:
            self._session.request("POST", PODS, _pod(each))
        if copied := pods[created:]:
            first = pods[0]
            copies = (
                {first.name: each.name, first.workflow: each.workflow, first.task: each.task}
                for each in copied
            )
            self._cluster.copy_pod(first.name, copies)

    async def set_status(self, pods: Sequence[Pod], status: Status) -> None:
        await self._call(self._set_status, pods, status)

    def _set_status(self, pods: Sequence[Pod], status: Status) -> None:
        for each in pods:
            self._session.request("PATCH", f"{PODS}/{each.name}/status", {"status": status})

    async def clear(self) -> None:
        await self._call(self._cluster.clear)

    async def _call(self, request: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            await asyncio.to_thread(request, *args, **kwargs)
        except (ApiError, HTTPException, OSError) as exc:
            raise ProgramError(f"the API server refused a change: {exc}") from exc


def _pod(pod: Pod, padding: int = TYPICAL_PADDING) -> dict[str, Any]:
    labels = task_labels(pod.workflow, pod.task)
    return make_pod(pod.name, namespace=NAMESPACE, labels=labels, padding=padding)


def has_api_server() -> bool:
    """Whether there is a real one on this machine."""
    return api_server.assets() is not None


@asynccontextmanager
async def simulated() -> AsyncIterator[SimulatedCluster]:
    """An empty simulated cluster."""
    with TemporaryDirectory(prefix="osmo-bench-cluster-") as folder:
        async with Simulator() as simulator:
            yield SimulatedCluster(simulator, _write(folder, simulator.kubeconfig(NAMESPACE)))


@asynccontextmanager
async def real() -> AsyncIterator[ApiServerCluster]:
    """An empty cluster of a real API server.

    Raises:
        ProgramError: it does not start.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(prefix="osmo-bench-cluster-"))
        try:
            cluster = stack.enter_context(api_server.start())
        except (RuntimeError, OSError) as exc:
            raise ProgramError(f"the API server does not start: {exc}") from exc
        kubeconfig = _write(folder, cluster.kubeconfig())
        yield ApiServerCluster(cluster, stack.enter_context(cluster.session()), kubeconfig)


@asynccontextmanager
async def best() -> AsyncIterator[Cluster]:
    """A real one where there is one."""
    async with real() if has_api_server() else simulated() as cluster:
        yield cluster


def _write(folder: str, kubeconfig: str) -> Path:
    path = Path(folder) / "kubeconfig"
    path.touch(mode=0o600)
    path.write_text(kubeconfig)
    return path
