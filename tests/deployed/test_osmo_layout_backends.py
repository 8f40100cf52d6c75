"""The deployed layout: what the workers are told of backends (2.1)."""

import pytest

from osmo_reports import bodies, open_directory
from osmo_reports.bodies import Registration
from osmo_reports.errors import BackendTakenError
from osmo_runtime.queues import queue_url
from osmo_transport import open_queue
from osmo_transport.errors import QueueUnavailableError
from osmo_transport.queues.abc import QueueConfig
from osmo_transport.testing.contracts.queue_suite import drain
from osmo_transport.testing.redis_server import RedisServer
from tests.deployed.programs import KEY, DeployedWorker


async def test_tells_the_workers_of_a_backend(server: RedisServer, worker: DeployedWorker) -> None:
    """2.1: a notice when it is new, one when it has changed, and none otherwise."""
    one, two = Registration("uid-1", "osmo", "1.0"), Registration("uid-1", "osmo", "2.0")
    async with await open_directory(queue_url(server.url, "osmo")) as directory:
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
        await open_directory(queue_url(server.url, "osmo")) as directory,
        queue.consumer("workers", "w1") as consumer,
    ):
        await directory.register("east", Registration("uid"))
        (delivery,) = await drain(consumer, 1)
        body = bodies.decode_body(delivery.message.kind, delivery.message.payload)
        assert body == bodies.Logging(bodies.LogType.INFO, "__BACKEND_OP__:create")


async def test_a_full_queue_takes_no_notice(server: RedisServer) -> None:
    """And nothing is noted then, so that the notice is not missed later."""
    fill = "for _ = 1, ARGV[1] do redis.call('XADD', KEYS[1], '*', 'message', '{}') end"
    server.command("EVAL", fill, 1, KEY, QueueConfig().max_entries)
    async with await open_directory(queue_url(server.url, "osmo")) as directory:
        with pytest.raises(QueueUnavailableError, match="max_entries"):
            await directory.register("east", Registration("uid"))
        assert await directory.backends() == {}
        server.command("XTRIM", KEY, "MAXLEN", 1)
        assert await directory.register("east", Registration("uid"))
        ((_, fields),) = server.command("XREVRANGE", KEY, "+", "-", "COUNT", 1)
        assert b"__BACKEND_OP__:create" in fields[1]
        assert server.command("XLEN", KEY) == 2
