"""What surrounds the service on its port: health, reflection, our own service, and the end."""

import asyncio
from contextlib import suppress
from typing import Any

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from osmo_transport import ServerConfig, connect, new_message
from osmo_transport.transports.grpc import crowds, health, reflection, transport
from tests.deployed.harness import Desk, acknowledged, deployed, pod, serving
from tests.helpers import eventually

SERVICES = ["", "operator.ListenerService", "osmo.transport.v1.Transport"]
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


def request(service: str) -> Any:
    """The question after a service's health."""
    return health_pb2.HealthCheckRequest(service=service)


@pytest.mark.parametrize("service", SERVICES)
async def test_health_tells_the_truth(service: str) -> None:
    """It serves while what it receives can be stored."""
    able = True
    async with serving() as desk, aio.insecure_channel(desk.target) as channel:
        desk.server.can_store = lambda: able
        stub = health_pb2_grpc.HealthStub(channel)
        assert (await stub.Check(request(service))).status == SERVING
        able = False
        assert (await stub.Check(request(service))).status == NOT_SERVING
        able = True
        assert (await stub.Check(request(service))).status == SERVING
        desk.server.stop()
        assert (await stub.Check(request(service))).status == NOT_SERVING


async def test_an_unknown_service_has_no_health() -> None:
    """It is not found, and who watches it waits for it to come."""
    async with serving() as desk, aio.insecure_channel(desk.target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        with pytest.raises(aio.AioRpcError) as info:
            await stub.Check(request("nothing"))
        assert info.value.code() is grpc.StatusCode.NOT_FOUND
        assert (await stub.Watch(request("nothing")).read()).status == UNKNOWN


async def test_who_watches_is_told_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the end; he does not hold it up."""
    monkeypatch.setattr(health, "WATCH_INTERVAL", 0.01)
    able = True
    async with serving() as desk:
        channel = aio.insecure_channel(desk.target)
        desk.server.can_store = lambda: able
        watch = health_pb2_grpc.HealthStub(channel).Watch(request(""))
        assert (await watch.read()).status == SERVING
        able = False
        assert (await watch.read()).status == NOT_SERVING
        able = True
        assert (await watch.read()).status == SERVING
    assert (await watch.read()).status == NOT_SERVING
    assert await watch.read() is aio.EOF
    await channel.close()


async def test_watchers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is refused; one that leaves makes room."""
    monkeypatch.setattr(health, "MAX_WATCHERS", 1)
    async with serving() as desk, aio.insecure_channel(desk.target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        first = stub.Watch(request(""))
        await first.read()
        with pytest.raises(aio.AioRpcError, match="1 watchers, the limit"):
            await stub.Watch(request("")).read()
        first.cancel()

        async def refused() -> bool:
            try:
                await stub.Watch(request("")).read()
            except aio.AioRpcError:
                return True
            return False

        while await refused():
            pass


async def test_watchers_of_one_address_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """They leave room for those of another."""
    monkeypatch.setattr(health, "MAX_ADDRESS_WATCHERS", 1)
    async with serving() as desk, aio.insecure_channel(desk.target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        first = stub.Watch(request(""))
        await first.read()
        with pytest.raises(aio.AioRpcError, match=r"1 watchers of 127\.0\.0\.1, the limit") as info:
            await stub.Watch(request("")).read()
        assert info.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        monkeypatch.setattr(crowds, "network_of", lambda _: "192.0.2.1")
        assert (await stub.Watch(request("")).read()).status == SERVING


async def test_calls_of_reflection_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is refused, whoever it is from; one that leaves makes room."""
    monkeypatch.setattr(reflection, "MAX_CALLS", 1)
    ask = reflection_pb2.ServerReflectionRequest(list_services="")
    async with (
        serving() as desk,
        aio.insecure_channel(desk.target) as channel,
        asyncio.timeout(5),
    ):
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        first = stub.ServerReflectionInfo()
        await first.write(ask)
        await first.read()
        with pytest.raises(aio.AioRpcError, match="1 calls of reflection, the limit") as info:
            await stub.ServerReflectionInfo().read()
        assert info.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await first.done_writing()
        assert await first.read() is aio.EOF
        second = stub.ServerReflectionInfo()
        await second.write(ask)
        assert (await second.read()).list_services_response.service


async def test_calls_of_reflection_of_one_address_are_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They leave room for those of another."""
    monkeypatch.setattr(reflection, "MAX_ADDRESS_CALLS", 1)
    ask = reflection_pb2.ServerReflectionRequest(list_services="")
    async with serving() as desk, aio.insecure_channel(desk.target) as channel, asyncio.timeout(5):
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        first = stub.ServerReflectionInfo()
        await first.write(ask)
        await first.read()
        limit = r"1 calls of reflection of 127\.0\.0\.1, the limit"
        with pytest.raises(aio.AioRpcError, match=limit) as info:
            await stub.ServerReflectionInfo().read()
        assert info.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        monkeypatch.setattr(crowds, "network_of", lambda _: "192.0.2.1")
        other = stub.ServerReflectionInfo()
        await other.write(ask)
        assert (await other.read()).list_services_response.service


async def test_short_calls_prolong_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever calls again and again and is never let in has his connection for a while; calls that
    go on are not concerned."""
    monkeypatch.setattr(transport, "CALLS_TIMEOUT", 0.2)
    async with (
        serving() as desk,
        aio.insecure_channel(desk.target) as channel,
        connect(desk.server.url, backend="ours") as client,
        asyncio.timeout(5),
    ):
        await client.epoch_after(0)
        stub = health_pb2_grpc.HealthStub(channel)
        await stub.Check(request(""))
        assert channel.get_state() is grpc.ChannelConnectivity.READY
        while channel.get_state() is grpc.ChannelConnectivity.READY:
            await stub.Check(request(""))
        await client.send(new_message("pod", "still here", b""))
        await client.flush()
        assert client.stats.connects == 1


@pytest.mark.parametrize("questions", [0, 1, 2_000])
async def test_a_call_of_reflection_ends(monkeypatch: pytest.MonkeyPatch, questions: int) -> None:
    """Also of who asks nothing more, and of who reads no answer; and so does his connection, which
    is idle then."""
    monkeypatch.setattr(reflection, "CALL_TIMEOUT", 0.1)
    config = ServerConfig(open_timeout=0.2)
    async with serving(config) as desk, aio.insecure_channel(desk.target) as channel:
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
        await call.wait_for_connection()
        asked = reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICES[1])
        with suppress(aio.AioRpcError, asyncio.InvalidStateError):
            for _ in range(questions):
                await call.write(asked)
        state = grpc.ChannelConnectivity.READY
        async with asyncio.timeout(5):
            while state is grpc.ChannelConnectivity.READY:
                await channel.wait_for_state_change(state)
                state = channel.get_state()
        assert state is grpc.ChannelConnectivity.IDLE


async def test_reflection_lists_the_services(stub: Any) -> None:
    """For grpcurl and its kin, with the contract of the deployed listeners."""
    async with serving() as desk, aio.insecure_channel(desk.target) as channel:
        ask = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
        await ask.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        listed = (await ask.read()).list_services_response.service
        assert sorted(service.name for service in listed) == [
            "grpc.health.v1.Health",
            "grpc.reflection.v1alpha.ServerReflection",
            "operator.ListenerService",
            "osmo.transport.v1.Transport",
        ]
        for name in SERVICES[1:]:
            await ask.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol=name))
            found = (await ask.read()).file_descriptor_response.file_descriptor_proto
            assert name.rpartition(".")[2].encode() in found[0]


async def test_old_and_new_listeners_share_a_port(stub: Any) -> None:
    """A deployed listener is moved by changing its URL alone, and later replaced."""
    async with (
        serving() as desk,
        deployed(stub, desk.target) as old,
        connect(desk.server.url, backend="old") as new,
    ):
        call = old.stream()
        await call.write(pod("one"))
        await new.send(new_message("update_pod", "two", b""))
        await new.flush()
        await acknowledged(call, 1)
        assert sorted(m.key for m in desk.messages) == ["two", "workflow/one/0"]


def test_keepalive_has_the_numbers_that_deployed_listeners_expect() -> None:
    """2.1: they ping each 40 s, also without a call; this side each 60 s, and waits 20 s."""
    server, client = dict(transport.SERVER_OPTIONS), dict(transport.CLIENT_OPTIONS)
    assert server["grpc.keepalive_time_ms"] == 60_000
    assert server["grpc.keepalive_timeout_ms"] == 20_000
    assert server["grpc.http2.min_recv_ping_interval_without_data_ms"] == 20_000
    assert server["grpc.keepalive_permit_without_calls"] == 1
    assert client["grpc.keepalive_time_ms"] == 40_000
    assert client["grpc.keepalive_timeout_ms"] == 20_000


async def test_a_stop_does_not_wait_for_calls_that_are_left(stub: Any) -> None:
    """They are told, whatever they are: well within the time for a graceful stop."""
    async with asyncio.timeout(5):
        async with serving() as desk, deployed(stub, desk.target) as listener:
            stream, conditions = listener.stream(), listener.conditions()
            await conditions.read()
            await stream.write(pod("one"))
            await acknowledged(stream, 1)
            desk.open.clear()
            single = asyncio.create_task(listener.single(pod("two")))
            await eventually(lambda: desk.taken == 2)
            ends = asyncio.gather(stream.read(), conditions.read(), single, return_exceptions=True)
            await _close(desk)
            for end in await ends:
                assert isinstance(end, aio.AioRpcError)
                assert end.code() is grpc.StatusCode.UNAVAILABLE


async def _close(desk: Desk) -> None:
    desk.server.stop()
    await desk.server._hub.aclose()
