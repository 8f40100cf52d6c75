"""Sends typed reports and measures how fast they are acknowledged.

python -m osmo_benchmarks.programs.client URL --messages N [--warm-up W] [--window K]

With a window of 1 the next report is sent when the last is acknowledged, and each round trip is
told. Prints `{"acknowledged": N, "seconds": S, "round_trips_ns": [...]}`. With `memory://` the
server is in the same process.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated

import msgspec

from osmo_benchmarks.errors import WrongResultError
from osmo_benchmarks.programs._record import Recorder
from osmo_benchmarks.programs.service import acknowledge_all, records
from osmo_benchmarks.systems import BACKEND
from osmo_reports.bodies import UpdatePod, encode_body
from osmo_runtime import runner
from osmo_runtime.fields import Setting
from osmo_runtime.startup import unless_stopped
from osmo_transport import (
    Client,
    ClientConfig,
    Limits,
    Message,
    SessionConfig,
    Version,
    connect,
    listen,
    new_message,
)
from osmo_transport.bounds import Count, CountOrZero
from osmo_transport.lean import dataclass


@dataclass(frozen=True, kw_only=True)
class Settings(runner.ProgramConfig):
    """Sends reports of pods and prints how fast they were acknowledged."""

    url: Annotated[str, Setting(positional=True, metavar="URL")]
    """Where the server listens; memory://: in this process."""
    messages: Count
    """Reports that are measured."""
    warm_up: CountOrZero = 0
    """Reports before these, which do not count."""
    window: Count = 1
    """Reports that may be without an acknowledgement; 1: one at a time."""


class Result(msgspec.Struct, frozen=True):
    """What is printed."""

    acknowledged: int
    seconds: float
    """From before the first report was made until the last was acknowledged."""
    round_trips_ns: list[int]
    """In order; empty with a window of more than 1."""

    @property
    def rate(self) -> float:
        """Messages per second."""
        return self.acknowledged / self.seconds


def body(number: int) -> UpdatePod:
    """What the report of that number says, each of another task."""
    workflow = f"{number:032x}"
    return UpdatePod(
        workflow_uuid=workflow,
        task_uuid=workflow,
        retry_id=0,
        status="RUNNING",
        container="train",
        node="gpu-node-0042.example.internal",
        pod_ip="10.64.12.34",
        message="m" * 120,
        pod=f"osmo/{workflow}-0",
        created_at="2026-01-02T03:04:05Z",
    )


def report(number: int) -> Message:
    """A report of some 520 bytes on the wire."""
    said = body(number)
    key = UpdatePod.key(said.workflow_uuid, said.task_uuid, said.retry_id)
    return new_message("update_pod", key, encode_body(said), version=Version(1, number))


async def one_at_a_time(client: Client, first: int, messages: int) -> list[int]:
    """The round trips in ns."""
    trips = []
    for number in range(first, first + messages):
        started = time.perf_counter_ns()
        await client.send(report(number))
        await client.flush()
        trips.append(time.perf_counter_ns() - started)
    return trips


async def windowed(client: Client, first: int, messages: int) -> list[int]:
    """Nothing: single reports are not timed."""
    for number in range(first, first + messages):
        await client.send(report(number))
    await client.flush()
    return []


async def measure(client: Client, settings: Settings) -> Result:
    """Warm up, and then measure.

    Raises:
        WrongResultError: a report was not acknowledged exactly once.
    """
    send: Callable[[Client, int, int], Awaitable[list[int]]]
    send = one_at_a_time if settings.window == 1 else windowed
    await client.epoch_after(0)
    await send(client, 0, settings.warm_up)
    started = time.perf_counter_ns()
    trips = await send(client, settings.warm_up, settings.messages)
    seconds = (time.perf_counter_ns() - started) / 1e9
    stats = client.stats
    sent = settings.warm_up + settings.messages
    if stats.acknowledged != sent or stats.resent or stats.refused:
        raise WrongResultError(f"{sent} reports were sent, and the ledger says {stats}")
    return Result(settings.messages, seconds, trips)


@asynccontextmanager
async def far_end(url: str) -> AsyncIterator[str]:
    """Where to connect: `url` itself, or a server in this process."""
    if not url.startswith("memory:"):
        yield url
        return
    async with listen(url) as server, asyncio.TaskGroup() as tasks:
        tasks.create_task(acknowledge_all(server, Recorder(None, records)))
        yield server.url
        server.stop()


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Measure once, or until `stop` is set."""
    limits = Limits(window_messages=settings.window)
    config = ClientConfig(session=SessionConfig(limits=limits))
    async with (
        far_end(settings.url) as url,
        connect(url, backend=BACKEND, config=config) as client,
    ):
        result = await unless_stopped(measure(client, settings), stop)
        if result is not None:
            sys.stdout.write(msgspec.json.encode(result).decode() + "\n")


if __name__ == "__main__":
    sys.exit(
        runner.main(
            "bench-client", Settings, run, errors={WrongResultError: runner.ExitCode.FAILED}
        )
    )
