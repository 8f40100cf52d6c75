"""Whoever uses a client or a server may be cancelled at any moment.

In memory and over WebSocket that is after each number of turns of the event loop, and so also while
others are in the midst of something; over gRPC, whose threads take what turns they like, wherever
it waits itself.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple

import pytest

from osmo_transport import (
    BackoffConfig,
    Client,
    ClientConfig,
    Server,
    Transport,
    connect,
    listen,
    transport_for,
)
from osmo_transport.testing.cancellation import cancel_at
from osmo_transport.testing.contracts.desk import Desk, events, send_all
from osmo_transport.testing.contracts.transport_suite import event
from osmo_transport.transports.websocket.transport import WebSocketTransport
from tests.helpers import eventually
from tests.transport.engines import ENGINES

pytestmark = pytest.mark.usefixtures("nothing_left", "no_socket_left")

AT_ONCE = ClientConfig(backoff=BackoffConfig(base=0.0, maximum=0.0))
MOST = 1000
"""Many times as often as anything here can be cancelled."""

Cut = Callable[[int, Coroutine[Any, Any, object]], Awaitable[bool]]
"""Cancels a coroutine, each time later; whether it had not ended by itself."""


async def cancel_after(turns: int, coroutine: Coroutine[Any, Any, object]) -> bool:
    """Cancel a task after so many turns of the loop; whether it had not ended by itself."""
    task = asyncio.create_task(coroutine)
    for _ in range(turns):
        await asyncio.sleep(0)
    reached = task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        assert task.cancelled()
    return reached


class Link(NamedTuple):
    """A way to connect, and how who uses it is cancelled."""

    url: str
    transport: Transport
    cut: Cut = cancel_after

    def listening(self, desk: Desk, url: str = "") -> AbstractAsyncContextManager[Server]:
        """A server for the desk, at a free address if none is given."""
        return listen(url or self.url, admit=desk.admit, transport=self.transport)

    def connected(self, url: str) -> AbstractAsyncContextManager[Client]:
        """A client that connects again at once."""
        return connect(url, backend="b", config=AT_ONCE, transport=self.transport)


LINKS = {
    "memory": Link("memory://", transport_for("memory://")),
    **{name: Link("ws://127.0.0.1:0", WebSocketTransport(ENGINES[name])) for name in ENGINES},
    "grpc": Link("grpc://127.0.0.1:0", transport_for("grpc://"), cancel_at),
}


@pytest.fixture(params=LINKS)
def link(request: pytest.FixtureRequest) -> Link:
    """Each in turn."""
    return LINKS[request.param]


@pytest.fixture
async def nothing_left() -> AsyncIterator[None]:
    """After the test all tasks have ended, and no exception was left to nobody."""
    leaked: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: leaked.append(context))
    yield
    await eventually(lambda: len(asyncio.all_tasks()) == 1)
    assert not leaked


async def test_a_client_that_is_cancelled_leaves_nothing_undone_by_halves(link: Link) -> None:
    """What it sent is stored once and in order, up to some message; its connection is gone, and the
    next client has its place."""
    desk = Desk()
    sent: list[str] = []

    async def live(url: str) -> None:
        async with link.connected(url) as client:
            for message in events(3):
                sent.append(message.id)
                await client.send(message)
            await client.flush()
            assert [message.id for message in desk.messages] == sent

    async with link.listening(desk) as server:
        serving = asyncio.create_task(desk.serve(server))
        for step in range(1, MOST):
            sent.clear()
            desk.messages.clear()
            reached = await link.cut(step, live(server.url))
            await eventually(lambda: not server.connections)
            stored = [message.id for message in desk.messages]
            assert stored == sent[: len(stored)]
            if not reached:
                break
        assert len(stored) == 3
        server.stop()
        await serving


async def test_a_client_stays_of_use_when_its_calls_are_cancelled(link: Link) -> None:
    """What it took is stored, once and in order."""
    desk = Desk()
    async with link.listening(desk) as server, link.connected(server.url) as client:
        serving = asyncio.create_task(desk.serve(server))
        await client.epoch_after(0)
        for step in range(1, MOST):
            if not await link.cut(step, send_all(client, events(3))):
                break
        await send_all(client, [event("last")])
        assert step < MOST - 1
        assert client.stats.connects == 1
        assert client.stats.acknowledged == len(desk.messages)
        server.stop()
        await serving
    assert len({message.id for message in desk.messages}) == len(desk.messages)
    assert desk.keys()[-1] == "last"


async def test_what_a_cancelled_server_did_not_store_the_next_one_gets(link: Link) -> None:
    """Once and in order: the client sends it again."""
    desk = Desk()
    sent: list[str] = []

    async def live(url: str) -> None:
        async with link.listening(desk, url) as server:
            while len(desk.messages) < len(sent):
                for incoming in await server.receive():
                    desk.store(incoming)

    async with link.listening(desk) as server:
        url = server.url
    async with link.connected(url) as client:
        for step in range(1, MOST):
            message = event(str(step))
            sent.append(message.id)
            await client.send(message)
            if not await link.cut(step, live(url)):
                break
    assert step < MOST - 1
    assert [message.id for message in desk.messages] == sent
