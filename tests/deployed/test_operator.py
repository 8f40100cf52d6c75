"""Deployed listeners at a whole operator, with its queue in Redis."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from osmo_operator.config import OperatorConfig
from osmo_operator.service import run_operator
from osmo_reports import open_directory
from osmo_reports.bodies import Registration, decode_body
from osmo_transport import Ack, BackoffConfig, Queue, open_queue
from osmo_transport.testing.redis_server import RedisServer
from tests.deployed.harness import acknowledged, deployed, pod
from tests.helpers import eventually


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A server that keeps what it stored over a restart."""
    with RedisServer(appendonly="yes", appendfsync="always") as server:
        yield server


@asynccontextmanager
async def operators(redis: RedisServer, count: int = 1) -> AsyncIterator[list[str]]:
    """Operators of one queue, and where each listens."""
    stop = asyncio.Event()
    config = OperatorConfig(
        queue=redis.url,
        listen=("grpc://127.0.0.1:0",),
        check_interval=0.02,
        backoff=BackoffConfig(base=0.01, maximum=0.01),
    )
    async with asyncio.TaskGroup() as tasks:
        targets = []
        for _ in range(count):
            ready: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
            tasks.create_task(run_operator(config, stop, ready.set_result))
            targets += [url.removeprefix("grpc://") for url in await ready]
        yield targets
        stop.set()


async def receive(queue: Queue, count: int) -> list[tuple[str, str]]:
    """Kind and key of what a worker gets."""
    found: list[tuple[str, str]] = []
    async with queue.consumer("workers", "one") as consumer:
        while len(found) < count:
            deliveries = await consumer.receive(count)
            found += [(d.message.kind, d.message.key) for d in deliveries]
            await consumer.settle([(delivery, Ack()) for delivery in deliveries])
    return found


async def test_reports_reach_a_worker(stub: Any, redis: RedisServer) -> None:
    """By a stream, one by one, and by two operators."""
    async with (
        operators(redis, 2) as (here, there),
        await open_queue(redis.url) as queue,
        deployed(stub, here) as one,
        deployed(stub, there) as other,
    ):
        streams = one.stream(), other.stream()
        for number, stream in enumerate(streams):
            await stream.write(pod(f"s{number}"))
        for stream in streams:
            await acknowledged(stream, 1)
        await one.single(pod("u0"))
        await other.single(pod("u1"))
        keys = {("update_pod", f"workflow/{task}/0") for task in ("s0", "s1", "u0", "u1")}
        assert set(await receive(queue, 4)) == keys


async def test_an_outage_of_the_queue_is_told_and_waited_out(stub: Any, redis: RedisServer) -> None:
    """Health says so, nothing is acknowledged, and everything is when the queue is back."""
    async with (
        operators(redis) as (target,),
        deployed(stub, target) as listener,
        aio.insecure_channel(target) as channel,
    ):
        health = health_pb2_grpc.HealthStub(channel)

        async def status() -> Any:
            return (await health.Check(health_pb2.HealthCheckRequest())).status

        async def becomes(expected: Any) -> None:
            while await status() != expected:
                pass

        call = listener.stream()
        await call.write(pod("before"))
        await acknowledged(call, 1)
        assert await status() == health_pb2.HealthCheckResponse.SERVING
        redis.kill()
        await becomes(health_pb2.HealthCheckResponse.NOT_SERVING)
        answer = asyncio.create_task(call.read())
        await call.write(pod("meanwhile"))
        for _ in range(10):
            await status()
        assert not answer.done()
        redis.restart()
        await answer
        await becomes(health_pb2.HealthCheckResponse.SERVING)
        async with await open_queue(redis.url) as queue:
            assert len(await receive(queue, 2)) == 2


async def test_a_second_cluster_of_the_same_name_is_refused(stub: Any, redis: RedisServer) -> None:
    """2.1: by every operator, with the known sentence; the first cluster may come again."""
    async with (
        operators(redis, 2) as (here, there),
        deployed(stub, here) as one,
        deployed(stub, there) as other,
    ):
        assert (await one.introduce(name="b", k8s_uid="uid-1")).success
        answer = await other.introduce(name="b", k8s_uid="uid-2")
        assert not answer.success
        assert answer.message == (
            "backend b is already being used by a different cluster (uid: uid-1)"
        )
        assert (await other.introduce(name="b", k8s_uid="uid-1", version="6.1")).success
        async with await open_queue(redis.url) as queue, queue.consumer("w", "1") as consumer:
            bodies: list[Registration] = []
            while len(bodies) < 2:
                taken = await consumer.receive(2)
                bodies += [decode_body(d.message.kind, d.message.payload) for d in taken]
                await consumer.settle([(delivery, Ack()) for delivery in taken])
        assert bodies == [Registration("uid-1"), Registration("uid-1", version="6.1")]


async def test_rules_reach_deployed_listeners(stub: Any, redis: RedisServer) -> None:
    """Whoever set them, at every operator, at once."""
    async with (
        operators(redis, 2) as targets,
        await open_directory(redis.url) as directory,
        deployed(stub, targets[0]) as one,
        deployed(stub, targets[1]) as other,
    ):
        calls = [one.conditions(), other.conditions()]
        for call in calls:
            assert (await call.read()).node_conditions.rules == {"Ready": "True"}
        for text in ("True|Unknown", "False"):
            await directory.set_rules("old", {"Ready": text})
            for call in calls:
                assert (await call.read()).node_conditions.rules == {"Ready": text}


async def test_a_lost_memory_is_told(stub: Any, redis: RedisServer) -> None:
    """The listener connects again, and sends again what it has no answer to."""
    async with operators(redis) as (target,), deployed(stub, target) as listener:
        call = listener.stream()
        await call.write(pod("one"))
        await acknowledged(call, 1)
        redis.flush()
        with pytest.raises(aio.AioRpcError, match="lost its memory"):
            await call.read()
        again = listener.stream()
        await again.write(pod("one"))
        await acknowledged(again, 1)
        await eventually(lambda: redis.command("XLEN", "{osmo}:stream:pods") == 1)
