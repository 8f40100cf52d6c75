"""An operator's end that does what a test says, and a deployed listener's in Python."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from grpc import aio

from osmo_deployed import DeployedConfig, ListenerServiceCompanion
from osmo_protos import listener_service_pb2 as pb
from osmo_transport import Message, Server, ServerConfig, listen
from osmo_transport.message import new_id
from osmo_transport.server import Admit


class Desk:
    """A server, and whoever stores what it receives."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.stored: list[tuple[str, Message]] = []
        """Backend and message, in the order of storing."""
        self.batches: list[int] = []
        """How many messages each batch had."""
        self.taken = 0
        """Messages that have arrived."""
        self.open = asyncio.Event()
        """Nothing is stored while it is not set."""
        self.open.set()

    @property
    def messages(self) -> list[Message]:
        return [message for _, message in self.stored]

    @property
    def held(self) -> int:
        """Messages that deployed listeners have been read and not been answered."""
        feeds: list[Any] = [peer._connection for peer in self.server._hub.peers]
        return sum(feed.held for feed in feeds)

    @property
    def target(self) -> str:
        return self.server.url.removeprefix("grpc://")

    async def store(self) -> None:
        while taken := await self.server.receive():
            self.taken += sum(len(incoming.encoded) for incoming in taken)
            await self.open.wait()
            for incoming in taken:
                backend = incoming.producer.backend
                self.stored += [(backend, message) for message in incoming.messages]
                self.batches.append(len(incoming.encoded))
                incoming.acknowledge()


@asynccontextmanager
async def serving(
    config: ServerConfig | None = None,
    admit: Admit | None = None,
    limits: DeployedConfig | None = None,
) -> AsyncIterator[Desk]:
    """A server that stores everything at once, until the test says otherwise; `limits` are those
    of deployed listeners."""
    service = ListenerServiceCompanion(limits or DeployedConfig())
    async with listen(
        "grpc://127.0.0.1:0", admit=admit, config=config, companions=(service,)
    ) as server:
        desk = Desk(server)
        storing = asyncio.create_task(desk.store())
        try:
            yield desk
        finally:
            storing.cancel()


class Listener:
    """A channel of a deployed listener."""

    def __init__(self, stub: Any, channel: aio.Channel, backend: str) -> None:
        self.channel = channel
        self._stub = stub(channel)
        self._metadata = (("backend-name", backend),)

    def stream(self) -> Any:
        """A call of `ListenerStream`."""
        return self._stub.ListenerStream(metadata=self._metadata)

    def conditions(self) -> Any:
        """A call of `NodeConditionStream`."""
        return self._stub.NodeConditionStream(metadata=self._metadata)

    async def single(self, message: pb.ListenerMessage) -> pb.AckMessage:
        """A call of `SendListenerMessage`."""
        answer: pb.AckMessage = await self._stub.SendListenerMessage(
            message, metadata=self._metadata
        )
        return answer

    async def introduce(self, **body: str) -> pb.InitBackendResponse:
        """A call of `InitBackend`, which names its backend in its body, if it has one."""
        request = pb.InitBackendRequest(init_body=pb.InitBody(**body) if body else None)
        answer: pb.InitBackendResponse = await self._stub.InitBackend(request)
        return answer


@asynccontextmanager
async def deployed(
    stub: Any, target: str, backend: str = "old", *options: tuple[str, int]
) -> AsyncIterator[Listener]:
    """A deployed listener of `backend`."""
    async with aio.insecure_channel(target, options) as channel, asyncio.timeout(20):
        yield Listener(stub, channel, backend)


def pod(task: str, status: str = "RUNNING", **fields: Any) -> pb.ListenerMessage:
    """A report about the pod of a task."""
    body = pb.UpdatePodBody(
        workflow_uuid="workflow", task_uuid=task, status=status, exit_code=-1, **fields
    )
    return pb.ListenerMessage(uuid=new_id(), timestamp="2026-01-02T03:04:05.5", update_pod=body)


async def acknowledged(call: Any, count: int) -> list[str]:
    """The next `count` acknowledgements."""
    return [(await call.read()).ack_uuid for _ in range(count)]
