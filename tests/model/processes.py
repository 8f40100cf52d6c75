"""The programs of a pipeline as tasks of one event loop: what their services wire, without sockets.

Each can be stopped as its user stops it, and killed: then it says goodbye to nobody.
"""

import asyncio
import contextlib
import random
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import Any, Generic

import msgspec

from osmo_listener.heartbeat import send_heartbeats
from osmo_listener.informer import Informer, InformerConfig, ReflectorConfig
from osmo_listener.listeners import NodeConfig, NodeListener, WorkflowConfig, WorkflowListener
from osmo_listener.pods_current import Dated, tell_pods_current
from osmo_listener.reporter import Reporter
from osmo_operator.names import Names
from osmo_operator.relay import Relay
from osmo_operator.service import admission, resync_strangers, tell_rules
from osmo_reports.bodies import Registration, encode_introduction
from osmo_reports.directory import Directory
from osmo_runtime.operations import Inquiry
from osmo_transport import (
    BackoffConfig,
    Client,
    ClientConfig,
    Consumer,
    Delivery,
    Outcome,
    Queue,
    QueueConfig,
    QueueUnavailableError,
    Retry,
    ServerConfig,
    connect,
    listen,
    transport_for,
)
from osmo_transport.testing.faults import FaultyTransport
from osmo_worker import Worker, WorkerConfig
from osmo_worker.config import StoreConfig
from osmo_worker.housekeeping import keep_house, tell_epochs
from osmo_worker.metrics import WorkerMetrics
from osmo_worker.store import StateStore
from osmo_worker.store.database import Database
from tests.listener_rules.harness import T0
from tests.model.cluster import Etcd, T

BACKEND = "backend-1"
URL = "memory://model"
LIMITS = QueueConfig(max_attempts=1000, lease=30.0, retry_maximum=4.0)
STORE = StoreConfig(start_timeout=90.0, housekeeping_interval=50.0)
WORKER = WorkerConfig(limits=LIMITS, read_limit=20, max_in_flight=200, batch_limit=10)
INFORMER = InformerConfig(
    reflector=ReflectorConfig(backoff=BackoffConfig(base=0.8, maximum=5.0)), resync_interval=None
)
CLIENT = ClientConfig(backoff=BackoffConfig(maximum=3.0))
SERVER = ServerConfig()
HEARTBEAT = 20.0
REGISTRATION = Registration("uid-1", "osmo", "1.0", "osmo.nvidia.com/")


def wall() -> float:
    """Seconds since the Unix epoch, on everybody's clock."""
    return T0 + asyncio.get_running_loop().time()


class Process(ABC):
    """A program. It ends by itself with an error only, which `check` raises."""

    def __init__(self) -> None:
        self._stop = asyncio.Event()
        self._task = asyncio.create_task(self._run(self._stop))

    async def stop(self) -> None:
        """Ask it to stop, and wait for that."""
        self._stop.set()
        await self._task

    async def kill(self) -> None:
        """End it at once."""
        self._cut_off()
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    def check(self) -> None:
        """Raise what it ended with, if it has."""
        if self._task.done():
            self._task.result()
            raise AssertionError(f"{type(self).__name__} ended by itself")

    @abstractmethod
    async def _run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set."""

    @abstractmethod
    def _cut_off(self) -> None:
        """Let nothing that it still does reach anybody."""


async def _until(stop: asyncio.Event, *works: Coroutine[Any, Any, Any]) -> None:
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(work) for work in works]
        await stop.wait()
        for task in running:
            task.cancel()


class ListenerProcess(Process, Generic[T]):
    """A listener that reports one kind of object, and is a producer of its own."""

    def __init__(self, etcd: Etcd[T], kind: str) -> None:
        self.wire = FaultyTransport(transport_for(URL))
        self._etcd: Etcd[T] = etcd
        self._kind = kind
        self._client: Client | None = None
        super().__init__()

    @property
    def dropped(self) -> int:
        """Messages that were lost for want of room."""
        return 0 if self._client is None else self._client.stats.dropped

    async def _run(self, stop: asyncio.Event) -> None:
        source = self._etcd.open_source()
        try:
            async with connect(
                URL,
                backend=BACKEND,
                source=self._kind,
                introduction=encode_introduction(REGISTRATION),
                config=CLIENT,
                transport=self.wire,
            ) as client:
                self._client = client
                dated = Dated(source, wall)
                await _until(stop, *self._works(client, dated))
        finally:
            self._etcd.close_source(source)

    def _works(self, client: Client, dated: Dated[T]) -> list[Coroutine[Any, Any, Any]]:
        # Nothing is sent a second time by itself: that would hide what was lost.
        reporter: Reporter[Any]
        more: list[Coroutine[Any, Any, Any]] = []
        if self._kind == "pods":
            pods = WorkflowListener(WorkflowConfig(resend_after=0.0))
            reporter = Reporter(pods, client, name="pods", instead=pods.refused, clock=wall)
            more.append(tell_pods_current(reporter, dated, BACKEND, HEARTBEAT, clock=wall))
        else:
            nodes = NodeListener(NodeConfig(resend_after=0.0))
            reporter = Reporter(nodes, client, name="nodes", clock=wall)
        clock = asyncio.get_running_loop().time
        informer: Informer[T] = Informer(dated, reporter, INFORMER, clock=clock)
        reporter.read_from(informer.store.values)
        return [
            *more,
            send_heartbeats(client, BACKEND, REGISTRATION, HEARTBEAT, clock=wall),
            reporter.follow_epochs(),
            reporter.keep_time(),
            informer.run(),
        ]

    def _cut_off(self) -> None:
        self.wire.refuse()
        self.wire.reset()


class OperatorProcess(Process):
    """An operator."""

    def __init__(self, queue: Queue, directory: Directory) -> None:
        self._queue = queue
        self._directory = directory
        super().__init__()

    async def _run(self, stop: asyncio.Event) -> None:
        queue, rules_known = self._queue, asyncio.Event()
        names = Names(self._directory, BackoffConfig())
        async with listen(
            URL,
            admit=admission(queue, names, rules_known),
            renew=queue.renew,
            config=SERVER,
        ) as server:
            clock = asyncio.get_running_loop().time
            relay = Relay(server, queue, 50, 1 << 16, 1 << 16, BackoffConfig(), clock)
            asking = Inquiry(queue.status, 2.0, (QueueUnavailableError,), clock)
            server.can_store = lambda: relay.check().ok and asking.check().ok
            relaying = asyncio.create_task(relay.run())
            try:
                await _until(
                    stop,
                    asking.run(partial(resync_strangers, server)),
                    tell_rules(self._directory, server, rules_known, BackoffConfig()),
                    names.keep(server),
                )
                server.stop()
                await relaying
            finally:
                relaying.cancel()

    def _cut_off(self) -> None:
        """Its connections end with it, and what it has not stored goes with them."""


class Disorder:
    """What may happen to deliveries between the queue and the store, as often as it is `likely`:
    they come in another order, later than others, or once more, whenever that is."""

    REMEMBERED = 200
    """The latest deliveries, of which any may come once more at any moment."""

    def __init__(self, store: StateStore, draw: random.Random) -> None:
        self.likely = 0.0
        self.duplicated = 0
        self.postponed = 0
        self._store = store
        self._draw = draw
        self._seen: deque[Delivery] = deque(maxlen=self.REMEMBERED)
        self._all: list[Delivery] = []

    async def repeat(self) -> None:
        """Let everything that was ever delivered come once more, in another order."""
        again = self._draw.sample(self._all, len(self._all))
        for start in range(0, len(again), WORKER.batch_limit):
            await self._store.handle_batch(again[start : start + WORKER.batch_limit])

    async def handle_batch(self, deliveries: Sequence[Delivery]) -> Sequence[Outcome]:
        """See `BatchHandler`."""
        draw, likely = self._draw, self.likely
        outcomes: dict[str, Outcome] = {}
        taken: list[Delivery] = []
        for delivery in deliveries:
            if draw.random() < likely:
                outcomes[delivery.id] = Retry("later", draw.choice([0.1, 1.0, 10.0]))
            else:
                taken.append(delivery)
        self.postponed += len(outcomes)
        again = [each for each in self._seen if draw.random() < likely / 10]
        self.duplicated += len(again)
        self._seen.extend(taken)
        self._all += taken
        mixed = taken + [msgspec.structs.replace(each, id=f"again-{each.id}") for each in again]
        if likely:
            draw.shuffle(mixed)
        if mixed:
            found = await self._store.handle_batch(mixed)
            outcomes |= {each.id: outcome for each, outcome in zip(mixed, found, strict=True)}
        return [outcomes[delivery.id] for delivery in deliveries]


class _Killed(Consumer):
    """A consumer that gives nothing back once its process was killed."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self.killed = False

    async def receive(self, limit: int) -> list[Delivery]:
        return await self._consumer.receive(limit)

    async def settle(self, outcomes: Sequence[tuple[Delivery, Outcome]]) -> None:
        if not self.killed:
            await self._consumer.settle(outcomes)

    @property
    def buried(self) -> int:
        return self._consumer.buried

    async def aclose(self) -> None:
        if not self.killed:
            await self._consumer.aclose()


class WorkerProcess(Process):
    """A worker. One that is started after a kill under the same name goes on with what that had in
    hand."""

    def __init__(self, queue: Queue, store: StateStore, handler: Disorder, name: str) -> None:
        self._queue = queue
        self._store = store
        self._handler = handler
        self._consumer = _Killed(queue.consumer("workers", name))
        super().__init__()

    async def _run(self, stop: asyncio.Event) -> None:
        metrics = WorkerMetrics()
        worker = Worker(self._consumer, self._handler, WORKER, metrics=metrics, clock=wall)
        async with asyncio.TaskGroup() as beside:
            chores = [
                beside.create_task(keep_house(self._store, metrics, STORE.housekeeping_interval)),
                beside.create_task(tell_epochs(self._store, self._queue, STORE.epochs_interval)),
            ]
            await worker.run(stop)
            for chore in chores:
                chore.cancel()

    def _cut_off(self) -> None:
        self._consumer.killed = True


class _Direct(Database):
    """A database whose calls are made at once, in turn with whatever else is ready."""

    async def call(self, work: Any, *args: Any) -> Any:
        await asyncio.sleep(0)
        return work(*args)

    async def aclose(self) -> None:
        self._engine.dispose()


def open_store() -> StateStore:
    """A store in memory."""
    return StateStore(_Direct("memory://", STORE), STORE, WorkerMetrics(), wall)
