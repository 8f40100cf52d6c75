"""From the start of the listener's process to its first and its last report.

python -m osmo_benchmarks.parts.listener_start [--pods N] [--nodes N]
    [--listeners NAME …] [--rounds N] [--cluster real|simulator]

The cluster holds pods of 14 kB, which run if there are nodes; the listener program reports over
WebSocket to an acknowledging server in this process, which takes the times. `real` needs
KUBEBUILDER_ASSETS.
"""

import argparse
import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import uvloop

from osmo_benchmarks.parts.common import cpu_seconds, peak_rss_megabytes, program, spread
from osmo_simulator import api_server as kube
from osmo_simulator.builders import TYPICAL_PADDING, make_node, make_pod, task_labels
from osmo_simulator.server import Simulator
from osmo_transport import Server, listen

PODS = "/api/v1/namespaces/osmo/pods"
NODES = "/api/v1/nodes"
ENDS = {
    "workflow": ("snapshot_end", "update_pod"),
    "usage": ("snapshot_end", "update_node_usage"),
    "node": ("node_inventory", "nodes"),
}
"""Kind and key of the message with which each listener has told of everything."""

WRITERS = 4
"""Connections over which a real cluster is filled: over one, 10 000 pods take minutes."""


class Size(NamedTuple):
    """Of a cluster."""

    pods: int
    nodes: int


def pods(size: Size) -> list[dict[str, Any]]:
    """Pods of 14 kB, four to a workflow, which run on the nodes in turn if there are any."""
    return [
        make_pod(
            f"pod-{number}",
            labels=task_labels(f"workflow-{number // 4}", f"task-{number}"),
            node=f"node-{number % size.nodes}" if size.nodes else "",
            status={"phase": "Running"} if size.nodes else None,
            padding=TYPICAL_PADDING,
        )
        for number in range(size.pods)
    ]


def nodes(size: Size) -> list[dict[str, Any]]:
    """Ready GPU nodes."""
    return [make_node(f"node-{number}") for number in range(size.nodes)]


@asynccontextmanager
async def cluster(kind: str, size: Size) -> AsyncIterator[str]:
    """A cluster of that size; its kubeconfig."""
    async with AsyncExitStack() as stack:
        if kind == "simulator":
            simulator = await stack.enter_async_context(Simulator())
            for node in nodes(size):
                simulator.cluster.create("nodes", node)
            for pod in pods(size):
                simulator.cluster.create("pods", pod)
            yield simulator.kubeconfig()
            return
        real = stack.enter_context(kube.start())
        await asyncio.to_thread(_create, real, size)
        yield real.kubeconfig()


def _create(real: kube.RealCluster, size: Size) -> None:
    def create(path: str, objects: Sequence[dict[str, Any]]) -> None:
        with real.session() as session:
            for each in objects:
                session.request("POST", path, each)
                if size.nodes:
                    status = {"status": each["status"]}
                    session.request("PATCH", f"{path}/{each['metadata']['name']}/status", status)

    with ThreadPoolExecutor(WRITERS) as pool:
        for path, objects in ((NODES, nodes(size)), (PODS, pods(size))):
            parts = [objects[number::WRITERS] for number in range(WRITERS)]
            for _ in pool.map(create, [path] * WRITERS, parts):
                pass


async def one_round(
    server: Server, kubeconfig: Path, size: Size, listeners: Sequence[str]
) -> tuple[float, ...]:
    """Seconds to the first and the last report, messages, CPU seconds, peak RSS in MB."""
    started = time.perf_counter()
    arguments = ["--connect", server.url, "--kubeconfig", str(kubeconfig), "--backend", "b"]
    arguments += [f"--listeners={name}" for name in listeners]
    with program("osmo_listener", *arguments) as listener:
        first = 0.0
        messages = 0
        seen: set[tuple[str, str]] = set()
        missing = {ENDS[name] for name in listeners}
        while missing:
            for incoming in await server.receive():
                for message in incoming.messages:
                    if message.kind != "heartbeat":
                        first = first or time.perf_counter() - started
                        messages += 1
                        seen.add((message.kind, message.key))
                        missing.discard((message.kind, message.key))
                incoming.acknowledge()
        last = time.perf_counter() - started
        counts = Counter(kind for kind, _ in seen)
        for name, kind, count in (
            ("workflow", "update_pod", size.pods),
            ("node", "update_node", size.nodes),
            ("usage", "update_node_usage", size.nodes),
        ):
            if name in listeners and counts[kind] != count:
                raise RuntimeError(f"{counts[kind]} reports of {kind}, and there should be {count}")
        return first, last, messages, cpu_seconds(listener.pid), peak_rss_megabytes(listener.pid)


async def measure(kind: str, size: Size, listeners: Sequence[str], rounds: int) -> None:
    """`rounds` starts against one cluster."""
    with TemporaryDirectory() as folder:
        kubeconfig = Path(folder) / "kubeconfig"
        kubeconfig.touch(mode=0o600)
        async with cluster(kind, size) as text, listen("ws://127.0.0.1:0") as server:
            kubeconfig.write_text(text)
            results = [await one_round(server, kubeconfig, size, listeners) for _ in range(rounds)]
    first, last, messages, cpu, rss = zip(*results, strict=True)
    print(
        f"{size.pods} pods, {size.nodes} nodes, {kind}, {'+'.join(listeners)}: first report"
        f" {spread(first, 1e3)} ms, all {spread(last, 1e3)} ms, {spread(messages)} messages,"
        f" CPU {spread(cpu, 1e3)} ms, peak RSS {spread(rss)} MB"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pods", type=int, default=10_000)
    parser.add_argument("--nodes", type=int, default=0)
    parser.add_argument("--listeners", nargs="+", choices=ENDS, default=["workflow"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cluster", choices=("real", "simulator"), default="real")
    options = parser.parse_args()
    wanted = Size(options.pods, options.nodes)
    uvloop.run(measure(options.cluster, wanted, options.listeners, options.rounds))
