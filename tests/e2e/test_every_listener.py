"""Nodes, usage, events and rules, from what kubectl changes to the tables that users query."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from osmo_reports.bodies import Taint
from osmo_simulator.api_server import kubectl
from osmo_transport.testing.redis_server import RedisServer
from osmo_worker.store import Backend as Reporter
from osmo_worker.store import StateStore, open_store
from osmo_worker.store.kinds.nodes import Node
from tests.e2e.backends import Backend
from tests.e2e.pipeline import wait_for_store
from tests.e2e.programs import Program, wait_until

BACKEND = "cluster-a"
PATIENCE = 60.0


class Tables:
    """What users see in the database."""

    def __init__(self, database: Path) -> None:
        self._database = database

    def node(self, name: str, accepted: Callable[[Node | None], object]) -> None:
        """Wait until the row of a node is accepted; None: it is not there."""

        async def question(store: StateStore) -> object:
            rows = await store.nodes(BACKEND, live_only=True)
            return accepted(next((row for row in rows if row.node == name), None))

        wait_for_store(self._database, question, PATIENCE)

    def cpu(self, name: str, wanted: str) -> None:
        """Wait until the pods on a node ask for so much."""

        async def question(store: StateStore) -> bool:
            rows = await store.node_usage(BACKEND, live_only=True)
            return any(row.node == name and row.usage.get("cpu") == wanted for row in rows)

        wait_for_store(self._database, question, PATIENCE)

    def events(self, pod: str, *messages: str) -> None:
        """Wait until this was noted of a pod."""

        async def question(store: StateStore) -> bool:
            return [each.message for each in await store.pod_events(pod)] == [*messages]

        wait_for_store(self._database, question, PATIENCE)

    def status(self, task: str, wanted: str) -> None:
        """Wait for the status of the task with this uuid."""

        async def question(store: StateStore) -> bool:
            rows = await store.tasks(BACKEND)
            return any(row.task_uuid == task and row.status == wanted for row in rows)

        wait_for_store(self._database, question, PATIENCE)

    def backends(self) -> list[Reporter]:
        """Who has reported."""

        async def read() -> list[Reporter]:
            async with open_store(f"sqlite:///{self._database}") as store:
                return await store.backends()

        return asyncio.run(read())


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

        def check(row: Node | None) -> bool:
            return row is not None and all(getattr(row, k) == v for k, v in wanted.items())

        self.tables.node(name, check)

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
    tables.node("n1", lambda row: row and row.labels.get("pool") == "a")
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
    tables.cpu("n2", "3")
    run("delete", "pod", "other", "--namespace=default", "--grace-period=0", "--force")
    tables.cpu("n2", "2")
    noted = event("e1", "task", "no disk", "2026-01-01T00:00:00Z")
    run("create", "--validate=false", "--filename=-", given=noted)
    tables.events("osmo/task", "no disk")
    (known,) = tables.backends()
    uid = run("get", "namespace", "kube-system", "--output=jsonpath={.metadata.uid}")
    assert (known.name, known.cluster_uid, known.namespace) == (BACKEND, uid, "osmo")
    assert known.last_heartbeat is not None
    tables.status("t", "RUNNING")
    run("delete", "node", "n2")
    tables.node("n2", lambda row: row is None)
    tables.status("t", "FAILED_BACKEND_ERROR")
