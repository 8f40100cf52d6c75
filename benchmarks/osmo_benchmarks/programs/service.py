"""A server that acknowledges every report at once: the far end of listeners and clients.

python -m osmo_benchmarks.programs.service URL [--record FILE]
"""

import asyncio
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

from osmo_benchmarks.programs._record import Recorder, nanoseconds, recording
from osmo_benchmarks.records import Record
from osmo_reports.bodies import UpdatePod, decode_body
from osmo_runtime import runner
from osmo_runtime.fields import Setting
from osmo_transport import Server, listen, read_message
from osmo_transport.lean import dataclass


@dataclass(frozen=True, kw_only=True)
class Settings(runner.ProgramConfig):
    """Acknowledges every report at once, and writes down those of pods."""

    url: Annotated[str, Setting(positional=True, metavar="URL")]
    """Where to listen; port 0 picks a free one."""
    record: Path | None = None
    """File of the records, to which it appends; none: nothing is written down."""


class Acknowledged(NamedTuple):
    """A batch of messages that has been answered."""

    at: int
    """When it was received: CLOCK_MONOTONIC in ns."""
    acked: int
    """Unix time in ns."""
    encoded: tuple[bytes, ...]
    """As they came: reading them is left to whoever writes the records."""


def records(seen: Acknowledged) -> Iterator[Record]:
    """Of the pods in a batch."""
    for message in map(read_message, filter(None, seen.encoded)):
        if message.kind == "update_pod":
            body: UpdatePod = decode_body(message.kind, message.payload)
            yield Record(
                at=seen.at,
                created=nanoseconds(message.timestamp),
                acked=seen.acked,
                key=f"{body.workflow_uuid}/{body.task_uuid}",
                status=body.status,
            )


async def acknowledge_all(server: Server, recorder: Recorder[Acknowledged]) -> None:
    """Until the server is stopped."""
    while incoming := await server.receive():
        at = time.monotonic_ns()
        for each in incoming:
            each.acknowledge()
            recorder.add(Acknowledged(at, time.time_ns(), each.encoded))


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Serve until `stop` is set."""
    async with (
        recording(settings.record, records) as recorder,
        listen(settings.url) as server,
        asyncio.TaskGroup() as tasks,
    ):
        tasks.create_task(acknowledge_all(server, recorder))
        runner.announce(server.url)
        await stop.wait()
        server.stop()


if __name__ == "__main__":
    sys.exit(runner.main("bench-service", Settings, run))
