"""What was sent and is not acknowledged yet."""

import asyncio

import websockets

from legacy.wire import Message, acknowledged


class Window:
    """Bounds the unacknowledged messages of one connection; each is acknowledged once."""

    def __init__(self, size: int) -> None:
        self._slots = asyncio.Semaphore(size)
        self._open: set[str] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    async def add(self, message: Message) -> None:
        """Wait until there is room, and take it."""
        await self._slots.acquire()
        self._open.add(message["uuid"])
        self._empty.clear()

    async def empty(self) -> None:
        """Wait until everything is acknowledged."""
        await self._empty.wait()

    async def read_acks(self, connection: websockets.ClientConnection) -> None:
        """Until the connection ends.

        Raises:
            ValueError: something is acknowledged that is not awaited.
        """
        async for text in connection:
            uuid = acknowledged(text)
            if uuid not in self._open:
                raise ValueError(f"an acknowledgement of {uuid}, which is not awaited")
            self._open.remove(uuid)
            self._slots.release()
            if not self._open:
                self._empty.set()
