"""A run that is wrong has no figure: whatever one of its programs does wrong, a check notices."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest

from osmo_benchmarks import clusters
from osmo_benchmarks.errors import BenchmarkError, WrongResultError
from osmo_benchmarks.plan import Context, Measure, Outcome
from osmo_benchmarks.processes import Program, module
from osmo_benchmarks.programs import client, load
from osmo_benchmarks.programs.load import Event
from osmo_benchmarks.shared import Shared
from osmo_benchmarks.systems import BACKEND, Osmo, Peer
from osmo_benchmarks.tables import (
    _handling,
    large_cluster,
    round_trip,
    scale_out,
    startup,
    sustained,
)
from osmo_benchmarks.tables._queue import eventually
from osmo_transport import Client, UnreadableError, connect, listen
from osmo_transport.session import server as session
from tests.benchmarks import small_peer

MESSAGES = 8
NEVER = {
    *("worker keeps one", "worker never asks"),
    *("listener misses one", "listener misses the last change", "listener errs later"),
}
"""Faults after which something is waited for that does not happen."""
SHORT = 0.5
"""Seconds to wait for it."""
NAME = "go"
ORDER = (*((f"w{number}", "RUNNING") for number in range(MESSAGES - 1)), ("w3", "COMPLETED"))
PLAN = [
    Event(after_ms=0.0, workflow=workflow, task="t", status=status) for workflow, status in ORDER
]
"""The report that a fault is about is not the last of its task."""


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The experiments are small, and clusters simulated ones."""
    monkeypatch.setattr(clusters, "has_api_server", lambda: False)
    monkeypatch.setattr(large_cluster, "BURST", MESSAGES)
    monkeypatch.setattr(large_cluster, "NODES", 0)
    monkeypatch.setattr(round_trip, "WARM_UP", 1)
    monkeypatch.setattr(scale_out, "MESSAGES", {NAME: MESSAGES})
    # The worker has written its records before it settles.
    monkeypatch.setattr(_handling, "RECORDS_LOOKS", 1)


def impatient(monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    """Nobody waits long for what will not happen, and is then the reason."""

    async def soon(
        condition: Callable[[], bool], failure: str, timeout: float, *programs: Program
    ) -> None:
        await eventually(condition, failure, SHORT if failure == reason else timeout, *programs)

    for table in (_handling, scale_out):
        monkeypatch.setattr(table, "eventually", soon)
    for table in (large_cluster, startup):
        monkeypatch.setattr(table, "TIMEOUT", SHORT)


async def play(context: Context) -> Mapping[str, Outcome]:
    """A plan, by one worker."""
    async with _handling.stage(context, 0.0) as ready:
        await ready.play(PLAN)
    return {NAME: Outcome({})}


STORE = partial(sustained.through_operator, messages=MESSAGES)
TRIPS = partial(round_trip.one_at_a_time, counts=(MESSAGES,))
STORED_TRIPS = partial(round_trip.stored, count=MESSAGES)
PARTITIONS = partial(scale_out.Scaling(scale_out.in_one_redis).measure, partitions=1)
START = partial(startup.start_up, count=MESSAGES)
BURST = large_cluster.burst
SIZE = partial(large_cluster.size, count=MESSAGES, followed=0.2)

ALL = (STORE, TRIPS, STORED_TRIPS, play, PARTITIONS, START, BURST, SIZE)


async def measured(work: Measure, folder: Path, fault: str) -> Mapping[str, Outcome]:
    """What a heat of the small peer gives."""
    program = (sys.executable, "-I", "-S", small_peer.__file__)
    system = Peer(NAME, program, {"FAULT": fault})
    async with Shared() as shared:
        heat = Context(folder=folder, systems={NAME: system}, shared=shared, seed=1, round=0)
        return await work(heat)


@pytest.mark.parametrize("work", ALL)
async def test_a_right_run_has_its_figures(work: Measure, tmp_path: Path) -> None:
    """Else what is refused below could be refused for anything."""
    assert (await measured(work, tmp_path, "")).keys() == {NAME}


@pytest.mark.parametrize(
    ("fault", "work", "reason"),
    [
        ("client loses count", STORE, "7 of 8 messages were acknowledged"),
        ("client mumbles", TRIPS, "client printed no result but 'what"),
        ("client misses a round trip", TRIPS, "timed 7 round trips of 8"),
        ("client misses a round trip", STORED_TRIPS, "timed 7 round trips of 8"),
        ("operator drops one", STORE, "Redis holds 7 entries of 8"),
        ("operator stores one twice", STORE, "Redis holds 9 entries of 8"),
        ("operator takes another", STORE, "Redis holds report 3 0 times"),
        ("operator takes another", STORED_TRIPS, "Redis holds report 3 0 times"),
        ("operator drops one", play, "^never handled: w3/t RUNNING"),
        ("operator stores one twice", play, "handled more often than sent: w3/t RUNNING"),
        ("operator drops one", PARTITIONS, "Redis holds 7 entries of 8"),
        ("worker loses one", play, "^never handled: w3/t RUNNING"),
        ("worker handles one twice", play, "handled more often than sent: w3/t RUNNING"),
        ("worker mistakes one", play, "handled more often than sent: w3/t MISTAKEN"),
        ("worker keeps one", play, "the queue is not empty"),
        ("worker never asks", play, "not all of 1 workers wait for work"),
        ("worker loses one", PARTITIONS, "7 messages of 7 tasks were handled, and not 8"),
        ("worker handles one twice", PARTITIONS, "9 messages of 8 tasks were handled, and not 8"),
        ("worker keeps one", PARTITIONS, "the queue is not empty"),
        ("load forgets one", play, "^never handled: w3/t RUNNING"),
        ("listener misses one", START, r"only \d+ reports had arrived"),
        ("listener misses the last change", BURST, r"only \d+ reports had arrived"),
        ("listener errs later", SIZE, r"only \d+ reports had arrived"),
        ("listener reports one twice", START, "reported more than once: .*task-000003"),
        ("listener reports one twice", BURST, "reported more than once: .*task-000003"),
        ("listener reports one twice", SIZE, "reported more than once: .*task-000003"),
        ("listener makes one up", START, "reports of pods that are not there: .*nobody/nothing"),
        ("listener ends", START, "(?s)listener ended with exit code 1.*out of luck"),
        ("service is silent", START, "reports that were not acknowledged"),
    ],
)
async def test_a_wrong_run_has_none(
    fault: str, work: Measure, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But the reason, which says what is wrong."""
    if fault in NEVER:
        impatient(monkeypatch, reason)
    with pytest.raises(BenchmarkError, match=reason):
        await measured(work, tmp_path, fault)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("losing", "the store has 7 rows of 8"),
        ("mistaken", "the row of report 3 has status 'MISTAKEN', which is 'RUNNING'"),
    ],
)
async def test_a_wrong_row_is_noticed(
    fault: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one that is missing, of which the worker said that it was stored."""
    broken = (*module("tests.benchmarks.broken_build"), fault)
    monkeypatch.setattr(sustained, "module", lambda name: (*broken, name))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    ours = Osmo("ws")
    async with Shared() as shared:
        heat = Context(folder=tmp_path, systems={ours.name: ours}, shared=shared, seed=1, round=0)
        with pytest.raises(WrongResultError, match=reason):
            await sustained.into_sqlite(heat, MESSAGES)


@asynccontextmanager
async def server(*, forgetful: bool = False) -> AsyncIterator[str]:
    """One in this process; a forgetful one loses its memory before it has acknowledged anything."""

    async def serve() -> None:
        loses = forgetful
        while incoming := await listening.receive():
            for each in incoming:
                if loses:
                    each.resync()
                else:
                    each.acknowledge()
            loses = False

    async with listen("memory://") as listening, asyncio.TaskGroup() as tasks:
        tasks.create_task(serve())
        yield listening.url
        listening.stop()


MEASURE = partial(client.measure, settings=client.Settings(url="", messages=MESSAGES, window=4))
LOAD = partial(load.send, events=PLAN)
LEDGER = "8 reports were sent, and the ledger says"


@pytest.mark.parametrize("work", [MEASURE, LOAD])
async def test_what_is_sent_again_is_no_figure(work: Callable[[Client], Awaitable[object]]) -> None:
    """The server has lost it."""
    async with (
        server(forgetful=True) as url,
        connect(url, backend=BACKEND) as sender,
    ):
        with pytest.raises(WrongResultError, match=LEDGER):
            await work(sender)


@pytest.mark.parametrize("work", [MEASURE, LOAD])
async def test_what_is_refused_is_no_figure(
    work: Callable[[Client], Awaitable[object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a server that cannot read what it is sent."""

    def illegible(_: object) -> NoReturn:
        raise UnreadableError("what is this?")

    monkeypatch.setattr(session, "read_heads", illegible)
    async with server() as url, connect(url, backend=BACKEND) as sender:
        with pytest.raises(WrongResultError, match=LEDGER):
            await work(sender)


async def test_what_is_said_once_for_all_is_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that reports the same task again and again sends less than it counts."""
    same = client.report(0)
    monkeypatch.setattr(client, "report", lambda _: same)
    async with server() as url, connect(url, backend=BACKEND) as sender:
        with pytest.raises(WrongResultError, match=LEDGER):
            await MEASURE(sender)
