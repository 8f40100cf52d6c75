"""Handles one message after the other, and acknowledges each when it is handled."""

import asyncio
import contextlib
import json
import sys
import time
from pathlib import Path

import websockets

from legacy.recorder import Recorder, recording
from legacy.wire import MAX_FRAME, ack

SHORTEST_WAIT = 0.001
"""Seconds: what is shorter, the event loop's timers do not tell from nothing."""


class Service:
    """Handling takes `cost` seconds."""

    def __init__(self, recorder: Recorder, cost: float) -> None:
        self._recorder = recorder
        self._cost = cost
        self.idle = asyncio.Lock()
        """Held while a message is handled and acknowledged."""

    async def serve(self, connection: websockets.ServerConnection) -> None:
        """One connection, to its end."""
        with contextlib.suppress(websockets.ConnectionClosed):  # A client may break off.
            async for text in connection:
                at = time.monotonic_ns()
                async with self.idle:
                    message = json.loads(text)
                    if self._cost:
                        await at_least(self._cost)
                    await connection.send(ack(message))
                    self._recorder.add(message, at)


async def at_least(seconds: float) -> None:
    """Wait, and never less: the event loop counts from the start of its turn, and may end early."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:  # noqa: ASYNC110  (nothing sets an event)
        await asyncio.sleep(max(left, SHORTEST_WAIT))


async def run_service(host: str, port: int, record: Path | None, cost: float) -> None:
    """Until it is cancelled: what is being handled then is acknowledged yet.

    Raises:
        OSError: it cannot listen, or not record.
    """
    async with recording(record) as recorder:
        service = Service(recorder, cost)
        async with websockets.serve(
            service.serve, host, port, compression=None, max_size=MAX_FRAME
        ) as server:
            name, bound = next(iter(server.sockets)).getsockname()[:2]
            sys.stdout.write(f"listening on ws://{name}:{bound}\n")
            sys.stdout.flush()
            try:
                await asyncio.Event().wait()
            finally:
                async with service.idle:
                    server.close()
