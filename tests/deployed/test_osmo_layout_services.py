"""`--layout osmo`: our operator and our worker beside those that are deployed."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager

from osmo_operator.config import OperatorConfig
from osmo_operator.service import run_operator
from osmo_protos import listener_service_pb2 as pb
from osmo_reports.bodies import UpdatePod, encode_body
from osmo_transport import Ack, Delivery, Outcome, connect, new_message
from osmo_transport.testing.redis_server import RedisServer
from osmo_worker.config import WorkerConfig
from osmo_worker.service import run_worker
from tests.deployed.programs import KEY, DeployedOperator, DeployedWorker
from tests.helpers import eventually

handled: list[Delivery] = []


async def handle(delivery: Delivery) -> Outcome:
    """What the worker below hands its deliveries to."""
    handled.append(delivery)
    return Ack()


Service = Callable[[asyncio.Event, Callable[[list[str]], None]], Coroutine[None, None, None]]


@asynccontextmanager
async def running(service: Service) -> AsyncIterator[list[str]]:
    """A service from when it is ready, with its URLs, until it has stopped."""
    stop = asyncio.Event()
    ready: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        tasks.create_task(service(stop, ready.set_result))
        yield await ready
        stop.set()


async def test_our_operator_works_for_a_deployed_worker(redis_server: RedisServer) -> None:
    """What a listener of ours reports, a deployed worker reads."""
    redis_server.flush()
    config = OperatorConfig(
        listen=("ws://127.0.0.1:0",), queue=redis_server.url, layout="osmo", drain_timeout=1.0
    )
    async with running(lambda stop, ready: run_operator(config, stop, ready)) as urls:
        async with connect(urls[0], backend="east") as client:
            body = encode_body(UpdatePod("w", "t", 0, "RUNNING"))
            await client.send(new_message("update_pod", "w/t/0", body))
            await client.flush()
        worker = DeployedWorker(redis_server)
        ((backend, message),) = worker.work()
        worker.close()
    assert (backend, message["update_pod"]["status"]) == ("east", "RUNNING")


async def test_our_worker_works_for_a_deployed_operator(redis_server: RedisServer) -> None:
    """What a deployed operator appends, our worker handles, as one of the deployed group."""
    redis_server.flush()
    handled.clear()
    config = WorkerConfig(
        queue=redis_server.url, layout="osmo", handler=f"{__name__}:handle", drain_timeout=1.0
    )
    operator = DeployedOperator(redis_server)
    body = pb.UpdatePodBody(workflow_uuid="w", task_uuid="t", status="RUNNING")
    operator.append("east", pb.ListenerMessage(uuid="id", update_pod=body))
    operator.close()
    async with running(lambda stop, ready: run_worker(config, stop, lambda: ready([]))):
        await eventually(lambda: handled and redis_server.command("XLEN", KEY) == 0)
    assert [(d.backend, d.message.key) for d in handled] == [("east", "w/t/0")]
