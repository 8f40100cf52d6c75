"""What is known of how a task got into its state."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from osmo_worker.store import PodEvent, Task


class Step(NamedTuple):
    """Something that happened to a task."""

    at: float | None
    """In seconds since the Unix epoch, by the clock of who tells it; None: nobody told when."""
    what: str
    text: str


def history(task: Task, events: Iterable[PodEvent]) -> list[Step]:
    """What happened to a task, the oldest first: its pod's times and conditions, its status, and
    what the cluster noted about the pod."""
    steps = [
        Step(_at(condition.timestamp), _condition(condition.type, condition.status), text)
        for condition in task.conditions
        for text in (": ".join(filter(None, (condition.reason, condition.message))),)
    ]
    steps += [
        Step(event.happened_at.timestamp(), event.reason, _counted(event)) for event in events
    ]
    steps.append(Step(task.status_since.timestamp(), task.status, task.message))
    if task.created_at is not None:
        steps.append(Step(task.created_at.timestamp(), "created", ""))
    if task.deleted_at is not None:
        steps.append(Step(task.deleted_at.timestamp(), "gone", "the pod is not in the cluster"))
    return sorted(steps, key=lambda step: step.at or 0.0)


def _condition(type_: str, status: bool) -> str:
    return type_ if status else f"not {type_}"


def _counted(event: PodEvent) -> str:
    return event.message if event.count <= 1 else f"{event.message} ({event.count} times)"


def _at(timestamp: str) -> float | None:
    try:
        moment = datetime.fromisoformat(timestamp)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
