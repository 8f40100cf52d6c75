"""What the worker's tests share: reports, deliveries, a queue that is filled, faults to order."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import msgspec

from osmo_reports.bodies import (
    NO_EXIT_CODE,
    NodeInventory,
    NodeInventoryPart,
    PodEvent,
    PodExists,
    PodsCurrent,
    Registration,
    SnapshotEnd,
    UpdateNode,
    UpdateNodeUsage,
    UpdatePod,
    encode_body,
)
from osmo_transport import (
    NEW,
    Ack,
    BackoffConfig,
    Consumer,
    Delivery,
    Message,
    Outcome,
    Producer,
    Queue,
    QueueConfig,
    QueueUnavailableError,
    Version,
    batch_of,
    new_message,
    open_queue,
)
from osmo_worker import BatchHandler, Handler, StoreConfig, Worker, WorkerConfig

BACKEND = "backend-1"
FAST = BackoffConfig(base=0.001, maximum=0.005)
STORE = StoreConfig(busy_timeout=0.05, call_timeout=5.0, snapshot_delay=0.01)
CONFIG = WorkerConfig(
    read_limit=50,
    max_in_flight=200,
    batch_limit=50,
    drain_timeout=5.0,
    handler_timeout=10.0,
    backoff=FAST,
    store_limits=STORE,
    name="worker-1",
)
QUEUE = QueueConfig(retry_base=0.001, retry_maximum=0.002)

_ids = itertools.count(1)


def has_ended(status: str) -> bool:
    """Whether a report of this status is final, unless its listener says otherwise."""
    return status == "COMPLETED" or status.startswith("FAILED")


def report(
    task: str = "task",
    *,
    flow: str = "flow",
    version: tuple[int, int] = (1, 1),
    status: str = "RUNNING",
    deleted: bool = False,
    exit_code: int = NO_EXIT_CODE,
    at: float | None = None,
    **fields: str,
) -> Message:
    """An `update_pod` about one task of the workflow `flow`; `at`: when it was made."""
    body = UpdatePod(flow, task, 0, status, deleted=deleted, exit_code=exit_code, **fields)  # type: ignore[arg-type]  # the fields given by name are all text
    message = new_message(
        "update_pod",
        UpdatePod.key(flow, task, 0),
        encode_body(body),
        version=Version(*version),
        final=has_ended(status),
    )
    return message if at is None else msgspec.structs.replace(message, timestamp=at)


def existence(
    task: str = "task", *, version: tuple[int, int] = (1, 1), deleted: bool = False
) -> Message:
    """A `pod_exists` about one task of the workflow `flow`."""
    body = encode_body(PodExists("flow", task, 0, deleted))
    return new_message(
        "pod_exists", UpdatePod.key("flow", task, 0), body, version=Version(*version)
    )


def snapshot_end(count: int, *, version: tuple[int, int], kind: str = "update_pod") -> Message:
    """The end of a full snapshot of `kind`."""
    body = encode_body(SnapshotEnd(kind, count))
    return new_message("snapshot_end", kind, body, version=Version(*version))


def node_report(
    node: str = "node-1",
    *,
    hostname: str | None = None,
    version: tuple[int, int] = (1, 1),
    deleted: bool = False,
    available: bool = True,
) -> Message:
    """An `update_node`; the hostname is the name where nothing else is said."""
    host = node if hostname is None else hostname
    body = encode_body(UpdateNode(node, host, available, deleted=deleted))
    return new_message("update_node", node, body, version=Version(*version))


def inventory(*nodes: str, version: tuple[int, int]) -> Message:
    """A `node_inventory`."""
    body = encode_body(NodeInventory(nodes))
    return new_message("node_inventory", NodeInventory.KEY, body, version=Version(*version))


def inventory_part(*nodes: str, part: int = 0, parts: int = 2, version: tuple[int, int]) -> Message:
    """A `node_inventory_part`."""
    body = NodeInventoryPart(nodes, part, parts)
    key, payload = NodeInventoryPart.key(part), encode_body(body)
    return new_message("node_inventory_part", key, payload, version=Version(*version))


def usage_report(
    node: str = "node-1", *, version: tuple[int, int] = (1, 1), cpu: str = "4"
) -> Message:
    """An `update_node_usage`."""
    body = encode_body(UpdateNodeUsage(node, f"{node}.host", {"cpu": cpu}, {"cpu": "1"}))
    return new_message("update_node_usage", node, body, version=Version(*version))


def pod_event(
    pod: str = "osmo/pod-1",
    *,
    reason: str = "Pulled",
    message: str = "pulled the image",
    timestamp: str = "2026-01-02T03:04:05Z",
    count: int = 1,
) -> Message:
    """A `pod_event`."""
    body = encode_body(PodEvent(pod, reason, message, "Normal", timestamp, count))
    return new_message("pod_event", pod, body)


def heartbeat(
    *,
    version: tuple[int, int] = (1, 1),
    at: float = 0.0,
    release: str = "1.0",
    watch_ages: dict[str, float] | None = None,
) -> Message:
    """A `heartbeat` that was sent at a time in seconds since the Unix epoch."""
    registration = Registration("uid-1", "osmo", release, "osmo.nvidia.com/", watch_ages or {})
    body = encode_body(registration)
    message = new_message("heartbeat", BACKEND, body, version=Version(*version))
    return msgspec.structs.replace(message, timestamp=at)


def pods_current(at: float, *, epoch: int = 1, number: int = 0) -> Message:
    """A `pods_current`: what was reported of pods is all until `at`."""
    return new_message(
        "pods_current", BACKEND, encode_body(PodsCurrent(at)), version=Version(epoch, number)
    )


def event(key: str, text: str) -> Message:
    """A report of a kind of which each one matters."""
    return new_message("pod_event", key, text.encode())


async def apply(store: BatchHandler, *messages: Message) -> Sequence[Outcome]:
    """What becomes of messages of `BACKEND` that are applied in one batch."""
    return await store.handle_batch([delivery(message) for message in messages])


async def apply_in_every_order(store: BatchHandler, messages: Sequence[Message]) -> list[str]:
    """Apply messages in each of their orders, each message in a batch of its own; the names of the
    backends that they are of, one for each order."""
    backends: list[str] = []
    for order in itertools.permutations(messages):
        backends.append(f"order-{len(backends)}")
        for message in order:
            outcomes = await store.handle_batch([delivery(message, backend=backends[-1])])
            assert outcomes == [Ack()]
    return backends


def delivery(message: Message, *, backend: str = BACKEND, attempt: int = 1) -> Delivery:
    """A delivery of a message, with an id of its own."""
    return Delivery(str(next(_ids)), "pods", backend, message, attempt)


async def append(queue: Queue, messages: Sequence[Message], backend: str = BACKEND) -> None:
    """Put messages into the queue as a listener that has just started would."""
    producer = Producer(backend, f"source-{next(_ids)}")
    state = await queue.open_producer(producer, "one", NEW)
    await queue.append([batch_of(producer, state, 1, messages)])


async def settled(queue: Queue) -> bool:
    """Whether the queue holds nothing that a worker has still to do."""
    status = await queue.status()
    return not any(status.waiting.values()) and not any(status.pending.values())


@asynccontextmanager
async def filled_queue(*messages: Message, config: QueueConfig = QUEUE) -> AsyncIterator[Queue]:
    """A queue in memory that holds `messages`."""
    async with await open_queue("memory://", config) as queue:
        if messages:
            await append(queue, messages)
        yield queue


@asynccontextmanager
async def working(worker: Worker) -> AsyncIterator[Worker]:
    """The worker at work; stopped and drained on leaving."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(worker.run(stop))
        try:
            yield worker
        finally:
            stop.set()


async def until(condition: Callable[[], Awaitable[bool]], timeout: float = 10.0) -> None:
    """Return as soon as `await condition()` is true."""
    async with asyncio.timeout(timeout):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.001)


async def work_off(
    queue: Queue, handler: Handler | BatchHandler, config: WorkerConfig = CONFIG
) -> Worker:
    """Let a worker handle all that the queue holds; return the worker, stopped."""
    worker = Worker(queue.consumer(config.group, config.name), handler, config)
    async with working(worker):
        await until(lambda: settled(queue))
    return worker


class Recorder:
    """A handler that remembers what it was given, in order, and acknowledges it."""

    def __init__(self) -> None:
        self.handled: list[Delivery] = []

    async def __call__(self, delivery: Delivery) -> Outcome:
        self.handled.append(delivery)
        return Ack()

    @property
    def payloads(self) -> list[str]:
        return [item.message.payload.decode() for item in self.handled]


class FaultyConsumer(Consumer):
    """A consumer whose next calls fail as often as it is told to."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self.failing_receives = 0
        self.failing_settles = 0
        self.settlements: list[list[tuple[Delivery, Outcome]]] = []
        self.closed = False

    async def receive(self, limit: int) -> list[Delivery]:
        if self.failing_receives:
            self.failing_receives -= 1
            raise QueueUnavailableError("the queue is away")
        return await self._consumer.receive(limit)

    async def settle(self, outcomes: Sequence[tuple[Delivery, Outcome]]) -> None:
        self.settlements.append(list(outcomes))
        if self.failing_settles:
            self.failing_settles -= 1
            raise QueueUnavailableError("the queue is away")
        await self._consumer.settle(outcomes)

    @property
    def buried(self) -> int:
        return self._consumer.buried

    async def aclose(self) -> None:
        self.closed = True
        await self._consumer.aclose()
