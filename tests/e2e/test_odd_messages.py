"""What a message may hold that nobody expects: it is stored or refused, alone, and ends nothing."""

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from osmo_operator.relay import Relay
from osmo_reports.bodies import BODY_TYPES, UpdatePod, encode_body
from osmo_transport import (
    BackoffConfig,
    Client,
    Delivery,
    Limits,
    Message,
    Outcome,
    Queue,
    QueueConfig,
    TlsConfig,
    TransportError,
    UnsendableError,
    Version,
    connect,
    listen,
    new_id,
    new_message,
    open_queue,
    transport_for,
)
from osmo_transport.frames import PROTOCOL, Batch, Frame, Hello, Stored, Welcome
from osmo_transport.message import MAX_EPOCH, MAX_NAME, MAX_REVISION
from osmo_transport.transports.abc import ConnectionConfig, FrameSink
from osmo_worker import StoreConfig, Worker, WorkerConfig
from osmo_worker.store import StateStore, open_store
from tests.worker.harness import settled, until

MEGABYTE = 1024 * 1024
BACKOFF = BackoffConfig(base=0.001, maximum=0.005)
NEVER = 3600.0
"""Seconds: longer than a test lasts, so that what is given back is found waiting."""

LARGEST = 1.7976931348623157e308
FLOATS = st.sampled_from(
    (*(0.0, -0.0, 5e-324, 1e12, 1e15, 1e300, LARGEST), *(math.nan, math.inf))
).flatmap(lambda number: st.sampled_from((number, -number)))
INTEGERS = st.sampled_from(
    [0, -1, 1, 2**31, -(2**31) - 1, 2**53, 2**63 - 1, 2**63, -(2**63), 2**64 - 1, 2**64, 10**400]
)
TEXTS = st.sampled_from(
    ["", "\0", "a\0b", "\ud800", "'; --", "%s", "é" * MAX_NAME, "x" * (MAX_NAME + 1), "\u202e"]
) | st.text(max_size=5)
TIMES = st.sampled_from(
    [
        *("", "soon", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00"),
        *("9999-12-31T23:59:59-14:00", "2026-02-30T00:00:00Z", "1" * 5000, "2026-01-02T03:04:05"),
    ]
)
ANYTHING = st.recursive(
    FLOATS | INTEGERS | TEXTS | TIMES | st.none() | st.booleans() | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=4,
)
DEEP = st.sampled_from([b"\x91", b"\x81\xa1x", b"\x81\x91", b"\xdc\x00\x01"]).flatmap(
    lambda opening: st.sampled_from([100, 1_000, 10_000, 200_000]).map(lambda n: opening * n)
)
"""Arrays and maps of msgpack, one in the other, that do not end."""


def _bodies(kind: str) -> st.SearchStrategy[bytes]:
    """A body of a kind, with anything in its fields."""
    fields = [field.name for field in msgspec.structs.fields(BODY_TYPES[kind])]
    return st.dictionaries(st.sampled_from(fields) | TEXTS, ANYTHING, max_size=6).map(_packed)


def _packed(value: Any) -> bytes:
    """As msgpack has it; what it cannot hold is left out."""
    try:
        return msgspec.msgpack.encode(value)
    except (OverflowError, ValueError):
        return b""


def _pod(**fields: Any) -> bytes:
    """A whole report of a pod, but for some fields."""
    whole = {"workflow_uuid": "w", "task_uuid": "t", "retry_id": 0, "status": "RUNNING"}
    return _packed(whole | fields)


KINDS = st.sampled_from(sorted(BODY_TYPES))
PODS = st.dictionaries(
    st.sampled_from([field.name for field in msgspec.structs.fields(UpdatePod)]), ANYTHING
).map(lambda fields: _pod(**fields))
NESTED = st.builds(lambda deep: b"\x85" + _pod()[1:] + b"\xa1x" + deep, DEEP)
"""A report of a pod with a field of a later version, that nests."""
PAYLOADS = PODS | NESTED | DEEP | KINDS.flatmap(_bodies) | st.binary(max_size=20)

CHANGES = st.fixed_dictionaries(
    {"kind": KINDS | st.just("update_pod") | TEXTS, "payload": PAYLOADS},
    optional={
        "key": TEXTS,
        "version": st.builds(
            Version,
            st.sampled_from([0, 1, MAX_EPOCH, MAX_EPOCH + 1, -1]),
            st.sampled_from([0, MAX_REVISION, MAX_REVISION + 1, -1]),
        ),
        "timestamp": FLOATS | INTEGERS,
        "id": TEXTS,
        "traceparent": TEXTS | st.just("0" * MEGABYTE) | st.just("00-" + "0" * 32),
        "final": st.booleans(),
    },
)


def odd(changes: dict[str, Any]) -> Message:
    """A message that has some fields of its own."""
    return msgspec.structs.replace(new_message("update_pod", "odd", _pod()), **changes)


def _encoded(rest: list[bytes]) -> bytes:
    """The bytes of a message whose head is right, and whose other fields are these."""
    head = (_packed("update_pod"), _packed("raw"), _packed([0, 1]))
    return bytes([0x90 + len(head) + len(rest)]) + b"".join((*head, *rest))


ENCODED = st.lists(ANYTHING.map(_packed) | PAYLOADS | DEEP, max_size=7).map(_encoded) | PAYLOADS
"""What a peer may send in the place of a message."""


class Watched:
    """A store, and what it raised: nothing that is odd with a report may be an exception, which
    makes the worker hand over its whole batch again, one by one."""

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self.raised: list[Exception] = []

    async def handle_batch(self, deliveries: Sequence[Delivery]) -> Sequence[Outcome]:
        try:
            return await self._store.handle_batch(deliveries)
        except Exception as exc:
            self.raised.append(exc)
            raise


FrameT = TypeVar("FrameT", bound=Frame)


class Peer(FrameSink):
    """Keeps what a server says."""

    def __init__(self) -> None:
        self._frames: asyncio.Queue[Frame] = asyncio.Queue()

    def frame_received(self, frame: Frame) -> None:
        self._frames.put_nowait(frame)

    def writing_resumed(self) -> None:
        pass

    def connection_lost(self, error: TransportError) -> None:
        pass

    async def came(self, kind: type[FrameT]) -> FrameT:
        """The next frame of a kind."""
        async with asyncio.timeout(10):
            while not isinstance(frame := await self._frames.get(), kind):
                pass
        return frame


class Line:
    """The way of a message from a client to the store, all of it in this process."""

    url = "memory://odd"
    """Where the server listens."""

    def __init__(
        self, client: Client, queue: Queue, worker: Worker, store: StateStore, watched: Watched
    ) -> None:
        self.client = client
        self.queue = queue
        self.worker = worker
        self.store = store
        self.watched = watched

    async def takes(self, encoded: Sequence[bytes]) -> None:
        """Send bytes in the place of messages, as no client of ours would, and wait for the answer
        to all of them."""
        peer = Peer()
        config = ConnectionConfig(
            limits=Limits(), tls=TlsConfig(), open_timeout=5, max_connections=1
        )
        connection = await transport_for(self.url).dial(self.url, peer, config)
        connection.send(Hello(PROTOCOL, "backend", "odd", new_id(), "", 0, 0, Limits()))
        await peer.came(Welcome)
        connection.send(Batch(1, tuple(encoded)))
        while (await peer.came(Stored)).sequence < len(encoded):
            pass
        connection.close()
        await connection.wait_closed()

    async def carries(self, messages: Sequence[Message]) -> None:
        """Fail unless a good report behind these messages arrives, and nothing of them is left."""
        good = UpdatePod("good", "task", 0, "RUNNING")
        for message in messages:
            with suppress(UnsendableError):
                await self.client.send(message)
        version = Version(self.client.epoch, 1)
        await self.client.send(
            new_message("update_pod", "good/task/0", encode_body(good), version=version)
        )
        await self.client.flush()
        assert self.client.stats.connects == 1
        await until(lambda: settled(self.queue))
        assert not self.watched.raised
        assert "good" in {task.workflow_uuid for task in await self.store.tasks()}
        figures = self.worker.metrics.processing_time
        for figure in (figures.mean, figures.maximum, figures.percentile(99)):
            assert math.isfinite(figure)


@asynccontextmanager
async def line() -> AsyncIterator[Line]:
    """A client, an operator's relay, a worker and its store, over the queue in memory."""
    limits = QueueConfig(retry_base=NEVER, retry_maximum=NEVER)
    config = WorkerConfig(name="worker", backoff=BACKOFF)
    stop = asyncio.Event()
    async with (
        await open_queue("memory://", limits) as queue,
        open_store("memory://", StoreConfig(snapshot_delay=0.001)) as store,
        listen(Line.url, admit=lambda g: queue.open_producer(*g[:3])) as server,
        connect(server.url, backend="backend", source="pods") as client,
        asyncio.TaskGroup() as tasks,
    ):
        relay = Relay(server, queue, 1_000, MEGABYTE, 16 * MEGABYTE, BACKOFF)
        relaying = tasks.create_task(relay.run())
        watched = Watched(store)
        worker = Worker(queue.consumer("workers", "worker"), watched, config)
        tasks.create_task(worker.run(stop))
        await client.epoch_after(0)
        yield Line(client, queue, worker, store, watched)
        stop.set()
        relaying.cancel()


@settings(max_examples=75)
@given(st.lists(CHANGES, min_size=1, max_size=3))
@example([{"timestamp": -1e308}])
@example([{"timestamp": -LARGEST}, {"timestamp": LARGEST, "key": "b"}])
@example([{"timestamp": math.nan}, {"timestamp": math.inf, "key": "b"}])
@example([{"payload": b"\x85" + _pod()[1:] + b"\xa1x" + b"\x91" * 200_000}])
@example([{"payload": _pod(retry_id=2**64 - 1)}])
def test_an_odd_message_ends_nothing(changes: list[dict[str, Any]]) -> None:
    """It is refused to its sender, by the operator or by the worker, or it is stored; what comes
    behind it arrives, the store raises nothing, and every figure can be told."""

    async def run() -> None:
        async with line() as whole:
            await whole.carries([odd(each) for each in changes])

    asyncio.run(run())


@settings(max_examples=50)
@given(st.lists(ENCODED, min_size=1, max_size=3))
@example([_encoded([b"\x91" * 200_000])])
@example([_encoded([_packed("id"), _packed(1.0), b"\x91" * 200_000])])
@example([_encoded([_packed("id"), _packed(math.nan), _pod(), b"\xc2", b"\x91" * 200_000])])
def test_bytes_that_are_no_message_end_nothing(encoded: list[bytes]) -> None:
    """The operator refuses what has no head, the worker what has nothing else."""

    async def run() -> None:
        async with line() as whole:
            await whole.takes(encoded)
            await whole.carries([])

    asyncio.run(run())
