"""Sends the reports of a plan, each at its time."""

import asyncio
import json
from pathlib import Path
from typing import Any

import websockets

from legacy.window import Window
from legacy.wire import MAX_FRAME, new_message

LARGEST_PLAN = 1_000_000
"""Reports: no plan has as many, so that none of it waits for an acknowledgement."""


def body(event: dict[str, Any]) -> dict[str, Any]:
    """Of the report of an event."""
    return {
        "workflow_uuid": event["workflow"],
        "task_uuid": event["task"],
        "retry_id": 0,
        "container": "train",
        "node": "gpu-node-0042.example.internal",
        "pod_ip": "10.64.12.34",
        "message": "",
        "status": event["status"],
        "exit_code": None,
        "backend": "bench",
        "conditions": [],
    }


def read(plan: Path) -> list[dict[str, Any]]:
    """The events of a plan."""
    return [json.loads(line) for line in plan.read_text().splitlines()]


async def run_load(url: str, plan: Path) -> None:
    """Send it all, and wait until it is acknowledged."""
    events = read(plan)
    loop = asyncio.get_running_loop()
    window = Window(LARGEST_PLAN)
    async with websockets.connect(url, compression=None, max_size=MAX_FRAME) as connection:
        reading = asyncio.create_task(window.read_acks(connection))
        started = loop.time()
        for event in events:
            await asyncio.sleep(max(0.0, started + event["after_ms"] / 1000 - loop.time()))
            message = new_message(body(event))
            await window.add(message)
            await connection.send(json.dumps(message))
        emptied = asyncio.create_task(window.empty())
        await asyncio.wait((reading, emptied), return_when=asyncio.FIRST_COMPLETED)
        if not emptied.done():
            emptied.cancel()
            await reading
            raise ValueError("the service closed the connection")
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
