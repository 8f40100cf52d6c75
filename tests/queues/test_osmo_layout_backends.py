"""The deployed layout: what the workers are told of backends (2.1)."""

import pytest

from osmo_transport import bodies, open_queue
from osmo_transport.bodies import Registration
from osmo_transport.errors import BackendTakenError, QueueUnavailableError
from osmo_transport.factory import queue_url
from osmo_transport.queues.abc import QueueConfig
from osmo_transport.testing._queue_suite import drain
from osmo_transport.testing.feeder import Feeder
from osmo_transport.testing.redis_server import RedisServer
from tests.queues.deployed import DeployedWorker
from tests.queues.harness import report_with_body


async def test_tells_the_workers_of_a_backend(server: RedisServer, worker: DeployedWorker) -> None:
    """2.1: a notice when it is new, one when it has changed, and none otherwise."""
    one, two = Registration("uid-1", "osmo", "1.0"), Registration("uid-1", "osmo", "2.0")
    async with await open_queue(queue_url(server.url, "osmo")) as queue:
        directory = queue.directory
        for registration in (one, one, two, two, Registration()):
            await directory.register("east", registration)
        with pytest.raises(BackendTakenError):
            await directory.register("east", Registration("uid-2"))
        await directory.forget("east")
        await directory.register("east", two)
    told = worker.work()
    assert [(backend, message["logging"]) for backend, message in told] == [
        ("east", {"type": "INFO", "text": f"__BACKEND_OP__:{what}", "workflow_uuid": ""})
        for what in ("create", "update", "create")
    ]
    uuids = [message["uuid"].rpartition("-") for _, message in told]
    assert [head for head, _, _ in uuids] == ["backend-op-east"] * 3
    assert min(int(tail) for _, _, tail in uuids) > 1_577_836_800 * 10**9


async def test_our_worker_is_told_of_backends_too(server: RedisServer) -> None:
    """As of a log message, which it knows from the deployed operators."""
    async with (
        await open_queue(queue_url(server.url, "osmo")) as queue,
        queue.consumer("workers", "w1") as consumer,
    ):
        await queue.directory.register("east", Registration("uid"))
        (delivery,) = await drain(consumer, 1)
        body = bodies.decode_body(delivery.message.kind, delivery.message.payload)
        assert body == bodies.Logging(bodies.LogType.INFO, "__BACKEND_OP__:create")


async def test_a_full_queue_takes_no_notice(server: RedisServer, worker: DeployedWorker) -> None:
    """And nothing is noted then, so that the notice is not missed later."""
    url = queue_url(server.url, "osmo")
    async with await open_queue(url, QueueConfig(max_entries=1)) as queue:
        await Feeder(queue).append(report_with_body("n", "update_node"))
        with pytest.raises(QueueUnavailableError, match="max_entries"):
            await queue.directory.register("east", Registration("uid"))
        assert len(worker.work()) == 1
        assert await queue.directory.register("east", Registration("uid"))
        assert len(worker.work()) == 1
