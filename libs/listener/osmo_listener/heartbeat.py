"""Signs of life: who reports the backend, again and again."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import NoReturn

import msgspec

from osmo_reports.bodies import Registration, encode_body
from osmo_transport import Client, Message, Version
from osmo_transport.message import new_id

KIND = "heartbeat"


async def send_heartbeats(
    client: Client,
    backend: str,
    registration: Registration,
    interval: float,
    watch_ages: Callable[[], Mapping[str, float]] = dict,
    *,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> NoReturn:
    """Send a heartbeat as soon as the operator has let this listener in, and then each `interval`
    seconds, with the `watch_ages` of that moment. While the operator is away only the newest waits;
    while another process reports the backend, none.

    Raises:
        FencedError, UsageError: the operator refuses this listener for good.
    """
    await client.epoch_after(0)
    number = 0
    while True:
        number += 1
        if client.holder is None:
            ages = {name: round(age, 1) for name, age in watch_ages().items()}
            body = msgspec.structs.replace(registration, watch_ages=ages)
            version = Version(client.epoch, number)
            await client.send(Message(KIND, backend, version, new_id(), clock(), encode_body(body)))
        await sleep(interval)
