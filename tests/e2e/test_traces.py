"""One trace from a pod in a cluster to its row, as a collector sees it."""

import asyncio
from pathlib import Path

import pytest

from osmo_listener.config import ListenerConfig
from osmo_listener.service import run_listener
from osmo_operator.config import OperatorConfig
from osmo_operator.service import run_operator
from osmo_runtime.operations import ServiceConfig, open_operations
from osmo_simulator.builders import make_node, make_pod, task_labels
from osmo_simulator.server import Simulator
from osmo_transport.testing.redis_server import RedisServer
from osmo_worker import WorkerConfig, run_worker
from osmo_worker.metrics import WorkerMetrics
from tests.e2e.collector import Collector, collecting
from tests.helpers import eventually

TREE = """\
osmo-listener: report update_pod
  osmo-operator: append, linked
  osmo-worker: handle update_pod, linked"""


async def run(simulator: Simulator, address: str, queue: str, folder: Path) -> None:
    """Every service, until the row of a pod is written; then they stop."""
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(simulator.kubeconfig("osmo"))
    stop, metrics = asyncio.Event(), WorkerMetrics()
    urls: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
    operator = OperatorConfig(queue=queue, listen=(address,))
    worker = WorkerConfig(queue=queue, store=f"sqlite:///{folder}/osmo.db")
    async with (
        open_operations("osmo-operator", ServiceConfig(), stop) as of_operator,
        open_operations("osmo-worker", ServiceConfig(), stop) as of_worker,
        open_operations("osmo-listener", ServiceConfig(), stop) as of_listener,
        asyncio.TaskGroup() as tasks,
    ):
        tasks.create_task(run_operator(operator, stop, urls.set_result, operations=of_operator))
        tasks.create_task(
            run_worker(worker, stop, lambda: None, metrics=metrics, operations=of_worker)
        )
        listener = ListenerConfig(
            backend="b",
            connect=(await urls)[0],
            kubeconfig=kubeconfig,
            listeners=("workflow",),
        )
        tasks.create_task(run_listener(listener, stop, operations=of_listener))
        await eventually(lambda: metrics.of("update_pod").handled)
        stop.set()


async def traced(
    monkeypatch: pytest.MonkeyPatch, address: str, queue: str, folder: Path
) -> Collector:
    """What a collector took of a run with one pod."""
    async with collecting() as collector, Simulator() as simulator:
        monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        simulator.cluster.create("nodes", make_node("n1"))
        labels, running = task_labels("w", "t"), {"phase": "Running"}
        simulator.cluster.create("pods", make_pod("task", labels=labels, node="n1", status=running))
        await run(simulator, address, queue, folder)
    return collector


@pytest.mark.parametrize(
    ("address", "queue"),
    [
        ("ws://127.0.0.1:0", "{redis}"),
        ("grpc://127.0.0.1:0", "{redis}"),
        ("ws://127.0.0.1:0", "{redis}?layout=osmo"),
        ("memory://", "memory://traces"),
    ],
)
async def test_one_trace_from_the_pod_to_its_row(
    address: str,
    queue: str,
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Listener, operator, and across the queue the worker, over every transport and queue."""
    queue = queue.format(redis=redis_server.url)
    collector = await traced(monkeypatch, address, queue, tmp_path)
    (report,) = (each for each in collector.taken if each.span.name == "report update_pod")
    print(collector.tree(report))  # noqa: T201  (what a person wants to see)
    assert collector.tree(report) == TREE
    (handled,) = (each for each in collector.taken if each.span.name == "handle update_pod")
    assert handled.attribute("osmo.backend") == "b"
    for each in (report, handled):
        assert each.attribute("osmo.key") == "w/t/0"
