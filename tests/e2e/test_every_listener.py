"""Nodes, usage, events and rules, from what kubectl changes to the tables that users query."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import pytest

from osmo_reports.bodies import Taint
from osmo_simulator.api_server import kubectl
from osmo_transport.testing.redis_server import RedisServer
from osmo_worker.store import StateStore, open_store
from osmo_worker.store.kinds.nodes import Node
from tests.e2e.backends import Backend
from tests.e2e.programs import Program, wait_until

BACKEND = "cluster-a"
PATIENCE = 20.0
T = TypeVar("T")


class Tables:
    """What users see in the database."""

    def __init__(self, database: Path) -> None:
        self._database = database

    def read(self, question: Callable[[StateStore], Coroutine[Any, Any, T]]) -> T:
        """The answer of the store."""

        async def ask() -> T:
            async with open_store(f"sqlite:///{self._database}") as store:
                return await question(store)

        return asyncio.run(ask())

    def node(self, name: str) -> Node | None:
        """The row of a node that is there."""
        rows = self.read(lambda store: store.nodes(BACKEND, live_only=True))
        return next((row for row in rows if row.node == name), None)

    def usage(self, name: str) -> dict[str, str]:
        """What the pods on a node ask for."""
        rows = self.read(lambda store: store.node_usage(BACKEND, live_only=True))
        return next((row.usage for row in rows if row.node == name), {})

    def events(self, pod: str) -> list[str]:
        """What was noted of a pod."""
        return [each.message for each in self.read(lambda store: store.pod_events(pod))]

    def status(self, task: str) -> str:
        """Of the task with this uuid; empty: no row."""
        rows = self.read(lambda store: store.tasks(BACKEND))
        return next((row.status for row in rows if row.task_uuid == task), "")


class Kubectl:
    """kubectl, with one cluster's kubeconfig."""

    def __init__(self, kubeconfig: Path) -> None:
        self._kubeconfig = kubeconfig

    def __call__(self, *arguments: str, given: object = None) -> str:
        program = kubectl()
        assert program is not None
        done = subprocess.run(
            [program, "--kubeconfig", str(self._kubeconfig), *arguments],
            input=None if given is None else json.dumps(given),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def conditions(self, node: str, **statuses: str) -> None:
        """Set conditions of a node."""
        conditions = [{"type": kind, "status": status} for kind, status in statuses.items()]
        patch = json.dumps({"status": {"conditions": conditions}})
        self("patch", "node", node, "--subresource=status", "--type=strategic", "--patch", patch)

    def run_pod(self, name: str, node: str, namespace: str, **labels: str) -> None:
        """A pod that runs on a node."""
        self(
            "create",
            "--validate=false",
            "--filename=-",
            given={
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "namespace": namespace, "labels": labels},
                "spec": {
                    "nodeName": node,
                    "containers": [
                        {
                            "name": "main",
                            "image": "x",
                            "resources": {"requests": {"cpu": "1500m", "memory": "1Gi"}},
                        }
                    ],
                },
            },
        )
        phase = json.dumps({"status": {"phase": "Running"}})
        arguments = ("--namespace", namespace, "--subresource=status", "--patch", phase)
        self("patch", "pod", name, *arguments)


def event(name: str, pod: str, message: str, when: str) -> dict[str, Any]:
    """An event about a pod, for kubectl."""
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": "osmo"},
        "involvedObject": {"kind": "Pod", "namespace": "osmo", "name": pod},
        "reason": "FailedMount",
        "message": message,
        "type": "Warning",
        "firstTimestamp": when,
        "lastTimestamp": when,
        "count": 1,
        "source": {"component": "kubelet"},
    }


class World:
    """A pipeline of processes, and two nodes in its cluster that are available."""

    def __init__(self, folder: Path, queue: str, backend: Backend) -> None:
        self.run = Kubectl(backend.kubeconfig)
        self.tables = Tables(folder / "osmo.db")
        self.queue = queue
        self._folder = folder
        self._kubeconfig = backend.kubeconfig

    def start(self, scheme: str, stack: ExitStack) -> None:
        """Start everything, and wait for the nodes."""

        def program(module: str, *arguments: str) -> Program:
            log = self._folder / f"{module}.log"
            return stack.enter_context(Program(log, module, *arguments))

        queue = ("--queue", self.queue)
        url = program("osmo_operator", "--listen", f"{scheme}://127.0.0.1:0", *queue).url()
        program("osmo_worker", *queue, "--store", f"sqlite:///{self._folder / 'osmo.db'}")
        follow = ("--connect", url, "--kubeconfig", str(self._kubeconfig), "--backend", BACKEND)
        program("osmo_listener", *follow, "--rules-usage-flush-interval=0.1", "--rules-node-label")
        for name in ("n1", "n2"):
            metadata = {"name": name, "labels": {"kubernetes.io/hostname": f"host-{name}"}}
            node = {"apiVersion": "v1", "kind": "Node", "metadata": metadata}
            self.run("create", "--validate=false", "--filename=-", given=node)
            self.run.conditions(name, Ready="True", GpuProblem="False")
        for name in ("n1", "n2"):
            wanted = {"available": True, "hostname": f"host-{name}", "conditions": ("Ready",)}
            self.shows(name, **wanted)

    def shows(self, name: str, **wanted: Any) -> None:
        """Wait until a node's row is as wanted."""

        def check() -> bool:
            row = self.tables.node(name)
            return row is not None and all(getattr(row, k) == v for k, v in wanted.items())

        wait_until(check, PATIENCE)

    def verified(self, name: str) -> str:
        """The label that tells whether a node is available."""
        node = json.loads(self.run("get", "node", name, "--output=json"))
        return str(node["metadata"]["labels"].get("osmo.nvidia.com/verified"))

    def set_rules(self, *wanted: str) -> None:
        """`osmo-pipeline rules set`."""
        command = [sys.executable, "-m", "osmo_pipeline", "rules", "set", BACKEND, *wanted]
        arguments = ("--queue", self.queue)
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.fixture
def world(
    request: pytest.FixtureRequest, tmp_path: Path, redis_server: RedisServer, backend: Backend
) -> Iterator[World]:
    world = World(tmp_path, redis_server.url, backend)
    with ExitStack() as stack:
        world.start(request.param, stack)
        yield world


@pytest.mark.timeout(120)
@pytest.mark.parametrize("world", ["ws"], indirect=True)
def test_what_happens_to_nodes_is_in_their_rows(world: World) -> None:
    """Taints, labels, conditions, cordons and rules; and whether a node is available is on it."""
    run, shows, tables = world.run, world.shows, world.tables
    run("taint", "nodes", "n1", "gpu=broken:NoSchedule")
    shows("n1", taints=(Taint("gpu", "broken", "NoSchedule"),), available=True)
    run("taint", "nodes", "n1", "gpu=gone:NoSchedule", "--overwrite")
    shows("n1", taints=(Taint("gpu", "gone", "NoSchedule"),))
    run("label", "nodes", "n1", "pool=a")
    wait_until(lambda: (row := tables.node("n1")) and row.labels.get("pool") == "a", PATIENCE)
    run("cordon", "n2")
    shows("n2", available=False)
    run("uncordon", "n2")
    shows("n2", available=True)
    run.conditions("n1", GpuProblem="True")
    shows("n1", conditions=("Ready", "GpuProblem"), available=True)
    world.set_rules("Gpu.*=False", "Ready=True")
    shows("n1", available=False)
    shows("n2", available=True)
    wait_until(lambda: world.verified("n1") == "False" and world.verified("n2") == "True", PATIENCE)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("world", ["grpc"], indirect=True)
def test_what_happens_on_a_node_is_in_the_tables(world: World) -> None:
    """What its pods ask for, what is noted of them, signs of life, and the end of the node with the
    task on it."""
    run, tables = world.run, world.tables
    labels = {"osmo.workflow_uuid": "w", "osmo.task_uuid": "t"}
    run.run_pod("task", "n2", "osmo", **labels)
    run.run_pod("other", "n2", "default")
    wait_until(lambda: tables.usage("n2").get("cpu") == "3", PATIENCE)
    run("delete", "pod", "other", "--namespace=default", "--grace-period=0", "--force")
    wait_until(lambda: tables.usage("n2").get("cpu") == "2", PATIENCE)
    noted = event("e1", "task", "no disk", "2026-01-01T00:00:00Z")
    run("create", "--validate=false", "--filename=-", given=noted)
    wait_until(lambda: tables.events("osmo/task") == ["no disk"], PATIENCE)
    (known,) = tables.read(lambda store: store.backends())
    uid = run("get", "namespace", "kube-system", "--output=jsonpath={.metadata.uid}")
    assert (known.name, known.cluster_uid, known.namespace) == (BACKEND, uid, "osmo")
    assert known.last_heartbeat is not None
    assert tables.status("t") == "RUNNING"
    run("delete", "node", "n2")
    wait_until(lambda: tables.node("n2") is None, PATIENCE)
    wait_until(lambda: tables.status("t") == "FAILED_BACKEND_ERROR", PATIENCE)
