"""Sends reports and measures how fast they are acknowledged."""

import asyncio
import json
import sys
import time
from typing import Any

import websockets

from legacy.window import Window
from legacy.wire import MAX_FRAME, acknowledged, new_message


def report(number: int) -> dict[str, Any]:
    """The body of a report of some 520 bytes on the wire, each of another task."""
    name = f"{number:032x}"
    return {
        "workflow_uuid": name,
        "task_uuid": name,
        "retry_id": 0,
        "container": "train",
        "node": "gpu-node-0042.example.internal",
        "pod_ip": "10.64.12.34",
        "message": "m" * 120,
        "status": "RUNNING",
        "exit_code": None,
        "backend": "bench",
        "conditions": [],
    }


async def one_at_a_time(
    connection: websockets.ClientConnection, first: int, count: int
) -> list[int]:
    """The next is sent when the last is acknowledged; the round trips in ns."""
    trips = []
    for number in range(first, first + count):
        started = time.perf_counter_ns()
        message = new_message(report(number))
        await connection.send(json.dumps(message))
        if acknowledged(await connection.recv()) != message["uuid"]:
            raise ValueError("another message was acknowledged")
        trips.append(time.perf_counter_ns() - started)
    return trips


async def windowed(
    connection: websockets.ClientConnection, first: int, count: int, size: int
) -> None:
    """At most `size` of them are without an acknowledgement."""
    window = Window(size)
    reading = asyncio.create_task(window.read_acks(connection))
    sending = asyncio.create_task(_send(connection, window, first, count))
    await asyncio.wait((reading, sending), return_when=asyncio.FIRST_COMPLETED)
    if not sending.done():
        sending.cancel()
        await reading
        raise ValueError("the service closed the connection")
    await sending
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)


async def _send(
    connection: websockets.ClientConnection, window: Window, first: int, count: int
) -> None:
    for number in range(first, first + count):
        message = new_message(report(number))
        await window.add(message)
        await connection.send(json.dumps(message))
    await window.empty()


async def run_client(url: str, messages: int, warm_up: int, window: int) -> None:
    """Measure once, and print it."""
    async with websockets.connect(url, compression=None, max_size=MAX_FRAME) as connection:
        trips: list[int] = []
        if window == 1:
            await one_at_a_time(connection, 0, warm_up)
            started = time.perf_counter()
            trips = await one_at_a_time(connection, warm_up, messages)
        else:
            await windowed(connection, 0, warm_up, window)
            started = time.perf_counter()
            await windowed(connection, warm_up, messages, window)
        seconds = time.perf_counter() - started
    result = {"acknowledged": messages, "seconds": seconds, "round_trips_ns": trips}
    sys.stdout.write(json.dumps(result) + "\n")
