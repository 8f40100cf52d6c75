"""What a listener may do on a real API server: `rbac.yaml` is enough, and no part is needless."""

import asyncio
import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from osmo_listener.config import ListenerConfig
from osmo_listener.errors import ForbiddenError, ListenerError, NotFoundError
from osmo_listener.listeners.node import NodeConfig
from osmo_listener.listeners.registry import ListenersConfig
from osmo_listener.service import run_listener
from osmo_simulator.api_server import ApiError, RealCluster, kubectl
from osmo_transport import Greeting, ProducerState, Server, listen
from tests.helpers import eventually

pytestmark = pytest.mark.cluster

RBAC = Path(__file__).parents[2] / "libs" / "listener" / "rbac.yaml"
NODE = {
    "metadata": {"name": "n1", "labels": {"kubernetes.io/hostname": "host-1"}},
    "status": {"conditions": [{"type": "Ready", "status": "True"}]},
}
GROUP = "/apis/rbac.authorization.k8s.io/v1"


class Granted:
    """The rights of `rbac.yaml`, or a part of them, for the service account that it makes."""

    def __init__(self, cluster: RealCluster, folder: Path) -> None:
        self._cluster = cluster
        self._admin = folder / "admin"
        self._admin.write_text(cluster.kubeconfig())
        self.kubeconfig = folder / "listener"

    def apply(self, text: str) -> None:
        """As `kubectl apply -f -`."""
        self._kubectl("apply", "-f", "-", given=text)

    def log_in(self) -> None:
        """Write the kubeconfig of the service account."""
        token = self._kubectl("create", "token", "osmo-listener", "--namespace", "osmo").strip()
        self.kubeconfig.write_text(replace(self._cluster, token=token).kubeconfig())

    def without(self, role: str, number: int) -> None:
        """Take a rule away from a role."""
        for each in yaml.safe_load_all(RBAC.read_text()):
            if f"{each['kind']}/{each['metadata']['name']}" == role:
                less = deepcopy(each)
                del less["rules"][number]
                self.apply(yaml.safe_dump(less))

    def may(self, method: str, path: str) -> bool:
        """Whether the API server knows by now that the account has this right."""
        config = yaml.safe_load(self.kubeconfig.read_text())
        asking = replace(self._cluster, token=config["users"][0]["user"]["token"])
        try:
            asking.request(method, path, {"metadata": {}} if method == "PATCH" else None)
        except ApiError as exc:
            return exc.code != 403
        return True

    def _kubectl(self, *arguments: str, given: str | None = None) -> str:
        program = kubectl()
        assert program is not None
        command = [program, "--kubeconfig", str(self._admin), *arguments]
        done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def granted(real_cluster: RealCluster, tmp_path: Path) -> Iterator[Granted]:
    """All of them, on a cluster with a node and a namespace without pods."""
    real_cluster.clear()
    real_cluster.request("POST", "/api/v1/nodes", NODE)
    real_cluster.request("PATCH", "/api/v1/nodes/n1/status", NODE)
    granted = Granted(real_cluster, tmp_path)
    granted.apply(RBAC.read_text())
    granted.log_in()
    yield granted
    for kind in ("clusterroles", "clusterrolebindings"):
        for name in ("osmo-listener", "osmo-listener-label"):
            real_cluster.request("DELETE", f"{GROUP}/{kind}/{name}")


@asynccontextmanager
async def listening(
    granted: Granted, *listeners: str, label: bool = False
) -> AsyncIterator[Server]:
    """A listener service with the rights of its account; leaving raises what ended it."""
    stop = asyncio.Event()
    async with listen("memory://") as server, asyncio.TaskGroup() as tasks:
        config = ListenerConfig(
            connect=server.url,
            kubeconfig=granted.kubeconfig,
            listeners=listeners,
            rules=ListenersConfig(node=NodeConfig(label=label)),
        )
        tasks.create_task(run_listener(config, stop))
        yield server
        stop.set()


async def kinds_of(server: Server, *wanted: str) -> None:
    """Acknowledge what comes until every wanted kind was among it."""
    missing = set(wanted)
    async with asyncio.timeout(20):
        while missing:
            for incoming in await server.receive():
                missing -= set(incoming.kinds)
                incoming.acknowledge()


async def test_they_are_enough(granted: Granted, real_cluster: RealCluster) -> None:
    """Every listener reports, and the node gets its label."""
    everything = ("workflow", "node", "usage", "event")
    async with listening(granted, *everything, label=True) as server:
        await kinds_of(server, "heartbeat", "snapshot_end", "update_node", "node_inventory")

        def verified() -> bool:
            labels = real_cluster.request("GET", "/api/v1/nodes/n1")["metadata"]["labels"]
            return bool(labels.get("osmo.nvidia.com/verified") == "True")

        await eventually(verified)


@pytest.mark.parametrize(
    ("rights", "path", "listener", "words"),
    [
        (
            [("ClusterRole/osmo-listener", 0)],
            "/api/v1/namespaces/kube-system",
            "event",
            'namespaces "kube-system" is forbidden.*--cluster-uid',
        ),
        (
            [("ClusterRole/osmo-listener", 1)],
            "/api/v1/nodes",
            "node",
            "nodes is forbidden.*get, list and watch",
        ),
        (
            [("ClusterRole/osmo-listener", 1)],
            "/api/v1/nodes",
            "usage",
            "nodes is forbidden.*get, list and watch",
        ),
        (
            [("ClusterRole/osmo-listener", 2)],
            "/api/v1/pods",
            "usage",
            "pods is forbidden.*at the cluster scope.*get, list and watch",
        ),
        (
            [("Role/osmo-listener", 0)],
            "/api/v1/namespaces/osmo/events",
            "event",
            "events is forbidden.*get, list and watch",
        ),
        (
            [("Role/osmo-listener", 0), ("ClusterRole/osmo-listener", 2)],
            "/api/v1/namespaces/osmo/pods",
            "workflow",
            "pods is forbidden.*get, list and watch",
        ),
    ],
)
async def test_what_is_missing_is_named(
    granted: Granted, rights: list[tuple[str, int]], path: str, listener: str, words: str
) -> None:
    """The service ends at start and says which right on what it needs; no operator has heard of
    it."""
    for role, rule in rights:
        granted.without(role, rule)
    await eventually(lambda: not granted.may("GET", path))

    error = await fails_unheard(granted.kubeconfig, listener)
    assert isinstance(error, ForbiddenError)
    assert re.search(words, str(error)), str(error)


async def test_a_namespace_that_is_not_there_is_named(
    real_cluster: RealCluster, tmp_path: Path
) -> None:
    """Likewise, to one who may know."""
    kubeconfig = tmp_path / "admin"
    kubeconfig.write_text(real_cluster.kubeconfig())
    error = await fails_unheard(kubeconfig, "workflow", namespace="nowhere")
    assert isinstance(error, NotFoundError)
    assert "there is no namespace 'nowhere'" in str(error)


async def test_the_missing_right_to_label_is_named(
    granted: Granted, caplog: pytest.LogCaptureFixture
) -> None:
    """Everything else goes on."""
    granted.without("ClusterRole/osmo-listener-label", 0)
    await eventually(lambda: not granted.may("PATCH", "/api/v1/nodes/n1"))
    async with listening(granted, "node", label=True) as server:
        await kinds_of(server, "update_node", "node_inventory")
        await eventually(lambda: "grant this user patch on them" in caplog.text)


async def fails_unheard(kubeconfig: Path, listener: str, namespace: str = "osmo") -> Exception:
    """What ends a listener at its start, of which no operator hears."""
    heard: list[Greeting] = []

    async def admit(greeting: Greeting) -> ProducerState:
        heard.append(greeting)
        return ProducerState("queue", 1, 0)

    async with listen("memory://", admit=admit) as server:
        config = ListenerConfig(
            connect=server.url, kubeconfig=kubeconfig, listeners=(listener,), namespace=namespace
        )
        with pytest.raises((ExceptionGroup, ListenerError)) as refused:
            async with asyncio.timeout(20):
                await run_listener(config, asyncio.Event())
    assert heard == []
    (error,) = leaves(ExceptionGroup("all", [refused.value]))
    return error


def leaves(group: ExceptionGroup[Exception]) -> list[Exception]:
    """The errors in a group of groups."""
    inner = [leaves(e) if isinstance(e, ExceptionGroup) else [e] for e in group.exceptions]
    return [error for errors in inner for error in errors]
