"""Signs of life: who reports the backend, again and again."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import NoReturn

from osmo_reports.bodies import Registration, encode_body
from osmo_transport import Client, Message, Version
from osmo_transport.message import new_id

KIND = "heartbeat"


async def send_heartbeats(
    client: Client,
    backend: str,
    registration: Registration,
    interval: float,
    *,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> NoReturn:
    """Send a heartbeat as soon as the operator has let this listener in, and then each `interval`
    seconds. While the operator is away only the newest waits; while another process reports the
    backend, none.

    Raises:
        FencedError, UsageError: the operator refuses this listener for good.
    """
    payload = encode_body(registration)
    await client.epoch_after(0)
    number = 0
    while True:
        number += 1
        if client.holder is None:
            version = Version(client.epoch, number)
            await client.send(Message(KIND, backend, version, new_id(), clock(), payload))
        await sleep(interval)
