"""The worker of this project with a handler that waits, for what workers and queue cost.

python -m osmo_benchmarks.programs.worker QUEUE --name NAME --cost-ms C --record FILE
"""

import asyncio
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

from osmo_benchmarks.programs._record import Recorder, nanoseconds, recording
from osmo_benchmarks.records import Record
from osmo_reports.bodies import UpdatePod, decode_body
from osmo_runtime import runner
from osmo_runtime.fields import Setting
from osmo_transport import Ack, Consumer, Delivery, Outcome, open_queue
from osmo_transport.bounds import SecondsOrZero
from osmo_transport.lean import dataclass
from osmo_worker import Worker, WorkerConfig, WorkerError

SHORTEST_WAIT = 0.001
"""Seconds: what is shorter, the event loop's timers do not tell from nothing."""


@dataclass(frozen=True, kw_only=True)
class Settings(runner.ProgramConfig):
    """Handles reports by waiting, and writes down each when it is settled."""

    queue: Annotated[str, Setting(positional=True, metavar="QUEUE")]
    """URL of the queue."""
    name: str
    """Of the worker."""
    cost_ms: SecondsOrZero = 0.0
    """Milliseconds that handling a report takes, as a call of something outside does."""
    record: Path
    """File of the records, to which it appends."""


class Handled(Record, frozen=True):
    """A report that was settled."""

    superseded: bool = False
    """It was settled with a newer one of its key, which made handling it needless."""


class Settled(NamedTuple):
    """What the queue has acknowledged to this worker."""

    at: int
    """CLOCK_MONOTONIC in ns."""
    done: int
    """Unix time in ns."""
    worker: str
    deliveries: Sequence[tuple[Delivery, bool]]
    """And whether each was superseded."""


def records(seen: Settled) -> Iterator[Record]:
    """Of the pods that were settled."""
    for delivery, superseded in seen.deliveries:
        message = delivery.message
        if message.kind == "update_pod":
            body: UpdatePod = decode_body(message.kind, message.payload)
            yield Handled(
                at=seen.at,
                created=nanoseconds(message.timestamp),
                key=f"{body.workflow_uuid}/{body.task_uuid}",
                status=body.status,
                done=seen.done,
                worker=seen.worker,
                superseded=superseded,
            )


class WaitingHandler:
    """Costs time, and remembers what it was called for."""

    def __init__(self, cost: float) -> None:
        self._cost = cost
        self._handled: set[tuple[str, str]] = set()

    async def __call__(self, delivery: Delivery) -> Outcome:
        """Wait for as long as handling takes, never shorter."""
        until = time.monotonic() + self._cost
        # The timers of the event loop count from the start of its turn, and may so end early.
        while (left := until - time.monotonic()) > 0:  # noqa: ASYNC110 (nothing sets an event)
            await asyncio.sleep(max(left, SHORTEST_WAIT))
        self._handled.add((delivery.stream, delivery.id))
        return Ack()

    def was_called_for(self, delivery: Delivery) -> bool:
        """Whether it was; it forgets about it."""
        key = (delivery.stream, delivery.id)
        if key in self._handled:
            self._handled.remove(key)
            return True
        return False


class ObservedConsumer(Consumer):
    """Another consumer, with a note of all that the queue has let it settle."""

    def __init__(
        self, inner: Consumer, name: str, handler: WaitingHandler, recorder: Recorder[Settled]
    ) -> None:
        self._inner = inner
        self._name = name
        self._handler = handler
        self._recorder = recorder

    async def receive(self, limit: int) -> list[Delivery]:
        """See `Consumer`."""
        return await self._inner.receive(limit)

    async def settle(self, outcomes: Sequence[tuple[Delivery, Outcome]]) -> None:
        """See `Consumer`."""
        await self._inner.settle(outcomes)
        at, done = time.monotonic_ns(), time.time_ns()
        settled = [
            (delivery, not self._handler.was_called_for(delivery))
            for delivery, outcome in outcomes
            if isinstance(outcome, Ack)
        ]
        self._recorder.add(Settled(at, done, self._name, settled))

    @property
    def buried(self) -> int:
        """See `Consumer`."""
        return self._inner.buried

    async def aclose(self) -> None:
        """See `Consumer`."""
        await self._inner.aclose()


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Work until `stop` is set."""
    handler = WaitingHandler(settings.cost_ms / 1000)
    config = WorkerConfig(queue=settings.queue, name=settings.name)
    async with (
        recording(settings.record, records) as recorder,
        await open_queue(config.queue, config.limits) as queue,
    ):
        inner = queue.consumer(config.group, config.name)
        consumer = ObservedConsumer(inner, config.name, handler, recorder)
        await Worker(consumer, handler, config).run(stop)


ERRORS: runner.ErrorCodes = {WorkerError: runner.ExitCode.FAILED}

if __name__ == "__main__":
    sys.exit(runner.main("bench-worker", Settings, run, errors=ERRORS))
