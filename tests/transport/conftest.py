"""Fixtures of this folder."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator

import pytest

from osmo_transport import Transport
from osmo_transport.transports.websocket.transport import WebSocketTransport
from tests.helpers import eventually
from tests.transport.certificates import Authority, authority
from tests.transport.engines import ENGINES


@pytest.fixture(scope="session")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The authority that both sides trust."""
    return authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Another authority."""
    return authority(tmp_path_factory.mktemp("stranger"))


@pytest.fixture(params=ENGINES)
def ws(request: pytest.FixtureRequest) -> Transport:
    """The WebSocket transport over each of its engines in turn."""
    return WebSocketTransport(ENGINES[request.param])


@pytest.fixture
async def no_socket_left() -> AsyncIterator[None]:
    """After the test every TCP socket that its event loop watched is gone."""
    loop = asyncio.get_running_loop()
    yield
    await eventually(lambda: not _tcp_sockets(loop))
    # What has just been closed is told so in the next turns.
    for _ in range(5):
        await asyncio.sleep(0)


def _tcp_sockets(loop: asyncio.AbstractEventLoop) -> list[int]:
    found = []
    for key in list(loop._selector.get_map().values()):  # type: ignore[attr-defined]
        with socket.socket(fileno=os.dup(key.fd)) as sock:
            if sock.family in (socket.AF_INET, socket.AF_INET6):
                found.append(key.fd)
    return found
