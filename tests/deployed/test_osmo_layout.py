"""The deployed layout: what lies in Redis, and work side by side with deployed programs (2.2)."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from google.protobuf import json_format
from msgspec.structs import replace
from redis.crc import key_slot

from osmo_deployed.layout import OsmoLayout
from osmo_protos import listener_service_pb2 as pb
from osmo_reports import bodies
from osmo_reports.bodies import encode_body
from osmo_runtime.queues import queue_url
from osmo_transport import open_queue
from osmo_transport.errors import UsageError
from osmo_transport.message import Message, new_message
from osmo_transport.queues.abc import AppendOutcome, Queue, QueueConfig
from osmo_transport.queues.delivery import Ack, Retry
from osmo_transport.testing.contracts.queue_suite import drain, figures, is_silent, keys
from osmo_transport.testing.feeder import Feeder, report
from osmo_transport.testing.redis_server import RedisServer
from tests.deployed.programs import KEY, DeployedOperator, DeployedWorker
from tests.helpers import eventually
from tests.queues.harness import crash, current, name_in_redis

CONFIG = QueueConfig(claim_interval=0.02, retry_base=0.02, max_attempts=3, lease=0.05)


@asynccontextmanager
async def opened(server: RedisServer) -> AsyncIterator[Queue]:
    async with await open_queue(queue_url(server.url, "osmo"), current(CONFIG)) as queue:
        yield queue


def pod(name: str) -> Message:
    """Ours, of a pod that runs."""
    body = bodies.UpdatePod(name, "t", 0, "RUNNING", node="n")
    return new_message("update_pod", f"{name}/t/0", encode_body(body))


def their_pod(name: str, timestamp: str = "2026-01-02T12:00:00") -> pb.ListenerMessage:
    body = pb.UpdatePodBody(workflow_uuid=name, task_uuid="t", status="RUNNING", exit_code=-1)
    return pb.ListenerMessage(uuid=f"id-{name}", timestamp=timestamp, update_pod=body)


# What lies in Redis


async def test_appends_as_a_deployed_operator_does(server: RedisServer) -> None:
    """2.2: key, fields and their order, and the JSON that protobuf writes of the same message."""
    message = pod("w")
    async with opened(server) as queue:
        await Feeder(queue, "east").append(message)
    ((_, fields),) = server.command("XRANGE", KEY, "-", "+")
    name, text, backend, value = fields
    assert (name, backend, value) == (b"message", b"backend", b"east")
    theirs = json_format.Parse(text, pb.ListenerMessage())
    assert theirs.uuid == message.id
    assert (theirs.update_pod.workflow_uuid, theirs.update_pod.exit_code) == ("w", -1)
    assert theirs.update_pod.backend == "east"
    assert json.loads(text) == json_format.MessageToDict(
        theirs, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def test_a_trace_stands_beside_the_message(
    server: RedisServer, worker: DeployedWorker
) -> None:
    """In a field of its own, which ours read and deployed workers do not look at."""
    traced = replace(pod("a"), traceparent=TRACE)
    async with opened(server) as queue:
        feeder = Feeder(queue)
        await feeder.append(traced)
        ((_, fields),) = server.command("XRANGE", KEY, "-", "+")
        assert fields[0::2] == [b"message", b"backend", b"traceparent"]
        ((_, told),) = worker.work()
        assert told["update_pod"]["workflow_uuid"] == "a"
        await feeder.append(pod("b"), traced, pod("c"))
        async with queue.consumer("workers", "w") as consumer:
            found = await drain(consumer, 3)
        assert [each.message.traceparent for each in found] == [None, TRACE, None]


@pytest.mark.parametrize("text", ["", "{" * 55, TRACE.upper(), f"{TRACE}\n", TRACE[:-1], "é" * 55])
async def test_text_that_is_no_trace_is_left_out(
    text: str, server: RedisServer, worker: DeployedWorker
) -> None:
    """Whatever a peer sends there, its report can be read."""
    async with opened(server) as queue:
        await Feeder(queue).append(replace(pod("a"), traceparent=text))
        ((_, fields),) = server.command("XRANGE", KEY, "-", "+")
        assert fields[0::2] == [b"message", b"backend"]
        ((_, told),) = worker.work()
        assert told["update_pod"]["workflow_uuid"] == "a"


async def test_all_keys_share_a_slot_and_have_names_of_their_own(server: RedisServer) -> None:
    """A cluster hashes on the first braces; nothing of ours is where deployed programs look, nor
    where our own layout does."""
    keys_ = OsmoLayout("osmo", CONFIG).keys
    assert list(keys_.streams.values()) == [KEY]
    names = [keys_.epoch, keys_.producers, keys_.opened, keys_.strangers, keys_.borders]
    names += [keys_.counts, keys_.dead, keys_.due("messages"), KEY]
    assert len({key_slot(name.encode()) for name in names}) == 1
    assert all(name.startswith("{osmo}:pipeline:") for name in names[:-1])
    async with opened(server) as queue, await open_queue(server.url, current(CONFIG)) as own:
        await Feeder(queue).append(pod("a"))
        assert await figures(own) == (0, 0, 0)
        await Feeder(own).append(report("b"), report("c"))
        assert await figures(queue) == (1, 0, 0)


@pytest.mark.parametrize(
    ("url", "layout", "found"),
    [
        ("redis://h", "own", "redis://h"),
        ("redis://h", "osmo", "redis://h?layout=osmo"),
        ("redis://h/1?namespace=a", "osmo", "redis://h/1?namespace=a&layout=osmo"),
    ],
)
def test_the_layout_is_an_option_of_the_url(url: str, layout: Any, found: str) -> None:
    """What is given beside the URL is added to it."""
    assert queue_url(url, layout) == found


async def test_refuses_a_layout_that_is_none(server: RedisServer) -> None:
    """By its name, and so does a queue that has none."""
    with pytest.raises(UsageError, match="layout 'other', which is not installed"):
        await open_queue(f"{server.url}?layout=other", current(CONFIG))
    with pytest.raises(UsageError, match="memory://"):
        await open_queue(queue_url("memory://", "osmo"), current(CONFIG))


async def test_what_has_no_equivalent_takes_its_number_alone(
    server: RedisServer, worker: DeployedWorker, caplog: pytest.LogCaptureFixture
) -> None:
    """A batch that is resent in part is in step all the same; what cannot be read is logged."""
    batch = [
        new_message("pod_exists", "a/t/0", encode_body(bodies.PodExists("a", "t", 0))),
        pod("a"),
        None,
        new_message("snapshot_end", "update_pod", encode_body(bodies.SnapshotEnd("x", 1))),
        new_message("update_node", "n", b"\xff"),
        pod("b"),
    ]
    async with opened(server) as queue:
        feeder = Feeder(queue)
        assert await feeder.append(*batch) is AppendOutcome.STORED
        assert await feeder.append(*batch[4:], pod("c"), first=5) is AppendOutcome.STORED
        assert await feeder.append(batch[0]) is AppendOutcome.STORED
        assert (await feeder.open()).sequence == 8
    told = [message["update_pod"]["workflow_uuid"] for _, message in worker.work()]
    assert told == ["a", "b", "c"]
    assert "a message of b1 is left out" in caplog.text


# Side by side


async def test_a_deployed_worker_works_off_what_ours_appended(
    server: RedisServer, worker: DeployedWorker
) -> None:
    """2.2: one at a time, acknowledged and then deleted."""
    async with opened(server) as queue:
        await Feeder(queue, "east").append(pod("a"), pod("b"))
        done = worker.work()
        assert [(backend, message["update_pod"]["workflow_uuid"]) for backend, message in done] == [
            ("east", "a"),
            ("east", "b"),
        ]
        assert await figures(queue) == (0, 0, 0)


async def test_ours_works_off_what_a_deployed_operator_appended(
    server: RedisServer, operator: DeployedOperator
) -> None:
    """Every body; whose backend is the entry's, and whose version is the message's time."""
    operator.append("east", their_pod("w", "2026-01-02T12:00:00.5"))
    operator.append("west", pb.ListenerMessage(update_node=pb.UpdateNodeBody(hostname="n")))
    usage = pb.UpdateNodeUsageBody(hostname="n", usage_fields={"cpu": "3"})
    operator.append("west", pb.ListenerMessage(update_node_usage=usage))
    inventory = pb.NodeInventoryBody(hostnames=["n"])
    operator.append("west", pb.ListenerMessage(node_inventory=inventory))
    operator.append("west", pb.ListenerMessage(pod_event=pb.PodEventBody(pod_name="p")))
    operator.append("west", pb.ListenerMessage(logging=pb.LoggingBody(type=pb.WARNING)))
    async with opened(server) as queue, queue.consumer("workers", "w1") as consumer:
        taken = await drain(consumer, 6)
        assert [(d.backend, d.message.kind, d.message.key) for d in taken] == [
            ("east", "update_pod", "w/t/0"),
            ("west", "update_node", "n"),
            ("west", "update_node_usage", "n"),
            ("west", "node_inventory", "nodes"),
            ("west", "pod_event", "p"),
            ("west", "logging", "log"),
        ]
        assert taken[0].message.version.epoch == 1_767_355_200_500
        assert taken[0].message.id == "id-w"
        # Without a time it is the entry's.
        assert taken[1].message.version.epoch == int(taken[1].id.partition("-")[0])
        await consumer.settle([(delivery, Ack()) for delivery in taken])
        assert await figures(queue) == (0, 0, 0)


async def test_one_group_shares_all(
    server: RedisServer, operator: DeployedOperator, worker: DeployedWorker
) -> None:
    """Two operators and two workers, ours and theirs: each message is worked off once, by one."""
    async with opened(server) as queue, queue.consumer("workers", "w1") as consumer:
        feeder, done = Feeder(queue, "east"), []
        for n in range(20):
            await feeder.append(pod(f"ours{n}"))
            operator.append("west", their_pod(f"theirs{n}"))
            taken = worker.take()
            assert taken is not None
            worker.settle(taken[0])
            done.append(taken[2]["update_pod"]["workflow_uuid"])
            (delivery,) = await consumer.receive(1)
            await consumer.settle([(delivery, Ack())])
            done.append(delivery.message.key.partition("/")[0])
        assert sorted(done) == sorted(f"{who}{n}" for who in ("ours", "theirs") for n in range(20))
        assert await figures(queue) == (0, 0, 0)


async def test_leaves_to_a_deployed_worker_what_it_may_still_hold(
    server: RedisServer, worker: DeployedWorker
) -> None:
    """2.2: a deployed worker does not renew, so nothing is taken over before 300 seconds, however
    short our own leases are; after them it is."""
    async with opened(server) as queue, queue.consumer("workers", "w1") as consumer:
        await Feeder(queue).append(pod("a"))
        taken = worker.take()
        assert taken is not None
        worker.age(taken[0], 290_000)
        assert await is_silent(consumer, 0.2)
        worker.age(taken[0], 300_000)
        (delivery,) = await drain(consumer, 1)
        assert (delivery.message.key, delivery.attempt) == ("a/t/0", 2)


async def test_leaves_alone_what_a_deployed_worker_took_over(
    server: RedisServer, worker: DeployedWorker
) -> None:
    """2.2: of ours it takes what was not renewed for 300 seconds, and nothing earlier; then its
    word counts alone."""
    async with opened(server) as queue, queue.consumer("workers", "w1") as consumer:
        await Feeder(queue).append(pod("a"))
        (delivery,) = await drain(consumer, 1)
        holder = name_in_redis(consumer)
        worker.age(delivery.id.encode(), 290_000, holder=holder)
        assert worker.claim() == []
        worker.age(delivery.id.encode(), 300_000, holder=holder)
        ((entry_id, _, message),) = worker.claim()
        assert message["update_pod"]["workflow_uuid"] == "a"
        await consumer.settle([(delivery, Ack())])
        assert await figures(queue) == (0, 1, 0)
        worker.settle(entry_id)
        assert await figures(queue) == (0, 0, 0)


async def test_what_ours_gives_back_a_deployed_worker_takes_at_once(
    server: RedisServer, worker: DeployedWorker
) -> None:
    """A worker that stops leaves nothing for 300 seconds."""
    async with opened(server) as queue:
        await Feeder(queue).append(pod("a"), pod("b"))
        async with queue.consumer("workers", "w1") as consumer:
            await drain(consumer, 2)
        assert len(worker.claim()) == 2


async def test_what_deployed_workers_tried_in_vain_is_tried_once_more(
    server: RedisServer, worker: DeployedWorker
) -> None:
    """They try for ever while their database is away; ours then tries once before it gives up."""
    async with opened(server) as queue, queue.consumer("workers", "w1") as consumer:
        await Feeder(queue).append(pod("a"))
        taken = worker.take()
        assert taken is not None
        worker.age(taken[0], 300_000, attempts=50)
        (delivery,) = await drain(consumer, 1)
        assert delivery.attempt == CONFIG.max_attempts
        await consumer.settle([(delivery, Retry("still no luck"))])
        (letter,) = await queue.dead_letters(1)
        assert (letter.reason, letter.message) == ("still no luck", delivery.message)


async def test_what_kills_ours_is_given_up(server: RedisServer, worker: DeployedWorker) -> None:
    """Whatever ours are called, also where deployed workers tried it for long before: what ours
    take over from each other is no second last try."""
    async with opened(server) as queue:
        await Feeder(queue).append(pod("a"), pod("b"))
        taken = worker.take()
        assert taken is not None
        worker.age(taken[0], 300_000, attempts=50)
        crashing = queue.consumer("workers", "w0")
        for number in range(1, CONFIG.max_attempts + 1):
            for delivery in await drain(crashing, 2 if number == 1 else 1):
                assert delivery.attempt == (3 if delivery.message.key == "a/t/0" else number)
                holder = name_in_redis(crashing)
                worker.age(delivery.id.encode(), 300_000, holder=holder, attempts=delivery.attempt)
            await crash(crashing)
            crashing = queue.consumer("workers", f"w{number}")
        async with crashing:
            waiting = asyncio.create_task(crashing.receive(1))
            await eventually(lambda: server.command("XLEN", "{osmo}:pipeline:dead") == 2, 5.0)
            waiting.cancel()
        assert await figures(queue) == (0, 0, 2)


async def test_takes_nothing_between_acknowledging_and_deleting(
    server: RedisServer, worker: DeployedWorker
) -> None:
    """2.2: deployed workers do both one after the other, so an entry is pending for nobody in
    between. Nobody takes it, unless it is so old that its worker must have died there."""
    async with opened(server) as queue, queue.consumer("workers", "w1") as consumer:
        await Feeder(queue).append(pod("a"))
        taken = worker.take()
        assert taken is not None
        worker.acknowledge(taken[0])
        assert await is_silent(consumer, 0.2)
        worker.delete(taken[0])
        assert (await queue.status()).lost == 0
    server.command("DEL", KEY)
    text = '{"logging": {"text": "old"}}'
    server.command("XADD", KEY, "1000-0", "message", text, "backend", "east")
    async with opened(server) as queue, queue.consumer("workers", "w1") as consumer:
        old = DeployedWorker(server)
        assert old.take() is not None
        old.acknowledge(b"1000-0")
        old.close()
        assert [delivery.id for delivery in await drain(consumer, 1)] == ["1000-0"]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"message": b'{"logging": {}}'}, "no field b'backend'"),
        ({"backend": b"east"}, "no field b'message'"),
        ({"other": b"1"}, "no field"),
        ({"message": b'{"logging": {}}', "backend": b""}, "backend is empty"),
        ({"message": b'{"logging": {}}', "backend": b"\xff"}, "backend is no text"),
        ({"message": b'{"update_pod": {"workflow_', "backend": b"east"}, "truncated"),
        ({"message": b'{"update_pod": {"retry_id": []}}', "backend": b"east"}, "retry_id"),
        ({"message": b'{"uuid": "a", "new_body": {}}', "backend": b"east"}, "no body"),
        ({"message": b'{"update_node": {}}', "backend": b"east"}, "names nothing"),
        ({"message": b"\xff\x00", "backend": b"east"}, "cannot be read"),
    ],
)
async def test_buries_what_it_cannot_read(
    server: RedisServer, operator: DeployedOperator, fields: dict[str, bytes], reason: str
) -> None:
    """An entry that is no message is a dead letter with its bytes, and the next one delivered."""
    operator.append_fields(fields)
    operator.append("east", their_pod("good"))
    async with opened(server) as queue, queue.consumer("workers", "w1") as consumer:
        assert keys(await drain(consumer, 1)) == ["good/t/0"]
        waiting = asyncio.create_task(consumer.receive(1))
        await eventually(lambda: server.command("XLEN", "{osmo}:pipeline:dead") == 1)
        waiting.cancel()
        (letter,) = await queue.dead_letters(10)
        assert reason in letter.reason
        assert fields.get("message", b"") in letter.raw
        assert letter.raw
        assert letter.backend == fields.get("backend", b"").decode(errors="replace")


@pytest.mark.parametrize("entry", ["", "x", "1-", "9" * 5000 + "-1"])
async def test_a_dead_letter_with_any_id_is_shown(server: RedisServer, entry: str) -> None:
    """Whoever put it there; its message's version is made of that id, so it is none."""
    text = '{"logging": {"text": "hello"}}'
    letter = ("i", entry, "n", "9" * 5000, "b", "east", "m", text)
    server.command("XADD", "{osmo}:pipeline:dead", "*", *letter)
    async with opened(server) as queue:
        (found,) = await queue.dead_letters(10)
        assert (found.entry, found.message, found.raw) == (entry, None, text.encode())
        assert found.attempt == 0


async def test_reads_fields_in_any_order_and_more_of_them(server: RedisServer) -> None:
    """As any client of a stream does."""
    text = '{"logging": {"text": "hello", "new": 1}, "new": {}}'
    server.command("XADD", KEY, "*", "new", "1", "backend", "east", "message", text)
    async with opened(server) as queue, queue.consumer("workers", "w1") as consumer:
        (delivery,) = await drain(consumer, 1)
        assert (delivery.backend, delivery.message.kind) == ("east", "logging")


async def test_its_group_is_that_of_the_deployed_workers(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """2.2: `message_workers`, from the stream's beginning, whatever is asked for."""
    caplog.set_level(logging.INFO)
    async with opened(server) as queue:
        await Feeder(queue).append(pod("a"))
        async with queue.consumer("workers", "w1") as consumer:
            assert keys(await drain(consumer, 1)) == ["a/t/0"]
            (group,) = server.command("XINFO", "GROUPS", KEY)
            assert group[1] == b"message_workers"
            assert "message_workers" in caplog.text
