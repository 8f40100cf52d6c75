"""`InitBackend`: its call succeeds, and says with the known sentences what does not."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from grpc import aio

from osmo_deployed import service
from osmo_reports.bodies import Registration, decode_body, decode_introduction
from osmo_reports.errors import BackendTakenError
from osmo_transport import (
    ProducerState,
    QueueUnavailableError,
    ServerConfig,
    UsageError,
)
from osmo_transport.server import Admit
from osmo_transport.session import Greeting
from tests.deployed.harness import deployed, serving

BODY = {
    "name": "old",
    "k8s_uid": "uid-1",
    "k8s_namespace": "osmo",
    "version": "6.0",
    "node_condition_prefix": "osmo.nvidia.com/",
}


def refusing(error: Callable[[], Exception], times: int = 1_000_000) -> Admit:
    """Lets nobody in for some `times`."""
    left = times

    async def admit(greeting: Greeting) -> ProducerState:
        nonlocal left
        if left:
            left -= 1
            raise error()
        return ProducerState("queue", 1, 0)

    return admit


async def test_a_backend_introduces_itself(stub: Any) -> None:
    """What it says goes into the hello and, as a heartbeat, into the queue before the answer."""
    greetings: list[Greeting] = []

    async def admit(greeting: Greeting) -> ProducerState:
        greetings.append(greeting)
        return ProducerState("queue", 1, 0)

    async with serving(admit=admit) as desk, deployed(stub, desk.target) as listener:
        answer = await listener.introduce(**BODY)
        assert (answer.success, answer.message) == (True, "")
        registration = Registration("uid-1", "osmo", "6.0", "osmo.nvidia.com/")
        assert [decode_introduction(greeting.introduction) for greeting in greetings] == [
            registration
        ]
        ((backend, message),) = desk.stored
        assert (backend, message.kind, message.key) == ("old", "heartbeat", "old")
        assert decode_body(message.kind, message.payload) == registration


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({}, "init body is required"),  # 2.1
        ({"k8s_uid": "uid"}, "backend name is required"),  # 2.1
        (
            {"name": "n" * 2000},
            "failed to initialize backend: the message cannot be sent: Expected `str` of"
            " length <= 1024 - at `key`",
        ),
        (
            {"name": "old", "version": "v" * 5000},
            "failed to initialize backend: the introduction has 5012 bytes, and 4096 may be used",
        ),
    ],
)
async def test_what_is_wrong_with_a_body(stub: Any, body: dict[str, str], problem: str) -> None:
    """Is said in the answer of a call that succeeds."""
    async with serving() as desk, deployed(stub, desk.target) as listener:
        answer = await listener.introduce(**body)
        assert (answer.success, answer.message) == (False, problem)
        assert not desk.stored


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (  # 2.1: the sentence ends there
            lambda: BackendTakenError("old", "uid-2", "uid-1"),
            "backend old is already being used by a different cluster (uid: uid-2)",
        ),
        (lambda: UsageError("no"), "failed to initialize backend: no"),  # 2.1
    ],
)
async def test_a_backend_that_is_not_let_in(
    stub: Any, error: Callable[[], Exception], problem: str
) -> None:
    """Is told why, and nothing of it is stored."""
    async with (
        serving(admit=refusing(error)) as desk,
        deployed(stub, desk.target) as listener,
    ):
        answer = await listener.introduce(**BODY)
        assert (answer.success, answer.message) == (False, problem)
        assert not desk.stored


async def test_a_short_outage_is_waited_out(stub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a deployed listener ends when it is told of a problem."""
    away = refusing(lambda: QueueUnavailableError("away"), times=3)
    config = ServerConfig(retry_after=0.0)
    monkeypatch.setattr(service, "INIT_PAUSE", 0.0)
    async with serving(config, away) as desk, deployed(stub, desk.target) as listener:
        assert (await listener.introduce(**BODY)).success


async def test_a_long_outage_is_told(stub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the reason."""
    monkeypatch.setattr(service, "INIT_TIMEOUT", 0.05)
    away = refusing(lambda: QueueUnavailableError("the store is away"))
    async with serving(admit=away) as desk, deployed(stub, desk.target) as listener:
        answer = await listener.introduce(**BODY)
        assert answer.message == "failed to initialize backend: the store is away"


async def test_what_is_not_stored_is_told(stub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue that lets a backend in and stores nothing of it is a problem, too."""
    monkeypatch.setattr(service, "INIT_TIMEOUT", 0.05)
    async with serving() as desk, deployed(stub, desk.target) as listener:
        desk.open.clear()
        answer = await listener.introduce(**BODY)
        assert answer.message == "failed to initialize backend: not stored in 0.05 s"


async def test_a_stopping_operator_is_no_answer(stub: Any) -> None:
    """The call itself fails, for the listener to ask another operator: it would end otherwise."""
    async with serving() as desk, deployed(stub, desk.target) as listener:
        desk.server.stop()
        with pytest.raises(aio.AioRpcError, match="this server is stopping") as info:
            await listener.introduce(**BODY)
        assert info.value.code() is grpc.StatusCode.UNAVAILABLE
