"""The operations port: `/livez`, `/readyz` and `/metrics` over HTTP.

Answers are made of what the process knows already: none of them waits for anybody. They are made
beside the messages, so what strangers can make of it is bounded at the door: connections are
accepted one after the other at a pace, each is given one answer, and only the last ones are kept.

What answers is imported, beside the event loop, when somebody first asks: a service that starts has
more urgent things to do for a seventh of a second.
"""

import asyncio
import logging
import socket
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

import anyio

from osmo_runtime.operations.health import Check
from osmo_transport.errors import AddressInUseError, MissingExtraError, UsageError
from osmo_transport.transports import sockets
from osmo_transport.transports.urls import host_port

if TYPE_CHECKING:
    from aiohttp.web import Server

PACE = 0.005
"""Seconds between two connections that are accepted, and so between two answers: 200 in a second
are many times what probes and scrapers ask for, and take a few percent of a core."""

MOST_CONNECTIONS = 100
"""Connections that are kept. The oldest one goes when another one comes: who says nothing, or does
not read what is answered, keeps nobody out."""

MOST_WAITING = 100
"""Connections that wait until they are accepted, which takes at most half a second, less than a
probe waits for its answer; further ones the kernel drops."""

ANSWER_TIMEOUT = 15.0
"""Seconds from the moment at which a connection is accepted until it is over, answered or not: more
than a scraper waits."""

SHUTDOWN_TIMEOUT = 1.0
"""Seconds that an answer which is on its way may take when the port is closed."""

_log = logging.getLogger(__name__)


def address(text: str, of: str = "the operations port") -> tuple[str, int]:
    """Host and port of `HOST:PORT`; the error says that it is the address `of` that.

    Raises:
        UsageError: it is none.
    """
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
        (host or "").encode("idna")
    except ValueError:
        host = port = None
    if not host or port is None or parts.netloc != text or parts.username is not None:
        raise UsageError(f"the address of {of} is {text!r}: it must look like 127.0.0.1:9464")
    return host, port


class Port:
    """Where a service can be seen, once `run` does."""

    def __init__(
        self, url: str, listening: list[socket.socket], make: "Callable[[], Server]"
    ) -> None:
        self.url = url
        self._listening = listening
        self._make = make
        self._made: Server | None = None
        self._turn = asyncio.Lock()
        self._kept: deque[asyncio.Transport] = deque()

    async def run(self) -> None:
        """Answer for ever."""
        async with asyncio.TaskGroup() as accepting:
            for each in self._listening:
                accepting.create_task(self._accept(each))

    async def _accept(self, listening: socket.socket) -> NoReturn:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = await loop.sock_accept(listening)
                server = await self._server()
                transport, _ = await loop.connect_accepted_socket(server, accepted)
            except OSError as exc:
                # It is gone already, or there are no descriptors left for now.
                _log.debug("cannot accept a connection: %s", exc)
            else:
                loop.call_later(ANSWER_TIMEOUT, transport.abort)
                self._kept.append(transport)
                if len(self._kept) > MOST_CONNECTIONS:
                    self._kept.popleft().abort()
            await asyncio.sleep(PACE)

    async def _server(self) -> "Server":
        async with self._turn:
            if self._made is None:
                self._made = await anyio.to_thread.run_sync(self._make)
            return self._made

    async def aclose(self) -> None:
        """Accept no more, and end what is being answered."""
        for each in self._listening:
            each.close()
        if self._made is not None:
            await self._made.shutdown(SHUTDOWN_TIMEOUT)


def _make(
    loop: asyncio.AbstractEventLoop,
    ready: Callable[[], Mapping[str, Check]],
    stalled: Callable[[], list[str]],
    metrics: Callable[[], Awaitable[tuple[bytes, str]]],
) -> "Server":
    from osmo_runtime.operations.answers import make_server  # noqa: PLC0415

    return make_server(loop, ready, stalled, metrics)


@asynccontextmanager
async def open_port(
    where: str,
    ready: Callable[[], Mapping[str, Check]],
    stalled: Callable[[], list[str]],
    metrics: Callable[[], Awaitable[tuple[bytes, str]]],
) -> AsyncIterator[Port]:
    """A port that is closed when the context is left.

    Raises:
        UsageError: `where` is no address.
        MissingExtraError: aiohttp is not installed.
        AddressInUseError: somebody else has it, or it is not of this machine.
    """
    if find_spec("aiohttp") is None:
        raise MissingExtraError(
            "the operations port needs aiohttp: pip install 'osmo-pipeline[operations]'"
        )
    host, port = address(where)
    try:
        listening = await sockets.listen(host, port)
    except OSError as exc:
        raise AddressInUseError(f"cannot open the operations port at {where}: {exc}") from exc
    loop = asyncio.get_running_loop()
    bound = listening[0].getsockname()[1]
    make = partial(_make, loop, ready, stalled, metrics)
    opened = Port(f"http://{host_port(host, bound)}", listening, make)
    try:
        for each in listening:
            each.listen(MOST_WAITING)
        yield opened
    finally:
        await opened.aclose()
