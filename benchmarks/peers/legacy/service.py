"""Handles one message after the other, and acknowledges each when it is handled."""

import asyncio
import contextlib
import json
import sys
import time
from functools import partial
from pathlib import Path

import websockets

from legacy.recorder import Recorder, recording
from legacy.wire import MAX_FRAME, ack


async def handle(cost: float, recorder: Recorder, connection: websockets.ServerConnection) -> None:
    """Serve one connection to its end; `cost`: seconds that handling takes."""
    with contextlib.suppress(websockets.ConnectionClosedError):  # A client may break off.
        async for text in connection:
            at = time.monotonic_ns()
            message = json.loads(text)
            if cost:
                await asyncio.sleep(cost)
            await connection.send(ack(message))
            recorder.add(message, at)


async def run_service(listen: str, record: Path | None, cost: float) -> None:
    """Serve for ever."""
    host, _, port = listen.rpartition(":")
    async with (
        recording(record) as recorder,
        websockets.serve(
            partial(handle, cost, recorder),
            host,
            int(port),
            compression=None,
            max_size=MAX_FRAME,
        ) as server,
    ):
        name, bound = next(iter(server.sockets)).getsockname()[:2]
        sys.stdout.write(f"listening on ws://{name}:{bound}\n")
        sys.stdout.flush()
        await server.serve_forever()
