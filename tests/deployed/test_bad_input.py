"""Listeners that are wrong, rude or dead harm nobody, and leave nothing behind."""

import asyncio
import logging
import random
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio

from osmo_deployed import DeployedConfig, ListenerServiceCompanion
from osmo_protos import listener_service_pb2 as pb
from osmo_transport import Limits, ServerConfig, SessionConfig, listen
from osmo_transport.credentials import Authenticator, Identity, Presented
from tests.deployed.harness import Desk, acknowledged, deployed, pod, serving
from tests.helpers import eventually

STREAMS = ["ListenerStream", "NodeConditionStream"]


@asynccontextmanager
async def beside(
    stub: Any, config: ServerConfig | None = None, limits: DeployedConfig | None = None
) -> AsyncIterator[Desk]:
    """A server, and a well-behaved listener that has to stay unharmed."""
    async with (
        serving(config, limits=limits) as desk,
        deployed(stub, desk.target, "bystander") as listener,
    ):
        call = listener.stream()
        await call.write(pod("first"))
        await acknowledged(call, 1)
        yield desk
        await call.write(pod("last"))
        await acknowledged(call, 1)


def raw(channel: aio.Channel, method: str, *metadata: tuple[str, str]) -> Any:
    """A call that moves bytes."""
    path = f"/operator.ListenerService/{method}"
    if method in STREAMS:
        return channel.stream_stream(path)(metadata=metadata)
    return channel.unary_unary(path)(b"", metadata=metadata)


async def failed(answer: Any) -> tuple[grpc.StatusCode, str]:
    """The status of a call that fails."""
    with pytest.raises(aio.AioRpcError) as info:
        await answer
    return info.value.code(), info.value.details() or ""


@pytest.mark.parametrize("method", [*STREAMS, "SendListenerMessage"])
@pytest.mark.parametrize(
    ("metadata", "problem"),
    [
        ((), "backend-name metadata is required but not provided"),  # 2.1
        ((("backend-name", ""),), "backend-name metadata cannot be empty"),  # 2.1
    ],
)
async def test_a_call_names_its_backend(
    stub: Any, method: str, metadata: tuple[tuple[str, str], ...], problem: str
) -> None:
    """Or is refused with a sentence that says so."""
    async with beside(stub) as desk, aio.insecure_channel(desk.target) as channel:
        call = raw(channel, method, *metadata)
        answer = call.read() if method in STREAMS else call
        assert await failed(answer) == (grpc.StatusCode.INVALID_ARGUMENT, problem)


async def test_a_name_that_is_too_long_is_refused(stub: Any) -> None:
    """For good."""
    async with beside(stub) as desk, deployed(stub, desk.target, "b" * 2000) as listener:
        code, problem = await failed(listener.stream().read())
        assert code is grpc.StatusCode.FAILED_PRECONDITION
        assert "1024 characters" in problem
        assert (await failed(listener.single(pod("t"))))[0] is grpc.StatusCode.FAILED_PRECONDITION


async def test_metadata_over_the_limit_is_refused(stub: Any) -> None:
    """By gRPC itself."""
    async with beside(stub) as desk, deployed(stub, desk.target, "b" * 40_000) as listener:
        code, _ = await failed(listener.single(pod("t")))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    ("report", "reason"),
    [
        (pb.ListenerMessage(uuid="u"), "no body"),
        (pb.ListenerMessage.FromString(b"\x0a\x01u\xfa\x06\x02\x0a\x00"), "no body"),  # of later
        (pb.ListenerMessage(uuid="u", update_node=pb.UpdateNodeBody()), "names nothing"),
        (pod("t" * 1500), "length <= 1024 - at `key`"),
        (pod("t", message="m" * 8000), "limit is 6000"),
    ],
)
async def test_a_report_that_cannot_be_kept(
    stub: Any, caplog: pytest.LogCaptureFixture, report: pb.ListenerMessage, reason: str
) -> None:
    """Is acknowledged, because it would come again for ever, and logged; the stream goes on."""
    report.uuid = "known"
    config = ServerConfig(session=SessionConfig(limits=Limits(message_bytes=6000)))
    async with beside(stub, config) as desk, deployed(stub, desk.target) as listener:
        call = listener.stream()
        with caplog.at_level(logging.ERROR):
            await call.write(report)
            assert await acknowledged(call, 1) == ["known"]
            assert (await listener.single(report)).ack_uuid == "known"
        assert [m.key for b, m in desk.stored if b == "old"] == []
        assert (
            "a report of old is acknowledged and not kept (uuid 'known', 1 so far)" in caplog.text
        )
        assert reason in caplog.text
        await call.write(pod("good"))
        await acknowledged(call, 1)
        assert [m.key for b, m in desk.stored if b == "old"] == ["workflow/good/0"]


async def test_many_reports_that_cannot_be_kept_fill_no_log(
    stub: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """They are counted, and the count is logged now and then."""
    async with serving() as desk, deployed(stub, desk.target) as listener:
        call = listener.stream()
        for number in range(300):
            await call.write(pb.ListenerMessage(uuid=str(number)))
        uuids = await acknowledged(call, 300)
        assert uuids == [str(number) for number in range(300)]
        assert len(caplog.records) < 30


@pytest.mark.parametrize("data", [b"\x00", b"\xff\xff\xff", b"\x0a\x05u", b"\x0a\x01\xff"])
async def test_what_is_no_report_ends_its_call(stub: Any, data: bytes) -> None:
    """With a status that says so; what came before it is stored and acknowledged."""
    async with beside(stub) as desk, aio.insecure_channel(desk.target) as channel:
        call = raw(channel, "ListenerStream", ("backend-name", "old"))
        report = pod("good")
        await call.write(report.SerializeToString())
        assert pb.AckMessage.FromString(await call.read()).ack_uuid == report.uuid
        await call.write(data)
        code, problem = await failed(call.read())
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert problem.startswith("not a ListenerMessage")
        send = channel.unary_unary("/operator.ListenerService/SendListenerMessage")
        code, _ = await failed(send(data, metadata=(("backend-name", "old"),)))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        code, problem = await failed(
            channel.unary_unary("/operator.ListenerService/InitBackend")(data)
        )
        assert (code, problem[:24]) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "not an InitBackendReques",
        )


async def test_a_uuid_is_no_place_for_a_payload(stub: Any) -> None:
    """It is held until the report is stored."""
    async with beside(stub) as desk, deployed(stub, desk.target) as listener:
        code, problem = await failed(listener.single(pb.ListenerMessage(uuid="u" * 2000)))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert problem == "a uuid of 2000 characters, and the limit is 1024"


async def test_random_bytes_harm_nobody(stub: Any) -> None:
    """Whatever they happen to mean."""
    draw = random.Random(7)
    async with beside(stub) as desk, aio.insecure_channel(desk.target) as channel:
        for _ in range(50):
            call = raw(channel, "ListenerStream", ("backend-name", "old"))
            await call.write(draw.randbytes(draw.randrange(1, 500)))
            await call.done_writing()
            assert await call.code() in {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT}
        await eventually(lambda: desk.server.connections == 1)


async def test_a_report_far_over_the_limit_is_refused_unread(stub: Any) -> None:
    """By gRPC itself."""
    limits = Limits(message_bytes=2000, batch_bytes=2000, window_bytes=20_000)
    config = ServerConfig(session=SessionConfig(limits=limits))
    async with beside(stub, config) as desk, deployed(stub, desk.target) as listener:
        code, _ = await failed(listener.single(pod("t", message="m" * 100_000)))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_streams_of_a_backend_are_bounded(stub: Any) -> None:
    """One more is refused with a sentence that says the limit; another backend has its own."""
    async with (
        beside(stub, limits=DeployedConfig(max_streams=2)) as desk,
        deployed(stub, desk.target) as listener,
    ):
        calls = [listener.stream(), listener.conditions()]
        await calls[1].read()
        await calls[0].write(pod("t"))
        await acknowledged(calls[0], 1)
        code, problem = await failed(listener.stream().read())
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert problem == "2 streams of backend old, the limit"
        assert (await listener.introduce(name="old")).message == (
            "failed to initialize backend: 2 streams of backend old, the limit"
        )
        calls[0].cancel()
        await eventually(lambda: desk.server.connections == 2)
        await listener.single(pod("t"))


class Slow(Authenticator):
    """Knows one token, and takes its time over others."""

    kind = "slow"

    async def identify(self, presented: Presented) -> Identity | None:
        if presented.token != "good":
            await asyncio.Event().wait()
        return Identity("token good", ("old",))


async def test_made_up_tokens_take_no_streams_of_a_backend() -> None:
    """Of one that they name: each token has its own bound, and the good one too."""

    def call(token: str) -> Any:
        metadata = (("backend-name", "old"), ("authorization", f"Bearer {token}"))
        return raw(channel, "NodeConditionStream", *metadata)

    companion = ListenerServiceCompanion(DeployedConfig(max_streams=2))
    async with (
        listen("grpc://127.0.0.1:0", authenticator=Slow(), companions=(companion,)) as server,
        aio.insecure_channel(server.url.removeprefix("grpc://")) as channel,
        asyncio.timeout(10),
    ):
        made_up = [call(token) for token in ("one", "one", "two", "three")]
        await eventually(lambda: server.connections == 4)
        assert await call("good").read()
        assert await call("good").read()
        for token in ("good", "one"):
            code, problem = await failed(call(token).read())
            assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert problem == "2 streams of backend old, the limit"
        assert not any(each.done() for each in made_up)


async def test_streams_are_bounded_altogether(stub: Any) -> None:
    """As the connections of every endpoint."""
    async with (
        serving(ServerConfig(max_connections=1)) as desk,
        deployed(stub, desk.target, "one") as one,
        deployed(stub, desk.target, "two") as two,
    ):
        await one.conditions().read()
        code, problem = await failed(two.conditions().read())
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert problem == "1 streams, the limit"


async def test_who_reads_no_acknowledgements_is_read_no_more(stub: Any) -> None:
    """So that what he does not read fills his own buffers, not the operator's memory; and the
    operator can stop."""
    small = ("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1)

    async def send(call: Any) -> None:
        while True:
            await call.write(pod(str(desk.taken)))

    async with (
        serving(limits=DeployedConfig(window_messages=50)) as desk,
        deployed(stub, desk.target, "old", *small) as listener,
    ):
        call = listener.stream()
        sending = asyncio.create_task(send(call))
        await eventually(lambda: desk.server.connections == 1)
        (peer,) = desk.server._hub.peers
        feed: Any = peer._connection
        waiting = feed._owner._acknowledgements
        await eventually(lambda: len(waiting) >= 49)  # One is being written.
        taken = desk.taken
        for _ in range(20):
            await listener.introduce()
        assert desk.taken <= taken + 1
        sending.cancel()


async def test_who_reads_nothing_of_the_first_answer_is_cut_off_quietly(stub: Any) -> None:
    """Not even what a stopping server tells him gets through; the log holds no error for that."""
    unread = ("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1)
    async with AsyncExitStack() as listeners:
        async with serving() as desk:
            listener = await listeners.enter_async_context(
                deployed(stub, desk.target, "old", *unread)
            )
            call = listener.stream()
            await call.write(pod("a"))
            await eventually(lambda: desk.taken)
        assert not desk.server.connections


async def test_a_silent_listener_costs_a_place_only(stub: Any) -> None:
    """It is let in, and may say something later."""
    async with beside(stub) as desk, deployed(stub, desk.target) as listener:
        call = listener.stream()
        await call.wait_for_connection()
        await eventually(lambda: desk.server.connections == 2)
        await call.write(pod("late"))
        await acknowledged(call, 1)


async def test_a_killed_listener_leaves_nothing_behind(stub: Any) -> None:
    """SIGKILL while it sends: what had arrived is stored, and its places are free."""
    async with beside(stub) as desk:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.deployed.endless",
            desk.target,
            cwd=Path(__file__).parents[2],
        )
        await eventually(lambda: len(desk.stored) > 200)
        process.kill()
        await process.wait()
        await eventually(lambda: desk.server.connections == 1)
        assert desk.taken == len(desk.stored)
        async with deployed(stub, desk.target) as listener:
            await listener.single(pod("after"))
            (source,) = {
                producer.source
                for producer in desk.server._hub._by_producer
                if producer.backend == "old"
            }
            assert source.endswith("-0")
