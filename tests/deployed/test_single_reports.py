"""`SendListenerMessage`: one report in a call of its own, answered when it is stored."""

import asyncio
from typing import Any

import grpc
import pytest
from grpc import aio

from osmo_deployed import DeployedConfig
from osmo_transport import ServerConfig
from tests.deployed.harness import deployed, pod, serving
from tests.helpers import eventually


async def test_the_answer_comes_after_the_report_is_stored(stub: Any) -> None:
    """And names it."""
    async with serving() as desk, deployed(stub, desk.target) as listener:
        desk.open.clear()
        report = pod("one")
        answer = asyncio.create_task(listener.single(report))
        await eventually(lambda: desk.taken == 1)
        for _ in range(10):
            await listener.introduce()  # Other calls are answered meanwhile.
        assert not answer.done()
        desk.open.set()
        assert (await answer).ack_uuid == report.uuid
        assert [m.id for m in desk.messages] == [report.uuid]


async def test_calls_of_one_backend_share_a_connection(stub: Any) -> None:
    """So that many of them are stored in few steps."""
    async with serving() as desk, deployed(stub, desk.target) as listener:
        desk.open.clear()
        reports = [pod(str(number)) for number in range(200)]
        answers = [asyncio.create_task(listener.single(report)) for report in reports]
        await eventually(lambda: desk.held == 200)
        assert desk.server.connections == 1
        desk.open.set()
        assert [(await a).ack_uuid for a in answers] == [r.uuid for r in reports]
        assert len(desk.stored) == 200
        assert len(desk.batches) <= 2


async def test_they_count_among_the_connections_of_their_address(stub: Any) -> None:
    """It is where their caller is, and as bounded as any other."""
    config = ServerConfig(max_address_connections=1)
    async with serving(config) as desk, deployed(stub, desk.target) as listener:
        await listener.single(pod("one"))
        (peer,) = desk.server._hub.peers
        host, _, port = peer.address.rpartition(":")
        assert host == "127.0.0.1"
        assert port.isdigit()
        async with deployed(stub, desk.target, "another") as crowded:
            with pytest.raises(aio.AioRpcError, match="this address has 1 connections") as info:
                await crowded.single(pod("two"))
        assert info.value.code() is grpc.StatusCode.UNAVAILABLE
        await listener.single(pod("three"))


async def test_more_than_a_window_is_put_off(stub: Any) -> None:
    """With the status upon which deployed listeners try again by themselves."""
    async with (
        serving(limits=DeployedConfig(window_messages=10)) as desk,
        deployed(stub, desk.target) as listener,
    ):
        desk.open.clear()
        answers = [asyncio.create_task(listener.single(pod(str(n)))) for n in range(11)]
        await eventually(lambda: any(answer.done() for answer in answers))
        (refused,) = [answer for answer in answers if answer.done()]
        with pytest.raises(aio.AioRpcError, match="10 reports of old wait already") as info:
            await refused
        assert info.value.code() is grpc.StatusCode.UNAVAILABLE
        desk.open.set()
        answers.remove(refused)
        await asyncio.gather(*answers)


async def test_a_connection_without_use_is_closed(stub: Any) -> None:
    """One with use is not, and the next report opens another."""
    async with (
        serving(limits=DeployedConfig(unary_idle=0.02)) as desk,
        deployed(stub, desk.target) as listener,
    ):
        for number in range(3):
            desk.open.clear()
            answer = asyncio.create_task(listener.single(pod(str(number))))
            await eventually(lambda n=number: desk.taken == n + 1)  # type: ignore[misc]
            looks = asyncio.get_running_loop().time() + 0.1
            await eventually(lambda t=looks: asyncio.get_running_loop().time() > t)  # type: ignore[misc]
            assert desk.server.connections == 1
            desk.open.set()
            await answer
            await eventually(lambda: desk.server.connections == 0)


async def test_a_call_that_is_given_up_disturbs_no_other(stub: Any) -> None:
    """Its report is stored all the same."""
    async with serving() as desk, deployed(stub, desk.target) as listener:
        desk.open.clear()
        given_up = asyncio.create_task(listener.single(pod("one")))
        kept = asyncio.create_task(listener.single(pod("two")))
        await eventually(lambda: desk.taken)
        given_up.cancel()
        await listener.introduce()
        desk.open.set()
        await kept
        await eventually(lambda: len(desk.stored) == 2)


async def test_a_loss_of_memory_ends_the_calls_on_their_way(stub: Any) -> None:
    """To be made again, which then works."""
    async with serving() as desk, deployed(stub, desk.target) as listener:
        desk.open.clear()
        answer = asyncio.create_task(listener.single(pod("one")))
        await eventually(lambda: desk.taken)
        assert desk.server.resync("another memory") == 1
        with pytest.raises(aio.AioRpcError, match="lost its memory") as info:
            await answer
        assert info.value.code() is grpc.StatusCode.UNAVAILABLE
        desk.open.set()
        await listener.single(pod("two"))


async def test_a_channel_without_calls_is_closed_and_opened_again(stub: Any) -> None:
    """A listener that has nothing to report for a while does not notice."""
    config = ServerConfig(open_timeout=0.1)
    async with serving(config) as desk, deployed(stub, desk.target) as listener:
        for number in range(2):
            await listener.single(pod(str(number)))
            state = listener.channel.get_state()
            while state is not grpc.ChannelConnectivity.IDLE:
                await listener.channel.wait_for_state_change(state)
                state = listener.channel.get_state()
        await listener.single(pod("last"))
