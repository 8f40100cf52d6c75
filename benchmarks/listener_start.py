"""From the start of the listener's process to its first and its last report.

python -m benchmarks.listener_start [--pods N] [--rounds N] [--cluster real|simulator]

The cluster holds pods of 14 kB; the listener program reports over WebSocket to an acknowledging
server in this process, which takes the times. `real` needs KUBEBUILDER_ASSETS.
"""

import argparse
import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import uvloop
from tests import kube

from benchmarks.common import cpu_seconds, peak_rss_megabytes, program, spread
from osmo_simulator.builders import TYPICAL_PADDING, make_pod, task_labels
from osmo_simulator.server import Simulator
from osmo_transport import Server, listen

PODS = "/api/v1/namespaces/osmo/pods"


def pods(count: int) -> list[dict[str, object]]:
    """Pods of 14 kB, four to a workflow."""
    return [
        make_pod(
            f"pod-{number}",
            labels=task_labels(f"workflow-{number // 4}", f"task-{number}"),
            padding=TYPICAL_PADDING,
        )
        for number in range(count)
    ]


@asynccontextmanager
async def cluster(kind: str, count: int) -> AsyncIterator[str]:
    """A cluster with so many pods; its kubeconfig."""
    async with AsyncExitStack() as stack:
        if kind == "simulator":
            simulator = await stack.enter_async_context(Simulator())
            for pod in pods(count):
                simulator.cluster.create("pods", pod)
            yield simulator.kubeconfig()
            return
        real = stack.enter_context(kube.start())
        await asyncio.to_thread(_create, real, count)
        yield real.kubeconfig()


def _create(real: kube.RealCluster, count: int) -> None:
    with real.session() as session:
        for pod in pods(count):
            session.request("POST", PODS, pod)


async def one_round(server: Server, kubeconfig: Path, count: int) -> tuple[float, ...]:
    """Seconds to the first and the last report, CPU seconds, peak RSS in MB."""
    started = time.perf_counter()
    arguments = ("--connect", server.url, "--kubeconfig", str(kubeconfig), "--backend", "b")
    with program("osmo_listener", *arguments) as listener:
        first = 0.0
        seen: set[str] = set()
        ended = False
        while not ended:
            for incoming in await server.receive():
                for message in incoming.batch.messages:
                    if message is not None and message.kind == "update_pod":
                        first = first or time.perf_counter() - started
                        seen.add(message.key)
                    elif message is not None:
                        ended = True
                incoming.acknowledge()
        last = time.perf_counter() - started
        if len(seen) != count:
            raise RuntimeError(f"{len(seen)} pods reported of {count}")
        return first, last, cpu_seconds(listener.pid), peak_rss_megabytes(listener.pid)


async def measure(kind: str, count: int, rounds: int) -> None:
    """`rounds` starts against one cluster."""
    with TemporaryDirectory() as folder:
        kubeconfig = Path(folder) / "kubeconfig"
        kubeconfig.touch(mode=0o600)
        async with cluster(kind, count) as text, listen("ws://127.0.0.1:0") as server:
            kubeconfig.write_text(text)
            results = [await one_round(server, kubeconfig, count) for _ in range(rounds)]
    first, last, cpu, rss = zip(*results, strict=True)
    print(
        f"{count} pods, {kind}: first report {spread(first, 1e3)} ms, all {spread(last, 1e3)} ms,"
        f" CPU {spread(cpu, 1e3)} ms, peak RSS {spread(rss)} MB"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pods", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cluster", choices=("real", "simulator"), default="real")
    options = parser.parse_args()
    uvloop.run(measure(options.cluster, options.pods, options.rounds))
