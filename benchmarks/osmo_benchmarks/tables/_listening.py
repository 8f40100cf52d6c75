"""A listener at work: it watches a cluster, and a service writes down what it reports."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from pathlib import Path

from osmo_benchmarks.errors import WrongResultError
from osmo_benchmarks.plan import Context
from osmo_benchmarks.processes import Program
from osmo_benchmarks.records import Record, Records
from osmo_benchmarks.tables._programs import running, serving, stop_all

SAMPLE = 0.05
"""Seconds between two looks at a listener's memory."""


class Listening:
    """A listener and its service. Made by `listening`."""

    def __init__(
        self,
        listener: Program,
        service: Program,
        records: Path,
        started: int,
        started_unix: int,
    ) -> None:
        self.listener = listener
        self._service = service
        self._records = Records(records)
        self._started = started
        self._started_unix = started_unix

    @property
    def received(self) -> int:
        """How many reports have been read of what the service wrote down."""
        return len(self._records.all)

    async def until(
        self, expected: Mapping[str, str], timeout: float, *, since: int = 0
    ) -> list[Record]:
        """The reports after the first `since`, as soon as the last one of each key has its expected
        status.

        Raises:
            WrongResultError: they have not within `timeout` seconds, a key is not expected, or a
                report was not acknowledged.
            ProgramError: listener or service ended.
        """
        programs = (self.listener, self._service)
        records = await self._records.until(_settled(expected), timeout, *programs)
        if strange := {each.key for each in records} - expected.keys():
            raise WrongResultError(f"reports of pods that are not there: {sorted(strange)[:3]}")
        if silent := [each.key for each in records if not each.acked]:
            raise WrongResultError(f"reports that were not acknowledged: {silent[:3]}")
        return records[since:]

    def seconds(self) -> float:
        """Since the start of the listener's process."""
        return (time.monotonic_ns() - self._started) / 1e9

    def first_report_ms(self, records: Sequence[Record]) -> float:
        """From the start of the listener's process until the first report was received."""
        return (min(each.at for each in records) - self._started) / 1e6

    def last_ack_ms(self, records: Sequence[Record]) -> float:
        """From the start of the listener's process until the last report was acknowledged."""
        return (max(each.acked for each in records) - self._started_unix) / 1e6


def _settled(expected: Mapping[str, str]) -> Callable[[list[Record]], bool]:
    """Whether the last report of each key has its expected status."""
    latest: dict[str, str] = {}
    seen = right = 0

    def complete(records: list[Record]) -> bool:
        nonlocal seen, right
        for each in records[seen:]:
            wanted = expected.get(each.key)
            right += (each.status == wanted) - (latest.get(each.key, "") == wanted)
            latest[each.key] = each.status
        seen = len(records)
        return right == len(expected)

    return complete


@asynccontextmanager
async def listening(context: Context, kubeconfig: Path) -> AsyncIterator[dict[str, Listening]]:
    """The listeners of all systems of a heat, each from the start of its process: the services are
    there before, and who is started first alternates.

    Raises:
        ProgramError: a program cannot be started.
        WrongResultError: a system has no service to report to.
    """
    names = list(context.systems)
    if context.round % 2:
        names.reverse()
    async with AsyncExitStack() as stack:
        services = {
            name: await stack.enter_async_context(_service(context, name)) for name in names
        }
        found = {}
        for name in names:
            service, records = services[name]
            command = context.systems[name].listener(service.url, kubeconfig)
            started = time.monotonic_ns(), time.time_ns()
            start = running(context, f"{name}-listener", command)
            listener = await stack.enter_async_context(start)
            found[name] = Listening(listener, service, records, *started)
        yield found
        await stop_all(each.listener for each in found.values())
        await stop_all(service for service, _ in services.values())


@asynccontextmanager
async def _service(context: Context, name: str) -> AsyncIterator[tuple[Program, Path]]:
    records = context.folder / f"{name}.jsonl"
    command = context.systems[name].service(records)
    if command is None:
        raise WrongResultError(f"{name} has no service that a listener could report to")
    async with serving(context, f"{name}-service", command) as service:
        yield service, records


def once(records: Sequence[Record]) -> Sequence[Record]:
    """The same, of pods of which each has changed once.

    Raises:
        WrongResultError: a change was reported more than once, which would count as a higher rate.
    """
    keys = Counter(each.key for each in records)
    if repeated := sorted(key for key, count in keys.items() if count > 1):
        raise WrongResultError(f"reported more than once: {repeated[:3]}")
    return records


@asynccontextmanager
async def memory(of: Listening) -> AsyncIterator[tuple[list[float], list[float]]]:
    """Watches a listener's memory: seconds since its start, and megabytes."""
    times: list[float] = []
    sizes: list[float] = []

    async def look() -> None:
        while True:
            sizes.append(of.listener.rss_megabytes())
            times.append(of.seconds())
            await asyncio.sleep(SAMPLE)

    looking = asyncio.create_task(look())
    try:
        yield times, sizes
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)


def gaps(records: Sequence[Record]) -> list[float]:
    """Milliseconds between consecutive reports at the receiver."""
    return [(after - before) / 1e6 for before, after in pairwise(sorted(r.at for r in records))]


def leads(ours: Sequence[Record], theirs: Sequence[Record]) -> list[float]:
    """Of each key and status that both reported: ours minus theirs in ms, when first received."""
    mine, others = _first(ours), _first(theirs)
    return [(mine[each] - others[each]) / 1e6 for each in mine.keys() & others.keys()]


def _first(records: Sequence[Record]) -> dict[tuple[str, str], int]:
    first: dict[tuple[str, str], int] = {}
    for each in records:
        first.setdefault((each.key, each.status), each.at)
    return first
