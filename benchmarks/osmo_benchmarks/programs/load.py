"""Sends the reports of a plan, each at its time.

python -m osmo_benchmarks.programs.load URL --plan FILE

The plan has a JSON object per line: `{"after_ms": 12.5, "workflow": "w", "task": "t", "status":
"RUNNING"}`, in the order of time. It ends when all reports are acknowledged.
"""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec

from osmo_benchmarks.errors import PlanError, WrongResultError
from osmo_benchmarks.systems import BACKEND
from osmo_reports.bodies import UpdatePod, encode_body
from osmo_runtime import runner
from osmo_runtime.fields import Setting
from osmo_runtime.startup import unless_stopped
from osmo_transport import Client, Message, Version, connect, new_message
from osmo_transport.lean import dataclass


@dataclass(frozen=True, kw_only=True)
class Settings(runner.ProgramConfig):
    """Sends the reports of a plan, each at its time."""

    url: Annotated[str, Setting(positional=True, metavar="URL")]
    """Where the operator listens."""
    plan: Path
    """File of the plan."""


class Event(msgspec.Struct, frozen=True):
    """A report to send."""

    after_ms: float
    """When, since the start."""
    workflow: str
    task: str
    status: str


def read(path: Path) -> list[Event]:
    """The events of a plan.

    Raises:
        PlanError: it cannot be read, or is none.
    """
    try:
        return [msgspec.json.decode(line, type=Event) for line in path.read_bytes().splitlines()]
    except (OSError, msgspec.DecodeError) as exc:
        raise PlanError(f"cannot read the plan {path}: {exc}") from exc


def report(event: Event, version: Version) -> Message:
    """The event's message, created now."""
    body = UpdatePod(
        workflow_uuid=event.workflow,
        task_uuid=event.task,
        retry_id=0,
        status=event.status,
        container="train",
        node="gpu-node-0042.example.internal",
        pod_ip="10.64.12.34",
    )
    return new_message(
        "update_pod",
        UpdatePod.key(event.workflow, event.task, 0),
        encode_body(body),
        version=version,
        final=event.status == "COMPLETED" or event.status.startswith("FAILED"),
    )


async def send(client: Client, events: Sequence[Event]) -> None:
    """All of them, and wait until they are acknowledged.

    Raises:
        WrongResultError: one was not acknowledged exactly once.
    """
    epoch = await client.epoch_after(0)
    loop = asyncio.get_running_loop()
    started = loop.time()
    for number, event in enumerate(events, 1):
        if (left := started + event.after_ms / 1000 - loop.time()) > 0:
            await asyncio.sleep(left)
        await client.send(report(event, Version(epoch, number)))
    await client.flush()
    stats = client.stats
    if stats.acknowledged + stats.coalesced != len(events) or stats.resent or stats.refused:
        raise WrongResultError(f"{len(events)} reports were sent, and the ledger says {stats}")


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Send it all, or until `stop` is set."""
    events = read(settings.plan)
    async with connect(settings.url, backend=BACKEND) as client:
        await unless_stopped(send(client, events), stop)


ERRORS: runner.ErrorCodes = {
    PlanError: runner.ExitCode.MISUSED,
    WrongResultError: runner.ExitCode.FAILED,
}

if __name__ == "__main__":
    sys.exit(runner.main("bench-load", Settings, run, errors=ERRORS))
