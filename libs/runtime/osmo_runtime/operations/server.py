"""The operations port: `/livez`, `/readyz` and `/metrics` over HTTP.

Answers are made of what the process knows already: none of them waits for anybody. They are made
beside the messages, so what strangers can make of it is bounded at the door: connections are
accepted one after the other at a pace, each is given one answer, and only the last ones are kept.
"""

import asyncio
import logging
import socket
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import NoReturn
from urllib.parse import urlsplit

import anyio
import msgspec

from osmo_runtime.operations.health import Check
from osmo_transport.errors import AddressInUseError, MissingExtraError, UsageError
from osmo_transport.transports import sockets

try:
    from aiohttp import web
    from aiohttp.http import HttpProcessingError
except ImportError as exc:
    raise MissingExtraError(
        "the operations port needs aiohttp: pip install 'osmo-pipeline[operations]'"
    ) from exc

PACE = 0.005
"""Seconds between two connections that are accepted, and so between two answers: 200 in a second
are many times what probes and scrapers ask for, and take a few percent of a core."""

MOST_CONNECTIONS = 100
"""Connections that are kept. The oldest one goes when another one comes: who says nothing, or does
not read what is answered, keeps nobody out."""

MOST_WAITING = 100
"""Connections that wait until they are accepted, which takes at most half a second, less than a
probe waits for its answer; further ones the kernel drops."""

SHUTDOWN_TIMEOUT = 1.0
"""Seconds that an answer which is on its way may take when the port is closed."""

_NO_STORE = {"Cache-Control": "no-store"}
_TEXT = "text/plain; charset=utf-8"

_log = logging.getLogger(__name__)
# What a stranger sends wrong is answered with 400, and no failure of ours.
_log.addFilter(
    lambda record: not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))
)


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

    def __init__(self, url: str, listening: list[socket.socket], server: web.Server) -> None:
        self.url = url
        self._listening = listening
        self._server = server
        self._kept: deque[asyncio.Transport] = deque()

    async def run(self) -> None:
        """Answer for ever."""
        async with anyio.create_task_group() as accepting:
            for each in self._listening:
                accepting.start_soon(self._accept, each)

    async def _accept(self, listening: socket.socket) -> NoReturn:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = await loop.sock_accept(listening)
                transport, _ = await loop.connect_accepted_socket(self._server, accepted)
            except OSError as exc:
                # It is gone already, or there are no descriptors left for now.
                _log.debug("cannot accept a connection: %s", exc)
            else:
                self._kept.append(transport)
                if len(self._kept) > MOST_CONNECTIONS:
                    self._kept.popleft().abort()
            await anyio.sleep(PACE)


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
        AddressInUseError: somebody else has it, or it is not of this machine.
    """

    async def livez() -> web.Response:
        reasons = stalled()
        text = "".join(f"{reason}\n" for reason in reasons or ["ok"])
        return _response(503 if reasons else 200, text.encode(), _TEXT)

    async def readyz() -> web.Response:
        checks = ready()
        ok = all(check.ok for check in checks.values())
        found = {name: check._asdict() for name, check in checks.items()}
        body = msgspec.json.encode({"ready": ok, "checks": found})
        return _response(200 if ok else 503, body, "application/json; charset=utf-8")

    async def figures() -> web.Response:
        return _response(200, *await metrics())

    pages = {"/livez": livez, "/readyz": readyz, "/metrics": figures}

    async def answer(request: web.BaseRequest) -> web.Response:
        page = pages.get(request.path)
        if page is None:
            return _response(404, b"there are /livez, /readyz and /metrics\n", _TEXT)
        if request.method not in ("GET", "HEAD"):
            return _response(405, b"ask with GET\n", _TEXT)
        return await page()

    host, port = address(where)
    try:
        listening = await sockets.listen(host, port)
    except OSError as exc:
        raise AddressInUseError(f"cannot open the operations port at {where}: {exc}") from exc
    server = web.Server(answer, access_log=None, logger=_log, lingering_time=0)
    try:
        for each in listening:
            each.listen(MOST_WAITING)
        bound = listening[0].getsockname()[1]
        yield Port(f"http://{f'[{host}]' if ':' in host else host}:{bound}", listening, server)
    finally:
        for each in listening:
            each.close()
        await server.shutdown(SHUTDOWN_TIMEOUT)


def _response(status: int, body: bytes, content_type: str) -> web.Response:
    headers = {**_NO_STORE, "Content-Type": content_type}
    response = web.Response(body=body, status=status, headers=headers)
    response.force_close()
    return response
