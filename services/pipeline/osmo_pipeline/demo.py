"""The whole pipeline in one process, from a cluster to a database, and the check at its end."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from itertools import accumulate
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from osmo_listener.config import ListenerConfig
from osmo_listener.kubernetes.access import find_credentials
from osmo_listener.kubernetes.listwatch import ListWatch
from osmo_listener.listeners.objects import Pod
from osmo_listener.listeners.registry import WORKFLOW
from osmo_listener.service import run_listener
from osmo_operator.config import OperatorConfig
from osmo_operator.service import run_operator
from osmo_pipeline.config import DEFAULT_DATABASE, DemoConfig, PatienceConfig
from osmo_pipeline.display import Progress, open_display, tell, wrapped
from osmo_pipeline.errors import DemoError
from osmo_pipeline.fleet import Patience
from osmo_pipeline.top.figures import Figures
from osmo_pipeline.top.watching import Sources
from osmo_pipeline.verify import Difference, differences, expected_tasks
from osmo_pipeline.web.service import page
from osmo_reports.directory import open_directory
from osmo_runtime.masking import mask_text
from osmo_runtime.operations import Operations
from osmo_runtime.operations.figures import BOUNDS
from osmo_runtime.operations.server import address
from osmo_runtime.startup import unless_stopped
from osmo_runtime.texts import counted
from osmo_simulator.scenario import Scenario, ScenarioConfig
from osmo_simulator.server import Simulator
from osmo_transport import Client, open_queue, transport_for
from osmo_worker import figures
from osmo_worker.config import WorkerConfig
from osmo_worker.metrics import WorkerMetrics
from osmo_worker.store import StateStore, open_store
from osmo_worker.worker import Worker

BACKEND = "demo"
"""Name of the backend; where the store holds rows of that name already, a number follows it."""
NAMESPACE = "osmo-demo"
"""Of the keys in Redis, where the URL names none."""
REFRESH = 0.5
"""Seconds between two looks at the figures."""
SETTLE_POLL = 0.05
"""Seconds between two comparisons while the last reports are on their way."""
SHOWN_DIFFERENCES = 10
QUERY = "SELECT status, count(*) FROM tasks GROUP BY status"


class Demo:
    """The parts while they run. Made by `running`."""

    def __init__(
        self,
        config: DemoConfig,
        store: StateStore,
        listener: ListenerConfig,
        metrics: WorkerMetrics,
    ) -> None:
        self.store = store
        self.backend = listener.backend
        self._metrics = metrics
        self._client: Client | None = None
        self._config = config
        self._listener = listener
        self._started = time.monotonic()
        self._acknowledged = 0
        self._looked = self._started

    def connected(self, client: Client, _: object) -> None:
        """Take the figures of the link from `client`."""
        self._client = client

    async def progress(self) -> Progress:
        """The figures of this moment."""
        now = time.monotonic()
        stats = self._client.stats if self._client is not None else None
        acknowledged = stats.acknowledged if stats is not None else 0
        rate = (acknowledged - self._acknowledged) / max(now - self._looked, 1e-9)
        self._acknowledged, self._looked = acknowledged, now
        times = self._metrics.processing_time
        return Progress(
            elapsed=now - self._started,
            totals=await self.store.totals(self.backend),
            messages=acknowledged,
            rate=rate,
            in_flight=stats.in_flight if stats is not None else 0,
            p50=times.percentile(50),
            p99=times.percentile(99),
        )

    async def settle(self) -> int:
        """Wait until the store equals the cluster; returns how many live pods were compared.

        Raises:
            DemoError: it does not within `settle_timeout`.
        """
        deadline = time.monotonic() + self._config.settle_timeout
        while True:
            pods = await self._cluster_pods()
            expected = expected_tasks(pods, self._listener.rules.workflow)
            wrong = list(differences(expected, await self.store.tasks(self.backend)))
            if not wrong:
                return len(expected)
            if time.monotonic() > deadline:
                raise DemoError(_tell(wrong))
            await asyncio.sleep(SETTLE_POLL)

    async def _cluster_pods(self) -> list[Pod]:
        resource = WORKFLOW.resource(self._config.namespace)
        listener = self._listener
        credentials = find_credentials(listener.kubeconfig, listener.context)
        source: ListWatch[Pod] = ListWatch(credentials, resource)
        try:
            return [pod async for page in source.list() for pod in page.objects]
        finally:
            source.close()


async def run_demo(
    config: DemoConfig, stop: asyncio.Event, operations: Operations | None = None
) -> None:
    """Run until every workflow has ended (with a cluster of one's own: until `stop`), then compare.
    `operations` is given what tells of all services.

    Raises:
        DemoError: the store does not equal the cluster.
        TransportError, ListenerError, WorkerError: something cannot be used; the text says what.
    """
    # Before an earlier run's database is removed.
    transport_for(_address(config.transport))
    async with (
        _cluster(config) as (kubeconfig, scenario),
        running(config, kubeconfig, operations or Operations()) as demo,
    ):
        if demo.backend != BACKEND:
            tell(
                (
                    f"the database holds earlier runs; this one is the backend {demo.backend},",
                    "and nothing else is shown or compared",
                )
            )
        compared = await _show(demo, scenario, stop)
        summarize(config, await demo.progress(), compared, demo.backend)


async def _show(demo: Demo, scenario: Scenario | None, stop: asyncio.Event) -> int:
    """Show how it goes until the end, and return how many live pods were compared there."""
    with open_display() as display:
        happening = asyncio.create_task(_happen(scenario, stop))
        try:
            while not happening.done():
                await asyncio.wait((happening,), timeout=REFRESH)
                display.show(await demo.progress())
            await happening
            compared = await demo.settle()
            display.show(await demo.progress())
            return compared
        finally:
            happening.cancel()


async def _happen(scenario: Scenario | None, stop: asyncio.Event) -> None:
    if scenario is None:
        await stop.wait()
        return
    await unless_stopped(scenario.run(), stop)


@asynccontextmanager
async def _cluster(config: DemoConfig) -> AsyncIterator[tuple[Path, Scenario | None]]:
    if config.kubeconfig is not None:
        yield config.kubeconfig, None
        return
    async with Simulator() as simulator:
        with TemporaryDirectory(prefix="osmo-demo-") as folder:
            kubeconfig = Path(folder) / "kubeconfig"
            kubeconfig.touch(mode=0o600)
            kubeconfig.write_text(simulator.kubeconfig(config.namespace))
            plan = ScenarioConfig(
                seed=config.seed,
                nodes=config.nodes,
                workflows=config.workflows,
                namespace=config.namespace,
                pace=config.pace,
            )
            yield kubeconfig, Scenario(simulator.cluster, plan)


@asynccontextmanager
async def running(
    config: DemoConfig, kubeconfig: Path, operations: Operations
) -> AsyncIterator[Demo]:
    """The services, started from the database to the listener and stopped the other way round, so
    that everything reported is applied.

    Raises: as the services.
    """
    urls: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
    stops: list[tuple[asyncio.Task[None], asyncio.Event]] = []
    metrics = WorkerMetrics()
    queue_url = _queue_url(config.queue)
    worker = WorkerConfig(queue=queue_url)
    async with (
        open_store(_store_url(config), metrics=metrics) as store,
        await open_queue(queue_url) as queue,
        await open_directory(queue_url) as directory,
        asyncio.TaskGroup() as services,
    ):

        def start(run: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
            stop = asyncio.Event()
            stops.append((services.create_task(run(stop)), stop))

        await store.check()
        backend = await _unused(store)
        consumer = queue.consumer(worker.group, worker.name)
        working = Worker(consumer, store, worker, metrics=metrics, tracer=operations.tracer)
        operations.check("handling", working.check)
        figures.measure(operations, metrics)
        figures.measure_store(operations, metrics, worker.store_limits.silent_after)
        start(working.run)
        operator = OperatorConfig(listen=(_address(config.transport),), queue=queue_url)
        start(lambda stop: run_operator(operator, stop, urls.set_result, operations=operations))
        (url,) = await urls
        listener = ListenerConfig(
            backend=backend, connect=url, kubeconfig=kubeconfig, namespace=config.namespace
        )
        demo = Demo(config, store, listener, metrics)
        start(lambda stop: run_listener(listener, stop, demo.connected, operations=operations))
        sources = Sources(
            place=mask_text(queue_url),
            queue=queue,
            directory=directory,
            store=store,
            services=_OwnServices(metrics),
        )
        try:
            async with _page(services, sources, config.web):
                yield demo
        finally:
            for task, stop in reversed(stops):
                stop.set()
                await asyncio.wait((task,))


async def _unused(store: StateStore) -> str:
    """The first name of which the store holds nothing."""
    for number in itertools.count(1):
        name = BACKEND if number == 1 else f"{BACKEND}-{number}"
        if not (await store.totals(name)).workflows:
            return name
    raise AssertionError


class _OwnServices:
    """The figures of the worker in this process."""

    def __init__(self, metrics: WorkerMetrics) -> None:
        self._metrics = metrics

    async def ask(self) -> Figures:
        """See `Services`."""
        counts = accumulate(map(float, self._metrics.end_to_end.told()))
        buckets = dict(zip((*BOUNDS, inf), counts, strict=True))
        return Figures(buckets={figures.END_TO_END.exposed: buckets})


@asynccontextmanager
async def _page(services: asyncio.TaskGroup, sources: Sources, listen: str) -> AsyncIterator[None]:
    """Show all of it on a page at this address, if that is one, and say where."""
    if not listen:
        yield
        return
    patience = Patience(PatienceConfig.silent_after, PatienceConfig.blind_after)
    async with page(services, sources, address(listen, "the page"), patience=patience) as url:
        tell([f"the page: {url}"])
        yield


def _address(transport: str) -> str:
    """Where the operator listens."""
    return "memory://" if transport == "memory" else f"{transport}://127.0.0.1:0"


def _queue_url(url: str) -> str:
    """A namespace of the demo's own, where others use the same Redis."""
    parts = urlsplit(url)
    if parts.scheme == "memory" or parts.query:
        return url
    return parts._replace(query=f"namespace={NAMESPACE}").geturl()


def _store_url(config: DemoConfig) -> str:
    if config.store is not None:
        return config.store
    for suffix in ("", "-wal", "-shm"):
        Path(f"{DEFAULT_DATABASE}{suffix}").unlink(missing_ok=True)
    return f"sqlite:///{DEFAULT_DATABASE}"


def _tell(wrong: list[Difference]) -> str:
    lines = [f"  {each.task}: {each.problem}" for each in wrong[:SHOWN_DIFFERENCES]]
    if len(wrong) > SHOWN_DIFFERENCES:
        lines.append(f"  and {len(wrong) - SHOWN_DIFFERENCES} more")
    return "\n".join(
        (f"the store differs from the cluster in {counted(len(wrong), 'place')}:", *lines)
    )


def summarize(config: DemoConfig, progress: Progress, compared: int, backend: str) -> None:
    """Say what came of it, on lines that fit a terminal."""
    totals = progress.totals
    ends = ", ".join(f"{count} {status}" for status, count in sorted(totals.statuses.items()))
    tasks = sum(totals.statuses.values())
    said = [
        f"{counted(totals.workflows, 'workflow')}, {counted(tasks, 'task')}: {ends}",
        f"{counted(progress.messages, 'report')} over {config.transport} and"
        f" {mask_text(config.queue)}, creation to row p50 {progress.p50 * 1e3:.1f} ms,"
        f" p99 {progress.p99 * 1e3:.1f} ms",
        f"the store equals the cluster: {counted(compared, 'live pod')} compared,"
        f" {totals.deleted} deleted ones marked",
        f"database: {mask_text(config.store or str(DEFAULT_DATABASE.resolve()))}",
    ]
    if config.store is None:
        said.append(f'sqlite3 {DEFAULT_DATABASE} "{QUERY}"')
    elif backend != BACKEND:
        said.append(f"of this run are its rows with backend = '{backend}'")
    for text in said:
        tell(wrapped(text))
