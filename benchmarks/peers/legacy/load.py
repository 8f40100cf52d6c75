"""Sends the reports of a plan, each at its time."""

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path

from legacy.window import Window
from legacy.wire import connect, pod_body


@dataclass(frozen=True)
class Event:
    """A report to send."""

    after_ms: float
    """When, since the start."""
    workflow: str
    task: str
    status: str


def read(plan: Path) -> list[Event]:
    """The events of a plan.

    Raises:
        OSError: it cannot be read.
        ValueError: it is none.
    """
    try:
        return [Event(**json.loads(line)) for line in plan.read_text().splitlines()]
    except (TypeError, ValueError) as exc:
        raise ValueError(f"{plan} is no plan: {exc}") from exc


async def play(window: Window, events: list[Event]) -> None:
    """Each at its time, until all are acknowledged."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    for event in events:
        await asyncio.sleep(max(0.0, started + event.after_ms / 1000 - loop.time()))
        await window.send(pod_body(workflow=event.workflow, task=event.task, status=event.status))
    await window.empty()


async def run_load(url: str, plan: Path) -> None:
    """Send it all, and wait until it is acknowledged.

    Raises:
        OSError: the plan cannot be read.
        ValueError: it is none, or a message was not acknowledged exactly once.
    """
    events = read(plan)
    async with connect(url) as connection:
        window = Window(connection, len(events) + 1)  # The plan bounds what is in flight.
        await window.attend(play(window, events))
