"""`NodeConditionStream`: condition rules and signs of life."""

from datetime import datetime
from typing import Any

import grpc
import pytest
from grpc import aio

from osmo_deployed import DeployedConfig
from osmo_deployed.calls import ConditionStream
from osmo_deployed.feed import Feed
from osmo_protos import listener_service_pb2 as pb
from osmo_reports.bodies import Registration, decode_body
from osmo_reports.directory.abc import RULES_KIND, encode_rules
from osmo_transport import Limits, Push, Version, new_message
from osmo_transport.credentials import Presented
from tests.deployed.harness import deployed, serving
from tests.helpers import eventually

OFTEN = DeployedConfig(heartbeat_interval=0.02)


def push(version: int, **rules: str) -> Push:
    """What the operator says when a backend's rules have changed."""
    return Push(RULES_KIND, version, encode_rules(rules))


async def test_a_backend_without_rules_is_told_the_default(stub: Any) -> None:
    """At once."""
    async with serving() as desk, deployed(stub, desk.target) as listener:
        call = listener.conditions()
        assert (await call.read()).node_conditions.rules == {"Ready": "True"}


async def test_rules_come_first_and_at_each_change(stub: Any) -> None:
    """Those of the own backend."""
    async with serving() as desk, deployed(stub, desk.target) as listener:
        desk.server.push("old", push(1, Ready="True", DiskPressure="False"))
        desk.server.push("other", push(1, Ready="Unknown"))
        call = listener.conditions()
        first = await call.read()
        assert first.node_conditions.rules == {"Ready": "True", "DiskPressure": "False"}
        desk.server.push("other", push(2, Ready="False"))
        desk.server.push("old", push(2, Ready="False"))
        assert (await call.read()).node_conditions.rules == {"Ready": "False"}


async def test_other_pushes_are_not_rules(stub: Any) -> None:
    """Nor are rules that cannot be read."""
    async with serving() as desk, deployed(stub, desk.target) as listener:
        call = listener.conditions()
        await call.read()
        desk.server.push("old", Push("something else", 1, b"{}"))
        desk.server.push("old", Push(RULES_KIND, 1, b"no JSON"))
        desk.server.push("old", push(2, Ready="False"))
        assert (await call.read()).node_conditions.rules == {"Ready": "False"}


async def test_the_operator_gives_signs_of_life(stub: Any) -> None:
    """Again and again after the rules, with the time in RFC 3339 and UTC."""
    async with serving(limits=OFTEN) as desk, deployed(stub, desk.target) as listener:
        call = listener.conditions()
        assert (await call.read()).HasField("node_conditions")
        for _ in range(3):
            answer = await call.read()
            assert answer.HasField("heartbeat")
            assert answer.heartbeat.time.endswith("Z")
            assert datetime.fromisoformat(answer.heartbeat.time).tzinfo is not None


async def test_signs_of_life_reach_the_queue(stub: Any) -> None:
    """As heartbeats with the registration that the backend introduced itself with, and its version:
    so the last introduction counts, whichever operator it was made to."""
    async with serving() as desk, deployed(stub, desk.target) as listener:
        assert (await listener.introduce(name="old", k8s_uid="uid", version="6.0")).success
        call = listener.conditions()
        for number in range(3):
            await call.write(pb.HeartbeatMessage(time="2026-01-02T03:04:05Z"))
            await eventually(lambda n=number: len(desk.stored) == n + 2)  # type: ignore[misc]
        (version,) = {message.version for message in desk.messages}
        assert version != Version(0, 0)
        times = [message.timestamp for message in desk.messages]
        assert times == sorted(times)
        for backend, message in desk.stored:
            assert (backend, message.kind, message.key) == ("old", "heartbeat", "old")
            assert decode_body(message.kind, message.payload) == Registration("uid", "", "6.0")


async def test_a_stranger_has_signs_of_life_too(stub: Any) -> None:
    """One that introduced itself to another operator, or never."""
    async with serving() as desk, deployed(stub, desk.target) as listener:
        await listener.conditions().write(pb.HeartbeatMessage())
        await eventually(lambda: desk.stored)
        (message,) = desk.messages
        assert decode_body(message.kind, message.payload) == Registration()
        assert message.version == Version(0, 0)  # whatever else is known, is known better


async def test_signs_of_life_do_not_pile_up() -> None:
    """One that waits to be stored stands for all."""
    context: Any = None
    heartbeat = new_message("heartbeat", "old", b"")
    stream = ConditionStream(context, 20.0, lambda: "", lambda: heartbeat)
    feed = Feed(Presented(address="a listener"), Limits(), stream)
    for _ in range(100):
        stream._take(b"", feed)
    assert feed.held == 1


async def test_the_end_of_the_operator_is_a_status(stub: Any) -> None:
    """Upon which a listener connects again."""
    async with serving() as desk, deployed(stub, desk.target) as listener:
        call = listener.conditions()
        await call.read()
        await desk.server._hub.aclose()
        with pytest.raises(aio.AioRpcError, match="this server is stopping") as info:
            await call.read()
        assert info.value.code() is grpc.StatusCode.UNAVAILABLE
