"""One history, reported in three ways, gives users the same tables."""

import asyncio
import random
import sqlite3
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from grpc import aio

from osmo_deployed import protojson
from osmo_deployed.messages import (
    Arrivals,
    ListenerMessage,
    LoggingBody,
    NodeInventoryBody,
    PodEventBody,
    Taint,
    UpdateNodeBody,
    UpdateNodeUsageBody,
    UpdatePodBody,
    to_message,
)
from osmo_deployed.times import written
from osmo_operator.config import OperatorConfig
from osmo_operator.service import run_operator
from osmo_protos import listener_service_pb2 as pb
from osmo_runtime.queues import queue_url
from osmo_transport import Queue, connect, open_queue
from osmo_transport.testing.redis_server import RedisServer
from osmo_worker.config import WorkerConfig
from osmo_worker.service import run_worker
from tests.deployed.harness import Listener

BACKEND = "east"
MESSAGES = 1_000
WINDOW = 100
NODES = [f"n{number}" for number in range(20)]
STATUSES = ("SCHEDULING", "INITIALIZING", "RUNNING", "RUNNING", "COMPLETED", "FAILED")
TABLES = ("tasks", "nodes", "node_usage", "pod_events", "inventories")
TIMES = {"updated_at", "status_since", "applied_at", "reported_at"}
VERSIONS = ("epoch", "resource_version")
"""Columns that tell when and by which version something was learned, not what."""


class History:
    """What a deployed listener sends: tasks, nodes, usage, inventories, events and logs, and now
    and then something old once more, as after a reconnect. A pod stays on its node, and when that
    is gone only its end is reported; a node that is gone does not come back."""

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed)
        self._now = datetime(2026, 1, 2, tzinfo=UTC)
        self._lost: set[str] = set()

    def messages(self) -> Iterator[ListenerMessage]:
        """All of them."""
        draw, sent = self._draw, deque[ListenerMessage](maxlen=50)
        for number in range(MESSAGES):
            self._now += timedelta(microseconds=draw.randrange(1, 3_000_000))
            if sent and draw.random() < 0.1:
                yield draw.choice(sent)
                continue
            kind, body = self._body()
            message = ListenerMessage(f"{number:032x}", self._written, **{kind: body})
            sent.append(message)
            yield message

    @property
    def _there(self) -> list[str]:
        return [name for name in NODES if name not in self._lost]

    @property
    def _written(self) -> str:
        return written(self._now.timestamp())

    def _body(self) -> tuple[str, Any]:
        draw = self._draw
        amounts = {"cpu": str(draw.randrange(9)), "memory": f"{draw.randrange(9)}Ki"}
        kinds = ["pod"] * 12 + ["node"] * 4 + ["usage"] * 3 + ["event"] * 2 + ["inventory", "log"]
        match draw.choice(kinds):
            case "pod":
                return "update_pod", self._pod()
            case "node":
                return "update_node", self._node(amounts)
            case "usage":
                name = draw.choice(self._there)
                return "update_node_usage", UpdateNodeUsageBody(name, amounts, amounts)
            case "event":
                name = f"p{draw.randrange(9)}"
                return "pod_event", PodEventBody(name, "Pulled", "an image", self._written)
            case "inventory":
                if draw.random() < 0.1:
                    self._lost.add(draw.choice(self._there))
                return "node_inventory", NodeInventoryBody(tuple(self._there))
        return "logging", LoggingBody(text="hello")

    def _pod(self) -> UpdatePodBody:
        draw = self._draw
        task = draw.randrange(150)
        node = NODES[task % len(NODES)]
        status = draw.choice(STATUSES[-2:] if node in self._lost else STATUSES)
        return UpdatePodBody(
            workflow_uuid=f"w{task // 4}",
            task_uuid=f"t{task}",
            retry_id=0,
            container="main",
            node=node,
            pod_ip="10.0.0.1",
            message=draw.choice(["", "said"]),
            status=status,
            exit_code={"COMPLETED": 0, "FAILED": 7}.get(status, -1),
            backend=BACKEND,
        )

    def _node(self, amounts: dict[str, str]) -> UpdateNodeBody:
        draw = self._draw
        name = draw.choice(self._there)
        if draw.random() < 0.03:
            self._lost.add(name)
            return UpdateNodeBody(hostname=name, delete=True)
        return UpdateNodeBody(
            hostname=name,
            available=draw.random() < 0.8,
            conditions=("Ready",),
            allocatable_fields=amounts,
            label_fields={"zone": draw.choice("ab")},
            taints=(Taint("k", draw.choice("vw"), "NoSchedule", ""),),
        )


async def by_our_protocol(url: str, messages: Sequence[ListenerMessage], _: Any) -> None:
    """As our own listeners report."""
    arrivals = Arrivals()
    async with connect(url, backend=BACKEND) as client:
        for message in messages:
            await client.send(to_message(message, arrivals.next()))
        await client.flush()


async def by_their_service(url: str, messages: Sequence[ListenerMessage], stub: Any) -> None:
    """As deployed listeners do: a window of messages, each acknowledged by itself."""
    async with aio.insecure_channel(url.removeprefix("grpc://")) as channel:
        stream = Listener(stub, channel, BACKEND).stream()
        waiting: list[str] = []
        for message in messages:
            text = protojson.encode(message)
            await stream.write(json_format.Parse(text, pb.ListenerMessage()))
            waiting.append(message.uuid)
            if len(waiting) == WINDOW:
                assert (await stream.read()).ack_uuid == waiting.pop(0)
        for uuid in waiting:
            assert (await stream.read()).ack_uuid == uuid


async def play(
    how: Any, stub: Any, scheme: str, queue: str, database: Path
) -> dict[str, list[tuple[Any, ...]]]:
    """An operator and a worker, a history, and the tables that it leaves."""
    stop, started = asyncio.Event(), asyncio.Event()
    urls: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
    operator = OperatorConfig(queue=queue, listen=(f"{scheme}://127.0.0.1:0",))
    worker = WorkerConfig(queue=queue, store=f"sqlite:///{database}")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(run_operator(operator, stop, urls.set_result))
        tasks.create_task(run_worker(worker, stop, started.set))
        (url,) = await urls
        await started.wait()
        await how(url, list(History(seed=5).messages()), stub)
        async with await open_queue(queue) as opened:
            await settled(opened)
        stop.set()
    return {table: rows(database, table) for table in TABLES}


async def settled(queue: Queue) -> None:
    """Wait until everything is handled, and nothing is dead."""
    left = 1
    while left:
        await asyncio.sleep(0.01)
        status = await queue.status()
        assert status.dead == 0
        left = sum((*status.waiting.values(), *status.pending.values()))


def rows(database: Path, table: str) -> list[tuple[Any, ...]]:
    """What users see in a table."""
    with closing(sqlite3.connect(database)) as connection:
        columns = [each[1] for each in connection.execute(f"PRAGMA table_info({table})")]
        shown = [
            f"{name} IS NULL" if name == "deleted_at" else name
            for name in columns
            if name not in TIMES and not name.endswith(VERSIONS)
        ]
        found = connection.execute(f"SELECT {', '.join(shown)} FROM {table}").fetchall()
    return sorted(found, key=repr)


@pytest.mark.timeout(180)
async def test_three_ways_give_the_same_tables(stub: Any, tmp_path: Path) -> None:
    """Our own protocol, the deployed service, and the deployed layout of the queue."""
    tables = []
    for number, (how, scheme, layout) in enumerate(
        [
            (by_our_protocol, "ws", "own"),
            (by_their_service, "grpc", "own"),
            (by_our_protocol, "ws", "osmo"),
            (by_their_service, "grpc", "osmo"),
        ]
    ):
        with RedisServer() as redis:
            queue = queue_url(redis.url, layout)  # type: ignore[arg-type]
            tables.append(await play(how, stub, scheme, queue, tmp_path / f"{number}.db"))
    first, *others = tables
    assert all(first.values())
    for other in others:
        for name in TABLES:
            assert other[name] == first[name], name
