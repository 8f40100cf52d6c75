"""What the usage listener adds to the memory of the listener's process.

python -m osmo_benchmarks.parts.usage_memory [--pods N] [--others N] [--nodes N] [--rounds N]

The simulator holds running pods of 14 kB: so many that run tasks, and so many others. The listener
program reports over WebSocket to an acknowledging server in this process, with the workflow
listener alone and then with the usage listener beside it; its memory is read when it has sent
everything.
"""

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import uvloop

from osmo_benchmarks.parts.common import (
    cpu_seconds,
    peak_rss_megabytes,
    program,
    rss_megabytes,
    spread,
)
from osmo_reports.bodies import decode_body
from osmo_simulator.builders import TYPICAL_PADDING, make_node, make_pod, task_labels
from osmo_simulator.server import Simulator
from osmo_transport import Server, listen

ALONE = ("workflow",)
BOTH = ("workflow", "usage")
STARTED = "2026-01-02T03:04:05Z"
STATUS = {
    "phase": "Running",
    "podIP": "10.64.12.34",
    "startTime": STARTED,
    "conditions": [
        {"type": kind, "status": "True", "lastTransitionTime": STARTED}
        for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready")
    ],
    "containerStatuses": [
        {"name": name, "ready": True, "state": {"running": {"startedAt": STARTED}}}
        for name in ("task", "osmo-ctrl")
    ],
}
CORES = 9
"""That a pod of the simulator asks for."""


def fill(simulator: Simulator, tasks: int, others: int, nodes: int) -> None:
    """The nodes, the tasks' pods, four to a workflow, and other pods in another namespace."""
    cluster = simulator.cluster
    for number in range(nodes):
        cluster.create("nodes", make_node(f"gpu-node-{number:05}.example.internal"))
    for number in range(tasks + others):
        is_task = number < tasks
        pod = make_pod(
            f"{'task' if is_task else 'other'}-{number:040}",
            namespace="osmo" if is_task else "default",
            labels=task_labels(f"{number // 4:032x}", f"{number:032x}") if is_task else None,
            node=f"gpu-node-{number % nodes:05}.example.internal",
            status=STATUS,
            padding=TYPICAL_PADDING,
        )
        cluster.create("pods", pod)


@contextmanager
def kubeconfig_of(simulator: Simulator) -> Iterator[Path]:
    """A file with the way to the simulator."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "kubeconfig"
        path.touch(mode=0o600)
        path.write_text(simulator.kubeconfig())
        yield path


async def one_round(
    server: Server, kubeconfig: Path, listeners: tuple[str, ...], tasks: int, pods: int
) -> tuple[float, ...]:
    """Resident and peak megabytes, CPU seconds, and seconds until all was reported."""
    started = time.perf_counter()
    arguments = ["--connect", server.url, "--kubeconfig", str(kubeconfig), "--backend", "b"]
    for listener in listeners:
        arguments += ["--listeners", listener]
    with program("osmo_listener", *arguments) as process:
        reported: set[str] = set()
        cores: dict[str, int] = {}
        ended: set[str] = set()
        while len(ended) < len(listeners):
            for incoming in await server.receive():
                for message in incoming.messages:
                    if message.kind == "update_pod":
                        reported.add(message.key)
                    elif message.kind == "update_node_usage":
                        usage = decode_body(message.kind, message.payload).usage
                        cores[message.key] = int(usage["cpu"])
                    elif message.kind == "snapshot_end":
                        ended.add(message.key)
                incoming.acknowledge()
        took = time.perf_counter() - started
        if len(reported) != tasks:
            raise RuntimeError(f"{len(reported)} tasks reported of {tasks}")
        if "usage" in listeners and sum(cores.values()) != CORES * pods:
            raise RuntimeError(f"{sum(cores.values())} cores reported of {CORES * pods}")
        pid = process.pid
        return rss_megabytes(pid), peak_rss_megabytes(pid), cpu_seconds(pid), took


async def measure(tasks: int, others: int, nodes: int, rounds: int) -> None:
    """`rounds` starts of each, in turns."""
    async with Simulator() as simulator, listen("ws://127.0.0.1:0") as server:
        fill(simulator, tasks, others, nodes)
        with kubeconfig_of(simulator) as kubeconfig:
            results: dict[tuple[str, ...], list[tuple[float, ...]]] = {ALONE: [], BOTH: []}
            for _ in range(rounds):
                for listeners, figures in results.items():
                    figures.append(
                        await one_round(server, kubeconfig, listeners, tasks, tasks + others)
                    )
    for listeners, figures in results.items():
        now, peak, cpu, took = zip(*figures, strict=True)
        print(
            f"{tasks} tasks, {others} other pods, {nodes} nodes, {' and '.join(listeners)}:"
            f" {spread(now)} MB, peak {spread(peak)} MB, CPU {spread(cpu, 1e3)} ms,"
            f" all reported after {spread(took, 1e3)} ms"
        )
    more = [both[0] - alone[0] for alone, both in zip(*results.values(), strict=True)]
    peaks = [both[1] - alone[1] for alone, both in zip(*results.values(), strict=True)]
    print(f"the usage listener adds {spread(more)} MB, to the peak {spread(peaks)} MB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pods", type=int, default=100_000)
    parser.add_argument("--others", type=int, default=0)
    parser.add_argument("--nodes", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    uvloop.run(measure(options.pods, options.others, options.nodes, options.rounds))
