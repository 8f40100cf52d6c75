"""What workflows report and when, the same for every system: for the queue and its workers."""

import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import msgspec

from osmo_benchmarks.programs.load import Event

STATUSES = ("PROCESSING", "SCHEDULING", "INITIALIZING", "RUNNING", "COMPLETED")
"""What a task reports in its life, each once."""

ONE_SPACING_MS = 60.0
"""Between two reports of the single workflow: the one before is long handled."""

MANY_WORKFLOWS = 19
MANY_EVENTS = 93
"""As many as in the study."""
START_SPREAD_MS = 5.0
"""Within which workflows that are submitted simultaneously make their first report."""
STEP_MS = (15.0, 35.0)
"""From one report of a workflow to its next: all are there long before one worker, handling one
after the other, is through."""

STEADY_MS = 1_000.0
"""Over which the steady plan starts its workflows."""


def one_workflow() -> list[Event]:
    """Five reports of one workflow, at leisure."""
    return [
        Event(after_ms=number * ONE_SPACING_MS, workflow="workflow-0", task="task", status=status)
        for number, status in enumerate(STATUSES)
    ]


def many_workflows(seed: int) -> list[Event]:
    """93 reports of 19 workflows that are submitted simultaneously."""
    return _in_order(_submitted(random.Random(seed), "workflow", 0.0))


def steady(seed: int, workers: int) -> list[Event]:
    """The same `workers` times over in one second: about what so many can handle that handle one
    after the other."""
    chance = random.Random(seed)
    copies = [
        _submitted(chance, f"copy-{number}", number * STEADY_MS / workers)
        for number in range(workers)
    ]
    return _in_order(chain.from_iterable(copies))


def _submitted(chance: random.Random, prefix: str, at: float) -> Iterator[Event]:
    # Of the 19 workflows the first two make one report less.
    short = MANY_WORKFLOWS * len(STATUSES) - MANY_EVENTS
    for number in range(MANY_WORKFLOWS):
        after = at + chance.uniform(0.0, START_SPREAD_MS)
        for status in STATUSES[1:] if number < short else STATUSES:
            yield Event(after_ms=after, workflow=f"{prefix}-{number}", task="task", status=status)
            after += chance.uniform(*STEP_MS)


def _in_order(events: Iterable[Event]) -> list[Event]:
    return sorted(events, key=lambda event: event.after_ms)


def write(events: Sequence[Event], path: Path) -> None:
    """As the programs read it."""
    path.write_bytes(b"".join(msgspec.json.encode(event) + b"\n" for event in events))
