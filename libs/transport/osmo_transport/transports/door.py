"""The door of an endpoint over sockets: everybody who comes is accepted, and from then on has so
much time to be let in, whatever he takes it for: TLS, HTTP, or nothing."""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from osmo_transport import _tasks
from osmo_transport.transports import sockets
from osmo_transport.transports.abc import Endpoint
from osmo_transport.transports.sockets import Connections

MOST_COMING = 1_000
"""Connections that are accepted and not let in yet. The oldest goes when another one comes: who
says nothing keeps nobody out. More than come within the round trips that a handshake takes."""

AT_ONCE = 100
"""Connections that are accepted in one turn of the event loop, if so many wait."""

EXHAUSTED_PAUSE = 0.1
"""Seconds until the next try to accept, after one that failed: for want of a descriptor, mostly."""

_log = logging.getLogger(__name__)


class Visit:
    """One who was accepted."""

    def __init__(self, since: float) -> None:
        self.since = since
        """When, by the clock of the event loop."""
        self.begun = False
        """Whether an event loop has his socket."""
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def over(self) -> None:
        """He was let in, or has gone: there is no limit to his time any more. Idempotent."""
        if not self._over.done():
            self._over.set_result(None)

    @property
    def is_over(self) -> bool:
        """Whether it is, or he was cut off."""
        return self._over.done()

    async def wait_over(self) -> None:
        """Wait until `over` is called."""
        await self._over


class Door:
    """Accepts connections.

    Args:
        make: makes the protocol of one who came, and calls `Visit.over` when he is let in.
        context: for TLS, if there is to be any.
        seconds: that somebody has until he is let in.
    """

    def __init__(
        self,
        make: Callable[[Visit], asyncio.BaseProtocol],
        context: ssl.SSLContext | None,
        seconds: float,
    ) -> None:
        self._make = make
        self._context = context
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._listening: dict[socket.socket, asyncio.TimerHandle | None] = {}
        """With what makes it listen again, if it pauses."""
        self._coming: dict[asyncio.Task[None], None] = {}
        """The oldest in front."""

    @property
    def coming(self) -> int:
        """How many are accepted and not let in."""
        return len(self._coming)

    def open(self, listening: Sequence[socket.socket]) -> None:
        """Accept at these sockets until `aclose`, which closes them."""
        for each in listening:
            self._listen(each)

    def _listen(self, listening: socket.socket) -> None:
        self._listening[listening] = None
        self._loop.add_reader(listening.fileno(), self._accept, listening)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(AT_ONCE):
            try:
                accepted, _ = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as exc:
                _log.debug("cannot accept a connection: %s", exc)
                self._loop.remove_reader(listening.fileno())
                again = self._loop.call_later(EXHAUSTED_PAUSE, self._listen, listening)
                self._listening[listening] = again
                return
            accepted.setblocking(False)
            self._let_come(accepted)

    def _let_come(self, accepted: socket.socket) -> None:
        if len(self._coming) >= MOST_COMING:
            oldest = next(iter(self._coming))
            del self._coming[oldest]
            oldest.cancel()
        visit = Visit(self._loop.time())
        try:
            spare = accepted.dup()
        except OSError as exc:
            _log.debug("a connection was not opened: %s", exc)
            accepted.close()
            return
        task = self._loop.create_task(self._come(visit, accepted, spare))
        self._coming[task] = None
        task.add_done_callback(partial(self._came, visit, accepted, spare))

    def _came(
        self,
        visit: Visit,
        accepted: socket.socket,
        spare: socket.socket,
        task: "asyncio.Task[None]",
    ) -> None:
        self._coming.pop(task, None)
        spare.close()
        if not visit.begun:
            accepted.close()
        _tasks.log_defect(task, _log, "a connection that was accepted")

    async def _come(self, visit: Visit, accepted: socket.socket, spare: socket.socket) -> None:
        visit.begun = True
        # What an event loop makes of a socket nobody else may close, nor is it closed by whoever
        # gives up waiting for it: it is shut down, and fails.
        opening = self._loop.create_task(self._open(visit, accepted))
        try:
            async with asyncio.timeout_at(visit.since + self._seconds):
                await asyncio.wait([opening])
                spare.close()
                await visit.wait_over()
        except BaseException as exc:
            with suppress(OSError):
                spare.shutdown(socket.SHUT_RDWR)
            await _tasks.ended([opening])
            if (transport := opening.result()) is not None:
                transport.abort()
            if not isinstance(exc, TimeoutError):
                raise

    async def _open(self, visit: Visit, accepted: socket.socket) -> asyncio.Transport | None:
        try:
            transport, _ = await self._loop.connect_accepted_socket(
                lambda: self._make(visit),
                accepted,
                ssl=self._context,
                ssl_handshake_timeout=self._seconds if self._context else None,
            )
        except (OSError, RuntimeError) as exc:
            # Whoever has gone, or came with something else than TLS, is no failure of ours.
            _log.debug("a connection was not opened: %s", exc)
            sockets.forget(accepted)
            visit.over()
            return None
        return transport

    async def aclose(self) -> None:
        """Accept no more, and cut off who was not let in yet. Idempotent."""
        listening, self._listening = self._listening, {}
        for each, again in listening.items():
            if again is None:
                self._loop.remove_reader(each.fileno())
            else:
                again.cancel()
            each.close()
        await _tasks.end(*self._coming)


class SocketEndpoint(Endpoint):
    """Listening sockets with a door, and the connections that it let in."""

    def __init__(
        self, url: str, listening: Sequence[socket.socket], door: Door, connections: Connections
    ) -> None:
        """Open the door."""
        self._url = url
        self._door = door
        self._connections = connections
        door.open(listening)

    @property
    def url(self) -> str:
        return self._url

    async def aclose(self) -> None:
        self._connections.close()
        await self._door.aclose()
        await self._connections.wait_closed()
