"""`ListenerStream`: each report is acknowledged when it is stored, and not before."""

import asyncio
from typing import Any

import grpc
import pytest
from grpc import aio

from osmo_deployed import DeployedConfig
from osmo_protos import listener_service_pb2 as pb
from osmo_reports.bodies import (
    Logging,
    LogType,
    NodeInventory,
    PodEvent,
    Taint,
    UpdateNode,
    UpdateNodeUsage,
    UpdatePod,
    decode_body,
)
from osmo_transport import Limits, QuotaConfig, ServerConfig, SessionConfig
from tests.deployed.harness import acknowledged, deployed, pod, serving
from tests.helpers import eventually

REPORTS = [
    pb.ListenerMessage(
        update_pod=pb.UpdatePodBody(workflow_uuid="w", task_uuid="t", status="X", exit_code=-1)
    ),
    pb.ListenerMessage(
        update_node=pb.UpdateNodeBody(
            hostname="n",
            available=True,
            label_fields={"a": "b"},
            taints=[pb.Taint(key="gpu", effect="NoSchedule")],
        )
    ),
    pb.ListenerMessage(
        update_node_usage=pb.UpdateNodeUsageBody(hostname="n", usage_fields={"cpu": "3"})
    ),
    pb.ListenerMessage(node_inventory=pb.NodeInventoryBody(hostnames=["n", "m"])),
    pb.ListenerMessage(pod_event=pb.PodEventBody(pod_name="p", reason="Failed")),
    pb.ListenerMessage(logging=pb.LoggingBody(type=pb.WARNING, text="slow")),
]
BODIES = [
    UpdatePod("w", "t", 0, "X"),
    UpdateNode("n", "n", True, labels={"a": "b"}, taints=(Taint("gpu", effect="NoSchedule"),)),
    UpdateNodeUsage("n", "n", {"cpu": "3"}),
    NodeInventory(("n", "m")),
    PodEvent("p", "Failed"),
    Logging(LogType.WARNING, "slow"),
]


async def test_all_kinds_arrive_as_ours(stub: Any) -> None:
    """With their bodies, in order, under the backend that the metadata names."""
    async with serving() as desk, deployed(stub, desk.target, "blue") as listener:
        call = listener.stream()
        for number, report in enumerate(REPORTS):
            report.uuid = f"{number:032x}"
            await call.write(report)
        assert await acknowledged(call, len(REPORTS)) == [r.uuid for r in REPORTS]
        assert [decode_body(m.kind, m.payload) for m in desk.messages] == BODIES
        assert {backend for backend, _ in desk.stored} == {"blue"}
        assert [m.id for m in desk.messages] == [r.uuid for r in REPORTS]


async def test_nothing_is_acknowledged_that_is_not_stored(stub: Any) -> None:
    """While nothing can be stored the listener waits, and is answered after."""
    async with serving() as desk, deployed(stub, desk.target) as listener:
        desk.open.clear()
        call = listener.stream()
        await call.write(pod("one"))
        answer = asyncio.create_task(call.read())
        await eventually(lambda: desk.taken == 1)
        for _ in range(10):
            await listener.introduce()  # Other calls are answered meanwhile.
        assert not answer.done()
        desk.open.set()
        await answer
        assert len(desk.stored) == 1


async def test_reports_that_wait_share_a_batch(stub: Any) -> None:
    """What arrives while something is being stored is stored in one step."""
    async with serving() as desk, deployed(stub, desk.target) as listener:
        desk.open.clear()
        call = listener.stream()
        for number in range(100):
            await call.write(pod(str(number)))
        await eventually(lambda: desk.held == 100)
        desk.open.set()
        await acknowledged(call, 100)
        assert sum(desk.batches) == 100
        assert len(desk.batches) <= 2


async def test_what_was_not_acknowledged_is_sent_again_in_any_order(stub: Any) -> None:
    """By the next connection, and stored under the same keys and versions: the newest wins."""
    reports = [pod(str(number)) for number in range(10)]
    async with serving() as desk, deployed(stub, desk.target) as listener:
        desk.open.clear()
        first = listener.stream()
        for report in reports:
            await first.write(report)
        await eventually(lambda: desk.server.connections == 1)
        first.cancel()
        await eventually(lambda: desk.server.connections == 0)
        desk.open.set()
        second = listener.stream()
        for report in reversed(reports):
            await second.write(report)
        uuids = await acknowledged(second, 10)
        assert uuids == [r.uuid for r in reversed(reports)]
        assert {m.key for m in desk.messages} == {f"workflow/{n}/0" for n in range(10)}
        times = {m.key: m.version.epoch for m in desk.messages}
        assert len(set(times.values())) == 1  # the milliseconds of the same time of creation


async def test_streams_of_one_backend_do_not_disturb_each_other(stub: Any) -> None:
    """A listener has one for each kind of resource; a second listener has more."""
    async with serving() as desk, deployed(stub, desk.target) as listener:
        calls = [listener.stream() for _ in range(8)]
        for turn in range(5):
            for number, call in enumerate(calls):
                await call.write(pod(f"{number}-{turn}"))
            for call in calls:
                await acknowledged(call, 1)
        assert len(desk.stored) == 40


async def test_a_freed_place_is_taken_again(stub: Any) -> None:
    """So that the queue remembers few producers, however often listeners connect."""
    names = set()
    async with serving() as desk, deployed(stub, desk.target) as listener:
        for number in range(5):
            call = listener.stream()
            await call.write(pod(str(number)))
            await acknowledged(call, 1)
            names |= {producer.source for producer in desk.server._hub._by_producer}
            await call.done_writing()
            assert await call.read() is aio.EOF
            await eventually(lambda: desk.server.connections == 0)
    assert len(names) == 1


async def test_who_has_sent_all_gets_every_answer(stub: Any) -> None:
    """The end of his half of the stream is not the end of the acknowledgements."""
    async with serving() as desk, deployed(stub, desk.target) as listener:
        desk.open.clear()
        call = listener.stream()
        for number in range(20):
            await call.write(pod(str(number)))
        await call.done_writing()
        await eventually(lambda: desk.server.connections == 1)
        desk.open.set()
        assert len(await acknowledged(call, 20)) == 20
        assert await call.read() is aio.EOF
        assert await call.code() is grpc.StatusCode.OK


async def test_more_than_a_window_is_not_read(stub: Any) -> None:
    """A listener that sends on without acknowledgements fills his own buffers, not the operator's
    memory."""
    async with (
        serving(limits=DeployedConfig(window_messages=10)) as desk,
        deployed(stub, desk.target) as listener,
    ):
        desk.open.clear()
        call = listener.stream()
        sent = 0

        async def send() -> None:
            nonlocal sent
            while True:
                await call.write(pod("t", message="m" * 100_000))
                sent += 1

        sending = asyncio.create_task(send())
        await eventually(lambda: desk.server.connections == 1)
        (peer,) = desk.server._hub.peers
        feed: Any = peer._connection
        await eventually(lambda: feed.held == 10)
        before = -1
        while before != sent:  # until the sender stands still
            before = sent
            await listener.introduce()
        assert feed.held == 10
        desk.open.set()
        sending.cancel()


async def test_more_bytes_than_a_window_are_not_read(stub: Any) -> None:
    """A window has bytes, too."""
    limits = Limits(window_bytes=50_000)
    config = ServerConfig(session=SessionConfig(limits=limits))
    async with serving(config) as desk, deployed(stub, desk.target) as listener:
        desk.open.clear()
        call = listener.stream()
        for _ in range(10):
            await call.write(pod("t", message="m" * 20_000))
        await eventually(lambda: desk.server.connections == 1)
        (peer,) = desk.server._hub.peers
        feed: Any = peer._connection
        await eventually(lambda: feed.held_bytes >= 50_000)
        assert feed.held == 3
        desk.open.set()
        assert len(await acknowledged(call, 10)) == 10


@pytest.mark.parametrize("code", ["resync", "closing"])
async def test_the_operators_goodbye_is_a_status(stub: Any, code: str) -> None:
    """With which a listener connects again, and sends again what it has no answer to."""
    async with serving() as desk, deployed(stub, desk.target) as listener:
        call = listener.stream()
        await call.write(pod("one"))
        await acknowledged(call, 1)
        if code == "resync":
            assert desk.server.resync("another memory") == 1
        else:
            await desk.server._hub.aclose()
        with pytest.raises(aio.AioRpcError) as info:
            await call.read()
        assert info.value.code() is grpc.StatusCode.UNAVAILABLE
        assert info.value.details() in {"the queue lost its memory", "this server is stopping"}
        if code == "closing":
            with pytest.raises(aio.AioRpcError, match="this server is stopping"):
                await listener.stream().read()


async def test_a_listener_over_its_quota_is_slowed_down(stub: Any) -> None:
    """It is acknowledged later, and everything that it sent."""
    config = ServerConfig(quota=QuotaConfig(messages=100, burst=0.1))
    limits = DeployedConfig(window_messages=10)
    async with serving(config, limits=limits) as desk, deployed(stub, desk.target) as listener:
        call = listener.stream()
        sent = [pod(str(number)) for number in range(30)]
        for report in sent:
            await call.write(report)
        assert await acknowledged(call, len(sent)) == [report.uuid for report in sent]
        assert desk.server.stats.slowed["old"] > 0
