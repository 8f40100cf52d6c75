"""What tests of every area share."""

import asyncio
import time
from collections.abc import Callable


async def eventually(condition: Callable[[], object], timeout: float = 30.0) -> None:
    """Return as soon as `condition()` is true; fail with its name after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not true after {timeout} s: {condition}")
        await asyncio.sleep(0.001)


async def stop_listening(server: asyncio.Server) -> None:
    """Close `server` once every connection that it has accepted so far is set up.

    One that is not set up yet when its server closes is forgotten half-made by asyncio, and its
    open socket is then blamed on whichever test the garbage collector runs in.
    """
    rounds_from_ready_to_set_up = 3  # of the event loop: accept, start the task, attach
    for _ in range(rounds_from_ready_to_set_up):
        await asyncio.sleep(0)
    server.close()
