"""The two kinds of cluster that the informer's contract is held to, with the same verbs."""

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from osmo_listener.kubernetes.credentials import Credentials
from osmo_listener.kubernetes.kubeconfig import load_kubeconfig
from osmo_simulator.api_server import NAMESPACE, RealCluster
from osmo_simulator.builders import make_pod
from osmo_simulator.server import Simulator
from tests.helpers import eventually, stop_listening

PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"


def body(name: str, labels: Mapping[str, str], padding: int, node: str) -> dict[str, Any]:
    return make_pod(name, namespace=NAMESPACE, labels=dict(labels), node=node, padding=padding)


class Cluster(ABC):
    """A cluster whose namespace `osmo` is empty at first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @abstractmethod
    def kubeconfig(self) -> str:
        """Its kubeconfig, as text."""

    @abstractmethod
    async def create(
        self,
        *names: str,
        labels: Mapping[str, str] | None = None,
        padding: int = 0,
        node: str = "",
    ) -> None:
        """Create pods, bound to `node` if that is not empty."""

    @abstractmethod
    async def set_phase(self, name: str, phase: str) -> None:
        """Patch a pod's status."""

    @abstractmethod
    async def delete(self, name: str) -> None:
        """Delete a pod at once."""

    @abstractmethod
    async def pods(self) -> dict[str, tuple[str, str]]:
        """The truth: each pod's uid and resource version."""

    @property
    @abstractmethod
    def port(self) -> int:
        """Where it listens on 127.0.0.1."""

    def credentials(self, *, port: int | None = None, token: str = "") -> Credentials:
        """The way to it, or with another port or token."""
        text = self.kubeconfig().replace(f":{self.port}", f":{port or self.port}")
        path = self._folder / "kubeconfig"
        path.write_text(text.replace(self.token, token) if token else text)
        return load_kubeconfig(path)

    @property
    @abstractmethod
    def token(self) -> str:
        """The token that its kubeconfig holds."""


class Simulated(Cluster):
    """The simulator."""

    def __init__(self, folder: Path, simulator: Simulator) -> None:
        super().__init__(folder)
        self.simulator = simulator
        self._cluster = simulator.cluster

    def kubeconfig(self) -> str:
        return self.simulator.kubeconfig()

    @property
    def port(self) -> int:
        return urlsplit(self.simulator.url).port or 0

    @property
    def token(self) -> str:
        return self.simulator.config.token or ""

    async def create(
        self,
        *names: str,
        labels: Mapping[str, str] | None = None,
        padding: int = 0,
        node: str = "",
    ) -> None:
        for name in names:
            self._cluster.create("pods", body(name, labels or {}, padding, node))

    async def set_phase(self, name: str, phase: str) -> None:
        self._cluster.patch_status("pods", name, {"phase": phase}, namespace=NAMESPACE)

    async def delete(self, name: str) -> None:
        self._cluster.delete("pods", name, namespace=NAMESPACE)

    async def pods(self) -> dict[str, tuple[str, str]]:
        items = self._cluster.list("pods", namespace=NAMESPACE)
        return {each["metadata"]["name"]: _identity(each) for each in items}


class Real(Cluster):
    """A real API server; requests run in a thread, so that the informer goes on meanwhile."""

    def __init__(self, folder: Path, cluster: RealCluster) -> None:
        super().__init__(folder)
        self._cluster = cluster

    def kubeconfig(self) -> str:
        return self._cluster.kubeconfig()

    @property
    def port(self) -> int:
        return urlsplit(self._cluster.url).port or 0

    @property
    def token(self) -> str:
        return self._cluster.token

    async def create(
        self,
        *names: str,
        labels: Mapping[str, str] | None = None,
        padding: int = 0,
        node: str = "",
    ) -> None:
        def work() -> None:
            with self._cluster.session() as session:
                for name in names:
                    session.request("POST", PODS, body(name, labels or {}, padding, node))

        await asyncio.to_thread(work)

    async def set_phase(self, name: str, phase: str) -> None:
        await self._request("PATCH", f"{PODS}/{name}/status", {"status": {"phase": phase}})

    async def delete(self, name: str) -> None:
        await self._request("DELETE", f"{PODS}/{name}?gracePeriodSeconds=0")

    async def pods(self) -> dict[str, tuple[str, str]]:
        listed = await self._request("GET", PODS)
        return {each["metadata"]["name"]: _identity(each) for each in listed["items"]}

    async def _request(self, method: str, path: str, content: object = None) -> Any:
        return await asyncio.to_thread(self._cluster.request, method, path, content)


def _identity(pod: Mapping[str, Any]) -> tuple[str, str]:
    return pod["metadata"]["uid"], pod["metadata"]["resourceVersion"]


class Proxy:
    """A TCP proxy in front of a cluster, whose connections can be broken. Of several ports each
    connection gets the next one that accepts it, as from a load balancer."""

    def __init__(self, *ports: int) -> None:
        self.upstreams = list(ports)
        """Where connections go from now on; none: they are cut."""
        self._connected = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    def drop(self) -> None:
        """Break every connection."""
        for writer in self._writers:
            writer.transport.abort()

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[Self]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            await stop_listening(server)
            self.drop()
            await eventually(lambda: not self._writers)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far = await self._connect()
        if far is None:
            writer.transport.abort()
            return
        far_reader, far_writer = far
        pair = {writer, far_writer}
        self._writers |= pair
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_pump(reader, far_writer))
                tasks.create_task(_pump(far_reader, writer))
        finally:
            for each in pair:
                each.transport.abort()
            self._writers -= pair

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        for _ in tuple(self.upstreams):
            self._connected += 1
            port = self.upstreams[self._connected % len(self.upstreams)]
            with contextlib.suppress(OSError):
                return await asyncio.open_connection("127.0.0.1", port)
        return None


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.transport.abort()
