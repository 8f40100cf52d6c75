"""A whole pipeline in the process of a test, from a cluster to the store that users see."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from osmo_listener.config import ListenerConfig
from osmo_listener.informer import InformerConfig
from osmo_listener.service import run_listener
from osmo_listener.watches import Feed
from osmo_operator.config import OperatorConfig
from osmo_operator.service import run_operator
from osmo_pipeline.testing.cluster import SimulatedCluster, open_cluster
from osmo_runtime.queues import with_all_streams
from osmo_transport import Client, Queue, QueueConfig, ServerConfig, open_queue, transport_for
from osmo_transport.testing.patience import PATIENCE, describe_client, describe_queue, patience
from osmo_worker.config import WorkerConfig
from osmo_worker.metrics import WorkerMetrics
from osmo_worker.service import run_worker
from osmo_worker.store import StateStore, open_store

LISTENERS = ("workflow", "node", "event")
"""What is reported where nothing else is said. The usage listener is none of them: it reports a
node once in 15 seconds, which no test should wait for."""
MAX_CONNECTIONS = 100
"""Clients that the operator lets in: for more it might raise the limit of descriptors of the test's
process."""
POLL = 0.002
"""Seconds between two looks whether everything has arrived."""


class Serving(NamedTuple):
    """The services while they run."""

    url: str
    """Of the operator."""
    client: Client
    """The listener's."""
    feeds: Mapping[str, Feed]
    """By listener, what it is told from."""


class Pipeline:
    """What `open_pipeline` opens."""

    def __init__(
        self,
        cluster: SimulatedCluster,
        queue: Queue,
        store: StateStore,
        backend: str,
        serving: Serving,
        metrics: WorkerMetrics,
    ) -> None:
        self.cluster = cluster
        """Where things happen."""
        self.url = serving.url
        """Where the operator listens, for whoever else reports."""
        self.queue = queue
        """Between operator and worker."""
        self.store = store
        """What users see."""
        self.backend = backend
        """As which the cluster is reported."""
        self._client = serving.client
        self._feeds = serving.feeds
        self._metrics = metrics

    async def settled(self, *, dead: int = 0, within: float = PATIENCE) -> None:
        """Return when the store shows everything that has happened in the cluster so far.

        Of a pod that changes several times in a row the store may see the last of it only: reports
        of one pod coalesce wherever they wait. A test that wants to see a status settles behind it.

        Args:
            dead: how many dead letters there have to be.
            within: seconds that it may take.

        Raises:
            AssertionError: it took longer, and the text says what stands where; or the queue holds
                another number of dead letters, with their reasons.
        """
        __tracebackhide__ = True
        version = self.cluster.state.version
        what = f"the store to show version {version} of the cluster"
        async with patience(within, what, self.stands):
            await _until(lambda: self._has_seen(version))
            await _until(lambda: self._client.stats.waiting + self._client.stats.in_flight == 0)
            while True:
                status = await self.queue.status()
                if not sum((*status.waiting.values(), *status.pending.values())):
                    break
                await asyncio.sleep(POLL)
        letters = await self.queue.dead_letters(max(10, dead + 1))
        found = [f"{letter.id} of {letter.stream}: {letter.reason}" for letter in letters]
        assert len(letters) == dead, f"{len(letters)} dead letters and not {dead}: {found}"

    async def stands(self) -> str:
        """How far everything is, in words."""
        parts = [f"the cluster is at version {self.cluster.state.version}"]
        for name, feed in self._feeds.items():
            for informer in feed.informers:
                status = informer.status()
                failure = f" ({status.last_failure})" if status.last_failure else ""
                parts.append(f"the {name} listener at {status.resource_version}{failure}")
        parts.append(f"reports: {describe_client(self._client)}")
        if self._metrics.holding:
            parts.append(f"the worker waits: {self._metrics.holding}")
        parts.append(describe_queue(await self.queue.status()))
        return "; ".join(parts)

    def _has_seen(self, version: int) -> bool:
        """Whether everything that happened up to this version was handed to the client."""
        informers = [informer for feed in self._feeds.values() for informer in feed.informers]
        return all(
            status.synced and status.resource_version >= version and not status.telling
            for status in (informer.status() for informer in informers)
        )


@asynccontextmanager
async def open_pipeline(
    folder: Path,
    *,
    transport: str = "memory://",
    queue: str = "",
    store: str = "",
    backend: str = "backend",
    listeners: Sequence[str] = LISTENERS,
    nodes: int = 1,
) -> AsyncIterator[Pipeline]:
    """A pipeline of a simulated cluster, settled, until the context is left; what is then on its
    way is lost.

    Args:
        folder: where files of it may be.
        transport: URL at which the operator listens, with the port 0 where it has one.
        queue: URL of an empty queue; without one, one in memory.
        store: URL of an empty state store that can be opened twice; without one, a new SQLite file
            in `folder`.
        backend: as which the cluster is reported.
        listeners: what is reported of it.
        nodes: how many it has.

    Raises:
        TransportError: a URL cannot be used, or lacks an extra; the text says what to change.
    """
    __tracebackhide__ = True
    transport_for(transport)
    queue = queue or f"memory://test-{uuid.uuid4().hex}"
    store = store or f"sqlite:///{folder / f'{uuid.uuid4().hex}.db'}"
    limits = with_all_streams(QueueConfig())
    async with (
        open_cluster(folder, nodes=nodes) as cluster,
        await open_queue(queue, limits) as opened,
        open_store(store) as reading,
    ):
        metrics = WorkerMetrics()
        worker = WorkerConfig(queue=queue, store=store, name="worker", limits=limits)
        server = ServerConfig(max_connections=MAX_CONNECTIONS)
        operator = OperatorConfig(listen=(transport,), queue=queue, server=server, limits=limits)
        listener = ListenerConfig(
            backend=backend,
            kubeconfig=cluster.kubeconfig,
            namespace=cluster.namespace,
            listeners=tuple(listeners),
            informer=InformerConfig(resync_interval=None),
            report_logs=False,  # others in this process log, too
        )
        async with _serving(worker, operator, listener, metrics) as serving:
            pipeline = Pipeline(cluster, opened, reading, backend, serving, metrics)
            await pipeline.settled()
            yield pipeline


@asynccontextmanager
async def _serving(
    worker: WorkerConfig, operator: OperatorConfig, listener: ListenerConfig, metrics: WorkerMetrics
) -> AsyncIterator[Serving]:
    """The services, of which the listener reports to the operator, until the context is left."""
    __tracebackhide__ = True
    never, ready = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    urls: asyncio.Future[list[str]] = loop.create_future()
    started: asyncio.Future[tuple[Client, Mapping[str, Feed]]] = loop.create_future()
    try:
        async with asyncio.TaskGroup() as services:
            working = services.create_task(run_worker(worker, never, ready.set, metrics=metrics))
            await ready.wait()
            relaying = services.create_task(run_operator(operator, never, urls.set_result))
            (url,) = await urls
            listening = services.create_task(
                run_listener(
                    replace(listener, connect=url),
                    never,
                    lambda client, feeds: started.set_result((client, feeds)),
                )
            )
            yield Serving(url, *await started)
            for task in (listening, relaying, working):
                task.cancel()
    except BaseExceptionGroup as group:
        # What the test raised comes last, and is the test's own: a group around it would hide that
        # it failed, or was skipped.
        raise group.exceptions[-1] from None


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  (figures that nobody tells the changes of)
        await asyncio.sleep(POLL)
