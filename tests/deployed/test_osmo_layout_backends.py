"""The deployed layout: what the workers are told of backends (2.1)."""

from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from osmo_reports import bodies, open_directory
from osmo_reports.bodies import Registration, encode_body
from osmo_reports.errors import BackendTakenError
from osmo_runtime.queues import queue_url
from osmo_transport import Ack, new_message, open_queue, publish
from osmo_transport.errors import QueueUnavailableError
from osmo_transport.queues.abc import QueueConfig
from osmo_transport.testing.contracts.queue_suite import drain
from osmo_transport.testing.redis_server import RedisServer
from osmo_worker import StoreConfig
from osmo_worker.store import open_store
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
    config = QueueConfig(max_entries=100)
    for _ in range(config.max_entries):
        server.command("XADD", KEY, "*", "message", "{}")
    async with await open_directory(queue_url(server.url, "osmo"), config) as directory:
        with pytest.raises(QueueUnavailableError, match="max_entries"):
            await directory.register("east", Registration("uid"))
        assert await directory.backends() == {}
        server.command("XTRIM", KEY, "MAXLEN", 1)
        assert await directory.register("east", Registration("uid"))
        ((_, fields),) = server.command("XREVRANGE", KEY, "+", "-", "COUNT", 1)
        assert b"__BACKEND_OP__:create" in fields[1]
        assert server.command("XLEN", KEY) == 2


async def test_heartbeats_reach_our_table(server: RedisServer) -> None:
    """Through the stream that is shared, from whichever of our operators to whichever worker of
    ours, with the registration of the backend."""
    registration = Registration("uid", "osmo", "1.0", "osmo.nvidia.com/")
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    beat = new_message("heartbeat", "east", encode_body(registration))
    async with (
        await open_queue(queue_url(server.url, "osmo")) as queue,
        open_store("memory://", StoreConfig()) as store,
        queue.consumer("workers", "w1") as consumer,
    ):
        await publish(queue, [replace(beat, timestamp=at.timestamp())], backend="east")
        (delivery,) = await drain(consumer, 1)
        assert await store.handle_batch([delivery]) == [Ack()]
        (backend,) = await store.backends()
    assert (backend.name, backend.last_heartbeat) == ("east", at)
    told = backend.cluster_uid, backend.namespace, backend.version, backend.node_condition_prefix
    assert told == ("uid", "osmo", "1.0", "osmo.nvidia.com/")


async def test_a_heartbeat_is_a_log_message_to_deployed_workers(
    server: RedisServer, worker: DeployedWorker
) -> None:
    """Of a text that they leave out."""
    beat = new_message("heartbeat", "east", encode_body(Registration("uid")))
    async with await open_queue(queue_url(server.url, "osmo")) as queue:
        await publish(queue, [beat], backend="east")
    ((backend, message),) = worker.work()
    assert backend == "east"
    assert message["logging"]["text"] == '__HEARTBEAT__:{"cluster_uid":"uid"}'
