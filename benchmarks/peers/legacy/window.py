"""What was sent and is not acknowledged yet."""

import asyncio
import json
from collections.abc import Coroutine
from typing import Any, Never

import websockets

from legacy.wire import Body, acknowledged, new_message


class Window:
    """Sends over a connection, with at most `size` messages that are not acknowledged. Each has to
    be acknowledged exactly once."""

    def __init__(self, connection: websockets.ClientConnection, size: int) -> None:
        self._connection = connection
        self._slots = asyncio.Semaphore(size)
        self._open: set[str] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    async def send(self, body: Body) -> None:
        """Wait until there is room, and send it as a message that is made then."""
        await self._slots.acquire()
        message = new_message(body)
        self._open.add(message["uuid"])
        self._empty.clear()
        await self._connection.send(json.dumps(message))

    async def empty(self) -> None:
        """Wait until everything is acknowledged."""
        await self._empty.wait()

    async def attend(self, work: Coroutine[Any, Any, None]) -> None:
        """Do `work` while acknowledgements are read.

        Raises:
            ConnectionClosed: the connection ended before the work did.
            ValueError: something was acknowledged that was not awaited.
        """
        tasks = asyncio.create_task(self._read()), asyncio.create_task(work)
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for each in done:
                each.result()
        finally:
            for each in tasks:
                each.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self) -> Never:
        while True:
            uuid = acknowledged(await self._connection.recv())
            if uuid not in self._open:
                raise ValueError(f"an acknowledgement of {uuid}, which is not awaited")
            self._open.remove(uuid)
            self._slots.release()
            if not self._open:
                self._empty.set()
