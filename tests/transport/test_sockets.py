"""Sockets that are handed to an event loop, and are nobody's in between."""

import asyncio
import gc
import socket
import warnings
from contextlib import AsyncExitStack

import pytest
import uvloop

from osmo_transport import BackoffConfig, ClientConfig, Transport, connect, listen
from osmo_transport.testing.ports import free_port
from osmo_transport.transports import sockets
from osmo_transport.transports.websocket.transport import WebSocketTransport
from tests.transport.engines import ENGINES

HOST = "127.0.0.1"
WAYS = {f"ws, {engine}": engine for engine in ENGINES}
RESTARTS = 400
CLIENTS = 8


async def test_what_is_written_leaves_at_once() -> None:
    """On both sides, also where the event loop does not see to it: else the second of two frames
    waits until the other side tells that it has the first, which it may for 40 ms not do."""
    (listening,) = await sockets.listen(HOST, 0)
    with listening, await sockets.connect(HOST, listening.getsockname()[1]) as dialled:
        accepted, _ = await asyncio.get_running_loop().sock_accept(listening)
        with accepted:
            for side in (dialled, accepted):
                assert side.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize("way", WAYS)
def test_a_server_that_comes_and_goes_costs_nobody_a_descriptor(way: str) -> None:
    """Its clients are cut off at every stage of connecting. A socket that is left over then closes
    somebody else's descriptor when it is collected, and libuv aborts the process for it."""
    engine = WAYS[way]
    transport = WebSocketTransport(ENGINES[engine])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        uvloop.run(_restart(way.partition(",")[0], transport))
        gc.collect()
    assert [str(warning.message) for warning in caught] == []


async def _restart(scheme: str, transport: Transport) -> None:
    url = f"{scheme}://127.0.0.1:{free_port()}"
    config = ClientConfig(backoff=BackoffConfig(base=0.001, maximum=0.005), drain_timeout=0.0)
    async with AsyncExitStack() as clients:
        for number in range(CLIENTS):
            client = connect(
                url, backend="b", source=str(number), config=config, transport=transport
            )
            await clients.enter_async_context(client)
        for turns in range(RESTARTS):
            async with listen(url, transport=transport):
                for _ in range(turns % 7):
                    await asyncio.sleep(0.001)
            if turns % 3 == 0:
                await asyncio.sleep(0.002)
