"""One heat of a plan: reports go through operator and queue to workers, or, in a design without a
queue, to the service that handles them itself."""

import asyncio
from collections import Counter
from collections.abc import (
    AsyncIterator,
    Callable,
    Container,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import msgspec

from osmo_benchmarks.errors import WrongResultError
from osmo_benchmarks.plan import Context
from osmo_benchmarks.processes import Program
from osmo_benchmarks.programs.load import Event
from osmo_benchmarks.programs.worker import Handled
from osmo_benchmarks.systems import Osmo, Peer
from osmo_benchmarks.tables import _plans
from osmo_benchmarks.tables._programs import running, serving, stop_all
from osmo_benchmarks.tables._queue import (
    POLL,
    READY_TIMEOUT,
    STREAM,
    address,
    empty_redis,
    entries,
    eventually,
    waiting_readers,
)

TIMEOUT = 30.0
"""Seconds for a plan: several times what one worker needs that handles one after the other."""

RECORDS_LOOKS = 100
"""For the records of what is settled: one second, where programs write them within 50 ms unless the
machine is busy."""

Report = tuple[str, str]
"""Key and status: unique in a plan."""


class Processed(NamedTuple):
    """What became of an event; times in ns."""

    created: int
    done: int

    @property
    def milliseconds(self) -> float:
        """From creation until it, or a newer one of its key, was handled and settled."""
        return (self.done - self.created) / 1e6


class Played(NamedTuple):
    """A plan that was carried out, and is complete."""

    processed: list[Processed]
    """Of each event, in the order of `done`."""
    per_worker: dict[str, int]
    """How many reports each worker settled."""
    superseded: int
    """Events that were settled with a newer one of their key, and not handled by themselves."""


class Stage:
    """The programs of a heat, ready for plans. Made by `stage`."""

    def __init__(
        self,
        context: Context,
        url: str,
        records: Mapping[str, Path],
        programs: Sequence[Program],
        settled: Callable[[], bool],
    ) -> None:
        self._context = context
        self._url = url
        self._records = records
        self._programs = programs
        self._settled = settled

    async def play(self, events: Sequence[Event]) -> Played:
        """Carry out a plan, of which no key was in an earlier one, and check that nothing is
        missing and nothing was handled twice.

        Raises:
            ProgramError, WrongResultError: see `Experiment.measure`.
        """
        system = self._context.system
        plan = self._context.folder / "plan.jsonl"
        _plans.write(events, plan)
        async with running(self._context, "load", system.load(self._url, plan)) as load:
            await load.output(TIMEOUT)
        await eventually(self._settled, "the queue is not empty", TIMEOUT, *self._programs)
        keys = {_report(event)[0] for event in events}
        for _ in range(RECORDS_LOOKS):
            if len(handled := self._handled(keys)) >= len(events):
                break
            await asyncio.sleep(POLL)
        return judge(events, handled, list(self._records), compacts=isinstance(system, Osmo))

    def _handled(self, keys: Container[str]) -> list[Handled]:
        decode = msgspec.json.Decoder(Handled).decode
        lines = [
            line
            for path in self._records.values()
            if path.exists()
            for line in path.read_bytes().splitlines(keepends=True)
            if line.endswith(b"\n")
        ]
        return [each for each in map(decode, lines) if each.key in keys]


@asynccontextmanager
async def stage(context: Context, cost_ms: float, workers: int = 1) -> AsyncIterator[Stage]:
    """Start what handles reports, with `cost_ms` for each.

    Raises:
        ProgramError, WrongResultError: see `Experiment.measure`.
    """
    system = context.system
    if isinstance(system, Peer) and system.name == "legacy":
        path = context.folder / "service.jsonl"
        async with serving(context, "service", system.service(path, cost_ms)) as service:
            yield Stage(context, service.url, {"": path}, (service,), lambda: True)
        return
    redis = await empty_redis(context.shared)
    records = {f"worker-{n}": context.folder / f"worker-{n}.jsonl" for n in range(workers)}
    async with AsyncExitStack() as stack:
        programs: list[Program] = []
        for name, path in records.items():
            command = system.worker(address(redis), STREAM, name, cost_ms, path)
            programs.append(await stack.enter_async_context(running(context, name, command)))
        command = system.operator(address(redis), STREAM)
        operator = await stack.enter_async_context(serving(context, "operator", command))
        programs.append(operator)
        await eventually(
            lambda: waiting_readers(redis) >= workers,
            f"not all of {workers} workers wait for work",
            READY_TIMEOUT,
            *programs,
        )
        yield Stage(context, operator.url, records, programs, lambda: not entries(redis))
        await stop_all(programs)


def judge(
    events: Sequence[Event], handled: Sequence[Handled], workers: Sequence[str], *, compacts: bool
) -> Played:
    """What a complete run tells. `compacts`: an event may be left out if a newer one of its key was
    handled.

    Raises:
        WrongResultError: something is missing, was handled twice, or was never sent.
    """
    _check(events, handled, compacts)
    records = {(each.key, each.status): each for each in handled}
    # Of what was left out before it reached the queue, only the plan tells when it was made. The
    # earliest start that the others allow makes its time rather too long than too short.
    start = min(
        records[_report(each)].created - _nanoseconds(each)
        for each in events
        if _report(each) in records
    )
    done: dict[str, int] = {}
    processed = []
    for event in reversed(events):
        record = records.get(_report(event))
        key = _report(event)[0]
        if record is not None:
            done[key] = min(_end(record), done.get(key, _end(record)))
        created = start + _nanoseconds(event) if record is None else record.created
        processed.append(Processed(created, done[key]))
    processed.sort(key=lambda each: each.done)
    settled = Counter(each.worker for each in handled)
    return Played(
        processed,
        {name: settled[name] for name in workers},
        len(events) - sum(not each.superseded for each in handled),
    )


def _check(events: Sequence[Event], handled: Sequence[Handled], compacts: bool) -> None:
    planned = Counter(map(_report, events))
    seen = Counter((each.key, each.status) for each in handled)
    if more := seen - planned:
        raise WrongResultError(f"handled more often than sent: {_some(more)}")
    if (missing := planned - seen) and not compacts:
        raise WrongResultError(f"never handled: {_some(missing)}")
    last = {key: (key, status) for key, status in map(_report, events)}
    by_itself = {(each.key, each.status) for each in handled if not each.superseded}
    if lost := [report for report in last.values() if report not in by_itself]:
        raise WrongResultError(f"the last of their keys, and never handled: {_some(lost)}")


def _report(event: Event) -> Report:
    return f"{event.workflow}/{event.task}", event.status


def _nanoseconds(event: Event) -> int:
    return round(event.after_ms * 1e6)


def _end(record: Handled) -> int:
    return record.done or record.acked


def _some(reports: Iterable[Report]) -> str:
    return ", ".join(f"{key} {status}" for key, status in islice(reports, 3))
