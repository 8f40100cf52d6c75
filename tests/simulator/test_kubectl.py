"""The simulator as users of kubectl see it."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from osmo_simulator import api_server as kube
from osmo_simulator.builders import make_event, make_node, make_pod, task_labels
from osmo_simulator.lifecycle import FAILURES, Moment, creating, running
from osmo_simulator.server import Simulator

Kubectl = Callable[..., Awaitable[str]]

KUBECTL = kube.kubectl()

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(KUBECTL is None, reason="kubectl is not installed"),
]

NOW = "2026-01-02T03:04:05Z"


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    """A simulator with two nodes and two pods."""
    async with Simulator() as simulator:
        cluster = simulator.cluster
        for number in range(2):
            cluster.create("nodes", make_node(f"node-{number}", now=NOW))
            labels = task_labels("wf", f"task-{number}")
            pod = make_pod(f"pod-{number}", labels=labels, node=f"node-{number}")
            created = cluster.create("pods", pod)
            event = make_event(created, "Scheduled", f"assigned to node-{number}", now=NOW)
            cluster.create("events", event)
        become(simulator, "pod-0", 0)
        yield simulator


def become(simulator: Simulator, name: str, stage: int) -> None:
    """Let a pod run (0), or fail by running out of memory (1)."""
    moment = Moment(now=NOW, container="task", pod_ip="10.1.2.3", host_ip="10.0.0.1")
    oom = next(outcome for outcome in FAILURES if outcome.name == "out-of-memory")
    for status in ((creating, running), (oom.end,))[stage]:
        simulator.cluster.patch_status("pods", name, status(moment), namespace="osmo")


@pytest.fixture
def environment(sim: Simulator, tmp_path: Path) -> dict[str, str]:
    """What kubectl needs: the kubeconfig, and a place for its cache."""
    config = tmp_path / "config"
    config.write_text(sim.kubeconfig())
    return {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "KUBECONFIG": str(config)}


@pytest.fixture
def kubectl(environment: dict[str, str]) -> Kubectl:
    """Run kubectl and return what it prints; fails when it fails."""

    async def run(*arguments: str, fails: bool = False) -> str:
        async with started(environment, *arguments) as process, asyncio.timeout(30):
            out, err = await process.communicate()
        assert (process.returncode != 0) == fails, (out + err).decode()
        return (err if fails else out).decode()

    return run


@contextlib.asynccontextmanager
async def started(
    environment: dict[str, str], *arguments: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A running kubectl."""
    assert KUBECTL is not None
    process = await asyncio.create_subprocess_exec(
        KUBECTL,
        *arguments,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


def rows(text: str) -> list[list[str]]:
    """The cells of a table's rows, without its header."""
    return [line.split() for line in text.splitlines()[1:] if line]


async def test_get(kubectl: Kubectl) -> None:
    """`kubectl get` shows the usual columns."""
    assert [row[:4] for row in rows(await kubectl("get", "pods"))] == [
        ["pod-0", "2/2", "Running", "0"],
        ["pod-1", "0/2", "Pending", "0"],
    ]
    nodes = rows(await kubectl("get", "nodes"))
    assert [row[:3] for row in nodes] == [
        ["node-0", "Ready", "<none>"],
        ["node-1", "Ready", "<none>"],
    ]
    assert [row[1:4] for row in rows(await kubectl("get", "events"))] == [
        ["Normal", "Scheduled", "pod/pod-0"],
        ["Normal", "Scheduled", "pod/pod-1"],
    ]
    namespaces = rows(await kubectl("get", "namespaces"))
    assert [row[:2] for row in namespaces] == [
        ["default", "Active"],
        ["kube-system", "Active"],
        ["osmo", "Active"],
    ]


async def test_get_several_in_all_namespaces(kubectl: Kubectl) -> None:
    """`kubectl get pods,nodes -A` shows both, with the namespace."""
    text = await kubectl("get", "pods,nodes", "-A")
    assert ["osmo", "pod/pod-0", "2/2", "Running"] in [
        line.split()[:4] for line in text.splitlines()
    ]
    assert "node/node-1" in text


async def test_get_wide(kubectl: Kubectl) -> None:
    """`-o wide` adds the address and the node."""
    first, second = rows(await kubectl("get", "pods", "-o", "wide"))
    assert first[5:7] == ["10.1.2.3", "node-0"]
    assert second[5:7] == ["<none>", "node-1"]
    assert "containerd://" in await kubectl("get", "nodes", "-o", "wide")


async def test_selectors(kubectl: Kubectl) -> None:
    """`-l` and `--field-selector` select on the server."""
    by_label = await kubectl("get", "pods", "-l", "osmo.task_uuid in (task-1)", "-o", "name")
    assert by_label.split() == ["pod/pod-1"]
    by_phase = await kubectl("get", "po", "--field-selector", "status.phase=Running", "-o", "name")
    assert by_phase.split() == ["pod/pod-0"]


async def test_chunks(sim: Simulator, kubectl: Kubectl) -> None:
    """kubectl follows the pages of a long list."""
    for number in range(30):
        sim.cluster.create("pods", make_pod(f"many-{number}"))
    assert len(rows(await kubectl("get", "pods", "--chunk-size=7"))) == 32


async def test_status_word(sim: Simulator, kubectl: Kubectl) -> None:
    """The status column names a container's trouble."""
    become(sim, "pod-0", 1)
    assert rows(await kubectl("get", "pod", "pod-0"))[0][1:3] == ["0/2", "OOMKilled"]


async def test_describe_pod(kubectl: Kubectl) -> None:
    """`describe pod` shows the pod and its own events."""
    text = await kubectl("describe", "pod", "pod-1")
    assert "osmo.task_uuid=task-1" in text
    assert "assigned to node-1" in text
    assert "assigned to node-0" not in text


async def test_describe_node(kubectl: Kubectl) -> None:
    """`describe node` shows the node and the pods on it."""
    text = await kubectl("describe", "node", "node-0")
    assert "KubeletReady" in text
    assert "pod-0" in text
    assert "pod-1" not in text


async def test_describe_everything(kubectl: Kubectl) -> None:
    """`describe` works on events and namespaces too."""
    assert "assigned to node-0" in await kubectl("describe", "events")
    assert "Active" in await kubectl("describe", "namespace", "osmo")


async def test_watch(sim: Simulator, environment: dict[str, str]) -> None:
    """`get -w` shows the state, then each change as a row."""
    async with started(environment, "get", "pods", "-w") as process, asyncio.timeout(30):
        assert process.stdout is not None
        shown = [(await process.stdout.readline()).decode().split()[:3] for _ in range(3)]
        assert shown == [
            ["NAME", "READY", "STATUS"],
            ["pod-0", "2/2", "Running"],
            ["pod-1", "0/2", "Pending"],
        ]
        become(sim, "pod-1", 0)
        changes = [(await process.stdout.readline()).decode().split()[:3] for _ in range(2)]
        assert changes == [["pod-1", "0/2", "Init:0/1"], ["pod-1", "2/2", "Running"]]


async def test_delete(sim: Simulator, kubectl: Kubectl) -> None:
    """`delete` waits until the object is gone, and says so when there is none."""
    assert 'pod "pod-0" deleted' in await kubectl("delete", "pod", "pod-0")
    assert [pod["metadata"]["name"] for pod in sim.cluster.list("pods")] == ["pod-1"]
    assert 'pods "pod-0" not found' in await kubectl("delete", "pod", "pod-0", fails=True)
    assert 'node "node-0" deleted' in await kubectl("delete", "node", "node-0")
    await kubectl("delete", "pods", "--all")
    assert sim.cluster.list("pods") == []


async def test_changes(sim: Simulator, kubectl: Kubectl) -> None:
    """`label`, `taint` and `cordon` patch nodes; `create` and `replace` take JSON."""
    await kubectl("label", "node", "node-0", "osmo.verified=True")
    await kubectl("taint", "node", "node-0", "gpu=broken:NoSchedule")
    await kubectl("cordon", "node-0")
    node = sim.cluster.get("nodes", "node-0")
    assert node["metadata"]["labels"]["osmo.verified"] == "True"
    assert node["spec"]["taints"] == [{"key": "gpu", "value": "broken", "effect": "NoSchedule"}]
    assert rows(await kubectl("get", "node", "node-0"))[0][1] == "Ready,SchedulingDisabled"
    await kubectl("label", "node", "node-0", "osmo.verified-")
    assert "osmo.verified" not in sim.cluster.get("nodes", "node-0")["metadata"]["labels"]


async def test_whole_objects(kubectl: Kubectl) -> None:
    """`-o json`, `-o yaml` and `-o jsonpath` read the objects themselves."""
    assert '"kind": "Pod"' in await kubectl("get", "pod", "pod-0", "-o", "json")
    assert "kind: Node" in await kubectl("get", "nodes", "-o", "yaml")
    phase = await kubectl("get", "pod", "pod-0", "-o", "jsonpath={.status.phase}")
    assert phase == "Running"


async def test_wait(sim: Simulator, kubectl: Kubectl) -> None:
    """`wait` sees a condition that is met."""
    text = await kubectl("wait", "pod/pod-0", "--for=condition=Ready", "--timeout=10s")
    assert "condition met" in text


async def test_version_and_resources(kubectl: Kubectl) -> None:
    """`version` and `api-resources` know the server."""
    assert "osmo-simulator" in await kubectl("version")
    assert [row[0] for row in rows(await kubectl("api-resources"))] == [
        "events",
        "namespaces",
        "nodes",
        "pods",
    ]
    assert "doesn't have a resource type" in await kubectl("get", "deployments", fails=True)
