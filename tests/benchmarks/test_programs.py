"""Our programs keep the contract of all systems' programs."""

import asyncio
import json
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from osmo_benchmarks.errors import ProgramError
from osmo_benchmarks.processes import module, program, server
from osmo_benchmarks.programs import load
from osmo_benchmarks.programs._record import recording
from osmo_benchmarks.programs.client import report
from osmo_benchmarks.programs.worker import (
    Handled,
    ObservedConsumer,
    Settled,
    WaitingHandler,
    records,
)
from osmo_benchmarks.records import Record, Records
from osmo_benchmarks.systems import Osmo
from osmo_reports.bodies import decode_body
from osmo_transport import NEW, Producer, Version, batch_of, open_queue
from osmo_worker import Worker, WorkerConfig
from tests.helpers import eventually

WORKER = WorkerConfig(queue="memory://")


async def printed(arguments: tuple[str, ...], log: Path) -> str:
    """What a program prints until it ends."""
    async with program("it", arguments, log) as running:
        return await running.output(20.0)


def event(after_ms: float, status: str, workflow: str = "w") -> load.Event:
    """A report of a plan."""
    return load.Event(after_ms=after_ms, workflow=workflow, task="t", status=status)


def test_a_message_has_the_size_of_the_study() -> None:
    """About 520 bytes, and each is of another task."""
    first, second = report(1), report(2)
    assert 480 <= len(msgspec.msgpack.encode(first)) <= 560
    assert first.key != second.key
    assert first.id != second.id


async def test_records_are_whole_lines_and_soon_there(tmp_path: Path) -> None:
    """While the program runs, and at its end."""
    path = tmp_path / "records"

    def twice(number: int) -> Iterator[Record]:
        for status in ("a", "b"):
            yield Record(at=number, created=0, key="k", status=status)

    followed = Records(path)
    async with recording(path, twice) as recorder:
        recorder.add(1)
        await eventually(lambda: followed.read() == 2, timeout=1.0)
        recorder.add(2)
    followed.read()
    assert [(each.at, each.status) for each in followed.all] == [
        (1, "a"),
        (1, "b"),
        (2, "a"),
        (2, "b"),
    ]


async def test_without_a_file_nothing_is_kept() -> None:
    """And nothing is made of it."""

    def never(_: int) -> Iterator[Record]:
        raise AssertionError

    async with recording(None, never) as recorder:
        recorder.add(1)
        recorder.flush()


@pytest.mark.parametrize("scheme", ["ws", "grpc"])
async def test_client_and_service(scheme: str, tmp_path: Path) -> None:
    """Each message is acknowledged once and recorded once, whichever the window."""
    system, path = Osmo(scheme), tmp_path / "records"
    command = system.service(path)
    assert command is not None
    before = time.time_ns(), time.monotonic_ns()
    async with server("service", command.arguments, tmp_path / "log") as service:
        single = system.client(service.url, 20, 10, 1)
        one_by_one = json.loads(await printed(single.arguments, tmp_path / "single.log"))
        window = system.client(service.url, 300, 0, 100)
        windowed = json.loads(await printed(window.arguments, tmp_path / "window.log"))
    after = time.time_ns(), time.monotonic_ns()
    assert one_by_one["acknowledged"] == len(one_by_one["round_trips_ns"]) == 20
    assert sum(one_by_one["round_trips_ns"]) <= one_by_one["seconds"] * 1e9
    assert windowed["acknowledged"] == 300
    assert windowed["round_trips_ns"] == []
    recorded = Records(path)
    assert recorded.read() == 20 + 10 + 300
    for each in recorded.all:
        assert before[0] <= each.created <= each.acked <= after[0]
        assert before[1] <= each.at <= after[1]
        workflow, task = each.key.split("/")
        assert workflow == task
        assert each.status == "RUNNING"


async def test_a_client_within_one_process(tmp_path: Path) -> None:
    """It needs no service."""
    system = Osmo("memory")
    assert system.service() is None
    command = system.client("", 50, 5, 1)
    result = json.loads(await printed(command.arguments, tmp_path / "log"))
    assert result["acknowledged"] == len(result["round_trips_ns"]) == 50


async def test_a_plan_that_is_none(tmp_path: Path) -> None:
    """Is told in one line, and is wrong usage."""
    plan = tmp_path / "plan"
    plan.write_text('{"after_ms": "soon"}\n')
    with pytest.raises(ProgramError, match=r"(?s)exit code 2.*cannot read the plan"):
        await printed(Osmo("ws").load("ws://127.0.0.1:9", plan).arguments, tmp_path / "log")


async def test_a_plan_is_sent_at_its_times(tmp_path: Path) -> None:
    """In order, each report created when it is due."""
    plan, path = tmp_path / "plan", tmp_path / "records"
    events = [event(0, "SCHEDULING"), event(60, "RUNNING"), event(120, "COMPLETED")]
    plan.write_bytes(b"".join(msgspec.json.encode(each) + b"\n" for each in events))
    arguments = (*module("osmo_benchmarks.programs.service"), "ws://127.0.0.1:0")
    recording_too = (*arguments, "--record", str(path))
    async with server("service", recording_too, tmp_path / "log") as service:
        command = Osmo("ws").load(service.url, plan)
        assert await printed(command.arguments, tmp_path / "load.log") == ""
    recorded = Records(path)
    recorded.read()
    assert [each.status for each in recorded.all] == ["SCHEDULING", "RUNNING", "COMPLETED"]
    assert {each.key for each in recorded.all} == {"w/t"}
    created = [each.created for each in recorded.all]
    assert all(b - a >= 55e6 for a, b in pairwise(created))


def test_only_an_end_is_final() -> None:
    """So that nothing is taken for newer than it."""
    for status, final in (("RUNNING", False), ("COMPLETED", True), ("FAILED_EVICTED", True)):
        message = load.report(event(0, status), Version(1, 1))
        assert message.final is final
        assert decode_body(message.kind, message.payload).status == status


async def test_a_handler_takes_its_time() -> None:
    """Never less, though timers may end early."""
    handler = WaitingHandler(0.002)
    async with await open_queue("memory://") as queue:
        producer = Producer("bench", "listener")
        state = await queue.open_producer(producer, "one", NEW)
        await queue.append([batch_of(producer, state, 1, [report(1)])])
        async with queue.consumer("workers", "one") as consumer:
            (delivery,) = await consumer.receive(1)
            for _ in range(20):
                started = time.monotonic()
                await handler(delivery)
                assert time.monotonic() - started >= 0.002
    assert handler.was_called_for(delivery)
    assert not handler.was_called_for(delivery)


async def test_what_is_settled_is_recorded_and_what_was_superseded(tmp_path: Path) -> None:
    """Once each, after the queue has let go of it."""
    path = tmp_path / "records"
    statuses = ("SCHEDULING", "RUNNING", "COMPLETED")
    messages = [
        load.report(event(0, status), Version(1, number)) for number, status in enumerate(statuses)
    ]
    messages.append(load.report(event(0, "RUNNING", "other"), Version(1, 9)))
    stop = asyncio.Event()
    async with await open_queue("memory://") as queue, recording(path, records) as recorder:
        producer = Producer("bench", "listener")
        state = await queue.open_producer(producer, "one", NEW)
        await queue.append([batch_of(producer, state, 1, messages)])
        handler = WaitingHandler(0.001)
        consumer = ObservedConsumer(queue.consumer("workers", "one"), "one", handler, recorder)
        working = asyncio.create_task(Worker(consumer, handler, WORKER).run(stop))
        followed = Records(path)
        await eventually(lambda: followed.read() == len(messages))
        status = await queue.status()
        assert not any((*status.waiting.values(), *status.pending.values()))
        stop.set()
        await working
    lines = path.read_bytes().splitlines()
    handled = [msgspec.json.decode(line, type=Handled) for line in lines]
    assert sorted((each.key, each.status, each.superseded) for each in handled) == [
        ("other/t", "RUNNING", False),
        ("w/t", "COMPLETED", False),
        ("w/t", "RUNNING", True),
        ("w/t", "SCHEDULING", True),
    ]
    assert all(each.worker == "one" and each.created <= each.done for each in handled)


def test_other_kinds_are_not_recorded() -> None:
    """A record tells of a pod."""
    assert list(records(Settled(0, 0, "one", []))) == []
