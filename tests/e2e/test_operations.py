"""What every service of a running pipeline tells of itself, beside what it promises to tell."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from osmo_listener import figures as of_listener
from osmo_listener.config import ListenerConfig
from osmo_listener.service import run_listener
from osmo_operator import figures as of_operator
from osmo_operator.config import OperatorConfig
from osmo_operator.service import run_operator
from osmo_runtime.operations import Figure, Operations, ServiceConfig, open_operations
from osmo_runtime.operations.figures import FIGURES as COMMON
from osmo_simulator.builders import make_node, make_pod, task_labels
from osmo_simulator.server import Simulator, SimulatorConfig
from osmo_transport import QuotaConfig, ServerConfig
from osmo_worker import StoreConfig, WorkerConfig, run_worker
from osmo_worker import figures as of_worker

QUEUE = "memory://operations"


class Scraped:
    """A service's port."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def metrics(self) -> str:
        async with aiohttp.ClientSession() as client, client.get(f"{self._url}/metrics") as answer:
            assert answer.status == 200
            return await answer.text()

    async def readyz(self) -> Any:
        async with aiohttp.ClientSession() as client, client.get(f"{self._url}/readyz") as answer:
            return await answer.json()

    async def livez(self) -> int:
        async with aiohttp.ClientSession() as client, client.get(f"{self._url}/livez") as answer:
            return answer.status


@asynccontextmanager
async def shown(
    name: str, stop: asyncio.Event, capsys: pytest.CaptureFixture[str]
) -> AsyncIterator[tuple[Operations, Scraped]]:
    """What a service is given, and its port."""
    config = ServiceConfig(operations="127.0.0.1:0")
    async with open_operations(name, config, stop) as operations:
        url = capsys.readouterr().out.removeprefix("operations on ").strip()
        yield operations, Scraped(url)


def exposed(text: str) -> dict[str, set[str]]:
    """By name, as the figures have it, the attributes of what Prometheus is told."""
    found: dict[str, set[str]] = {}
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    for name, labels in re.findall(r"^([a-z_]+)(?:\{(.*)\})? \S+$", text, re.MULTILINE):
        whole = re.sub("_(bucket|count|sum)$", "", name)
        known = whole if kinds.get(whole) == "histogram" else name
        attributes = set(re.findall(r'([a-z_]+)="', labels)) - {"le"}
        found.setdefault(known, set()).update(attributes)
    found.pop("target_info", None)
    return found


def promised(figures: Sequence[Figure]) -> dict[str, set[str]]:
    return {figure.exposed: set(figure.attributes) for figure in figures}


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(SimulatorConfig(bookmark_interval=0.05)) as simulator:
        simulator.cluster.create("nodes", make_node("n1"))
        labels = task_labels("w", "t")
        running = {"phase": "Running"}
        simulator.cluster.create("pods", make_pod("task", labels=labels, node="n1", status=running))
        yield simulator


async def test_each_service_is_seen_as_it_promises(
    simulator: Simulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every figure of the catalogues is told with its attributes, nothing else is, and whoever
    works is ready and lives."""
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(simulator.kubeconfig("osmo"))
    stop = asyncio.Event()
    # Who has sent anything is slowed down for a moment, and so is told of.
    slowing = ServerConfig(quota=QuotaConfig(messages=1_000, burst=0.0))
    operator = OperatorConfig(
        queue=QUEUE, listen=("ws://127.0.0.1:0",), check_interval=0.05, server=slowing
    )
    worker = WorkerConfig(
        queue=QUEUE,
        store=f"sqlite:///{tmp_path}/osmo.db",
        check_interval=0.5,
        store_limits=StoreConfig(housekeeping_interval=0.05),
    )
    async with (
        shown("osmo-operator", stop, capsys) as (operator_operations, operator_port),
        shown("osmo-worker", stop, capsys) as (worker_operations, worker_port),
        shown("osmo-listener", stop, capsys) as (listener_operations, listener_port),
        asyncio.TaskGroup() as tasks,
    ):
        urls: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        tasks.create_task(
            run_operator(operator, stop, urls.set_result, operations=operator_operations)
        )
        listener = ListenerConfig(
            backend="b",
            connect=(await urls)[0],
            kubeconfig=kubeconfig,
            heartbeat_interval=0.05,
        )
        tasks.create_task(run_worker(worker, stop, lambda: None, operations=worker_operations))
        tasks.create_task(run_listener(listener, stop, operations=listener_operations))
        services = (
            (operator_port, of_operator.FIGURES, {"queue", "appends"}),
            (worker_port, of_worker.FIGURES, {"queue", "store", "handling"}),
            (listener_port, of_listener.FIGURES, {"operator", *listener.listeners}),
        )
        for port, figures, checks in services:
            async with asyncio.timeout(30):
                while not (await port.readyz())["ready"]:
                    pass
                while promised(figures).keys() - exposed(await port.metrics()).keys():
                    pass
            assert exposed(await port.metrics()) == promised(figures)
            found = await port.readyz()
            assert found["checks"].keys() == checks
            assert await port.livez() == 200
        metrics = await worker_port.metrics()
        assert 'osmo_backend_last_heartbeat_age_seconds{backend="b"}' in metrics
        assert "osmo_backends_silent 0.0" in metrics
        stop.set()
        draining = await operator_port.readyz()
        assert not draining["ready"]
        assert draining["checks"]["service"]["reason"] == "stopping"


def test_the_figures_are_bounded_and_named_as_the_field_does() -> None:
    """Never by pods, tasks or workflows, of which there is no end; and no name twice."""
    figures = (*of_operator.FIGURES, *of_worker.FIGURES, *of_listener.FIGURES, *COMMON)
    attributes = {name for figure in figures for name in figure.attributes}
    bounded = {"backend", "kind", "listener", "outcome", "reason", "stream", "table", "transport"}
    assert attributes <= bounded | {"file"}
    names = [figure.exposed for figure in figures]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch("osmo_[a-z_]+", name) for name in names)
