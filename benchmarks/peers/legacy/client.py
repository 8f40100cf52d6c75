"""Sends reports and measures how fast they are acknowledged."""

import json
import sys
import time

import websockets

from legacy.window import Window
from legacy.wire import Body, acknowledged, connect, new_message, pod_body


def report(number: int) -> Body:
    """The body of a report of some 520 bytes on the wire, each of another task."""
    name = f"{number:032x}"
    return pod_body(workflow=name, task=name, status="RUNNING", message="m" * 120)


async def one_at_a_time(
    connection: websockets.ClientConnection, first: int, count: int
) -> list[int]:
    """The next is sent when the last is acknowledged; the round trips in ns.

    Raises:
        ValueError: another one was acknowledged.
    """
    trips = []
    for number in range(first, first + count):
        started = time.perf_counter_ns()
        message = new_message(report(number))
        await connection.send(json.dumps(message))
        if acknowledged(await connection.recv()) != message["uuid"]:
            raise ValueError("another message was acknowledged than the one that was sent")
        trips.append(time.perf_counter_ns() - started)
    return trips


async def windowed(window: Window, first: int, count: int) -> None:
    """As many at once as the window takes, until all are acknowledged."""
    for number in range(first, first + count):
        await window.send(report(number))
    await window.empty()


async def run_client(url: str, messages: int, warm_up: int, size: int) -> None:
    """Measure once, and print it.

    Raises:
        ValueError: a message was not acknowledged exactly once.
    """
    trips: list[int] = []
    async with connect(url) as connection:
        if size == 1:
            await one_at_a_time(connection, 0, warm_up)
            started = time.perf_counter()
            trips = await one_at_a_time(connection, warm_up, messages)
        else:
            window = Window(connection, size)
            await window.attend(windowed(window, 0, warm_up))
            started = time.perf_counter()
            await window.attend(windowed(window, warm_up, messages))
        seconds = time.perf_counter() - started
    result = {"acknowledged": messages, "seconds": seconds, "round_trips_ns": trips}
    sys.stdout.write(json.dumps(result) + "\n")
