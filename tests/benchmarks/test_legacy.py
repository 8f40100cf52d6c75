"""The study's Python design keeps the contract of all systems' programs."""

import json
import os
import signal
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest
import websockets

from osmo_benchmarks.errors import ProgramError
from osmo_benchmarks.participants import LEGACY
from osmo_benchmarks.processes import Program, program, server
from osmo_benchmarks.records import Record, Records
from osmo_benchmarks.systems import Command
from osmo_simulator.builders import make_pod, task_labels
from osmo_simulator.faults import Fail, Gone
from osmo_simulator.scenario import Scenario, ScenarioConfig
from osmo_simulator.server import Simulator

TIMEOUT = 20.0
ON_THE_WAY = ("SCHEDULING", "INITIALIZING", "RUNNING")
"""What a pod is before it ends in one way or another."""


async def printed(command: Command, folder: Path) -> str:
    """What a program prints until it ends."""
    async with program("it", command.arguments, folder / "it.log", command.environment) as it:
        return await it.output(TIMEOUT)


def serving(folder: Path, cost_ms: float = 0.0) -> AbstractAsyncContextManager[Program]:
    """A service that records in `folder`."""
    command = LEGACY.service(folder / "records", cost_ms)
    return server("service", command.arguments, folder / "service.log", command.environment)


def recorded(folder: Path) -> list[Record]:
    """What it has written down so far."""
    records = Records(folder / "records")
    records.read()
    return records.all


def plan(folder: Path, *events: tuple[float, str]) -> Path:
    """A file of reports of one task: when each is sent, and its status."""
    path = folder / "plan"
    lines = [
        json.dumps({"after_ms": after_ms, "workflow": "w", "task": "t", "status": status})
        for after_ms, status in events
    ]
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize("window", [1, 100])
async def test_each_message_is_acknowledged_and_recorded_once(tmp_path: Path, window: int) -> None:
    """One at a time each round trip is told; in a window, more messages are sent than it takes."""
    before = time.time_ns(), time.monotonic_ns()
    async with serving(tmp_path) as service:
        command = LEGACY.client(service.url, 500, 20, window)
        result = json.loads(await printed(command, tmp_path))
    after = time.time_ns(), time.monotonic_ns()
    trips = result["round_trips_ns"]
    assert result["acknowledged"] == 500
    assert len(trips) == (500 if window == 1 else 0)
    assert 0 < sum(trips) / 1e9 <= result["seconds"] or window > 1
    records = recorded(tmp_path)
    assert len(records) == len({each.key for each in records}) == 520
    for each in records:
        assert before[0] // 1_000 <= each.created // 1_000
        assert each.created <= each.acked == each.done <= after[0]
        assert before[1] <= each.at <= after[1]
        assert each.status == "RUNNING"


async def test_a_message_has_the_size_of_the_study(tmp_path: Path) -> None:
    """About 520 bytes, in one text frame."""
    frames = []

    async def answer(connection: websockets.ServerConnection) -> None:
        async for text in connection:
            frames.append(text)
            uuid = json.loads(text)["uuid"]
            await connection.send(json.dumps({"type": "ack", "body": {"uuid": uuid}}))

    async with websockets.serve(answer, "127.0.0.1", 0) as service:
        port = next(iter(service.sockets)).getsockname()[1]
        await printed(LEGACY.client(f"ws://127.0.0.1:{port}", 2, 0, 1), tmp_path)
    first, second = frames
    assert isinstance(first, str)
    assert 480 <= len(first) <= 560
    assert json.loads(first).keys() == {"type", "body", "uuid", "timestamp"}
    assert json.loads(first)["body"]["task_uuid"] != json.loads(second)["body"]["task_uuid"]


async def refuses(
    answer: Callable[[websockets.ServerConnection], Awaitable[None]], folder: Path
) -> None:
    """The client fails with what a server answers, one at a time and in a window."""
    async with websockets.serve(answer, "127.0.0.1", 0) as service:
        port = next(iter(service.sockets)).getsockname()[1]
        for window in (1, 10):
            command = LEGACY.client(f"ws://127.0.0.1:{port}", 20, 0, window)
            with pytest.raises(ProgramError, match=r"(?s)exit code 1.*acknowledge"):
                await printed(command, folder)


async def test_an_acknowledgement_of_something_else_is_a_failure(tmp_path: Path) -> None:
    """A figure of what was not acknowledged would be a wrong one."""

    async def answer(connection: websockets.ServerConnection) -> None:
        async for _ in connection:
            await connection.send(json.dumps({"type": "ack", "body": {"uuid": "another"}}))

    await refuses(answer, tmp_path)


async def test_an_acknowledgement_that_comes_twice_is_a_failure(tmp_path: Path) -> None:
    """It would let more than the window through."""

    async def answer(connection: websockets.ServerConnection) -> None:
        async for text in connection:
            uuid = json.loads(text)["uuid"]
            for _ in range(2):
                await connection.send(json.dumps({"type": "ack", "body": {"uuid": uuid}}))

    await refuses(answer, tmp_path)


async def test_a_plan_is_sent_at_its_times(tmp_path: Path) -> None:
    """In order, and nothing is printed."""
    path = plan(tmp_path, (0, "SCHEDULING"), (60, "RUNNING"), (120, "COMPLETED"))
    async with serving(tmp_path) as service:
        assert await printed(LEGACY.load(service.url, path), tmp_path) == ""
    records = recorded(tmp_path)
    assert [each.status for each in records] == ["SCHEDULING", "RUNNING", "COMPLETED"]
    assert {each.key for each in records} == {"w/t"}
    assert all(b.created - a.created >= 55e6 for a, b in pairwise(records))


async def test_messages_are_handled_one_after_the_other(tmp_path: Path) -> None:
    """Each takes its time, and the sender waits for none."""
    path = plan(tmp_path, *((0.0, "RUNNING") for _ in range(5)))
    async with serving(tmp_path, cost_ms=20.0) as service:
        await printed(LEGACY.load(service.url, path), tmp_path)
    records = recorded(tmp_path)
    assert len(records) == 5
    assert all(b.done - a.done >= 20e6 for a, b in pairwise(records))
    assert max(each.created for each in records) < records[-1].done - 60e6


async def test_what_is_being_handled_is_acknowledged_before_it_ends(tmp_path: Path) -> None:
    """What waits behind it is not: its sender has to send it again."""
    async with (
        serving(tmp_path, cost_ms=100.0) as service,
        websockets.connect(service.url) as connection,
    ):
        for uuid in "abc":
            body = {"workflow_uuid": "w", "task_uuid": uuid, "status": "RUNNING"}
            message = {"type": "update_pod", "body": body, "uuid": uuid}
            await connection.send(json.dumps({**message, "timestamp": "2026-01-02T03:04:05"}))
        assert json.loads(await connection.recv())["body"] == {"uuid": "a"}
        os.kill(service.pid, signal.SIGTERM)
        assert json.loads(await connection.recv())["body"] == {"uuid": "b"}
        with pytest.raises(websockets.ConnectionClosed):
            await connection.recv()
        assert await service.output(TIMEOUT) == ""
    assert [each.key for each in recorded(tmp_path)] == ["w/a", "w/b"]


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("client", "--connect", "ws://127.0.0.1:9", "--messages", "0"), 2, "1 or more"),
        (("service", "--listen", "anywhere"), 2, "'anywhere' is not HOST:PORT"),
        (("service", "--cost-ms", "-1"), 2, "0 or more milliseconds"),
        (("load", "--connect", "ws://127.0.0.1:9", "--plan", "PLAN"), 1, "is no plan: .*'after_ms"),
        (("client", "--connect", "127.0.0.1:9", "--messages", "1"), 1, "isn't a valid URI"),
    ],
)
async def test_wrong_usage_is_told(
    tmp_path: Path, arguments: tuple[str, ...], code: int, told: str
) -> None:
    """By its name, without a traceback."""
    path = tmp_path / "plan"
    path.write_text('{"workflow": "w", "task": "t", "status": "RUNNING"}\n')
    given = [str(path) if each == "PLAN" else each for each in arguments]
    command = Command((*LEGACY.prefix, *given), LEGACY.environment)
    with pytest.raises(ProgramError, match=rf"(?s)exit code {code}.*{told}"):
        await printed(command, tmp_path)
    assert "Traceback" not in (tmp_path / "it.log").read_text()


@asynccontextmanager
async def listening(folder: Path, simulator: Simulator) -> AsyncIterator[tuple[Program, Program]]:
    """A listener of the simulator, and the service that it reports to."""
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(simulator.kubeconfig())
    async with serving(folder) as service:
        command = LEGACY.listener(service.url, kubeconfig)
        async with program("it", command.arguments, folder / "it.log", command.environment) as it:
            yield it, service


def create(simulator: Simulator, name: str) -> None:
    """A pod of the only task of a workflow."""
    simulator.cluster.create("pods", make_pod(name, labels=task_labels(name, name)))


def reported(*names: str) -> Callable[[list[Record]], bool]:
    """Whether there is a report of each of these pods."""
    wanted = {f"{name}/{name}" for name in names}
    return lambda records: wanted <= {each.key for each in records}


async def test_pods_are_followed_to_their_end(tmp_path: Path) -> None:
    """Each status is reported once, and every try of a task ends as the scenario says."""
    config = ScenarioConfig(seed=1, workflows=8, max_tasks=2, failures=0.6, pace=0.02)
    records = Records(tmp_path / "records")
    async with Simulator() as simulator, listening(tmp_path, simulator) as programs:
        create(simulator, "probe")
        await records.until(reported("probe"), TIMEOUT, *programs)
        scenario = Scenario(simulator.cluster, config)
        await scenario.run()
        create(simulator, "last")
        await records.until(reported("last"), TIMEOUT, *programs)
    ends = defaultdict(list)
    for task in sorted(scenario.expected, key=lambda task: task.retry_id):
        ends[f"{task.workflow_uuid}/{task.task_uuid}"].append(task.status)
    assert len({status for each in ends.values() for status in each}) > 3
    for key, expected in ends.items():
        statuses = [each.status for each in records.all if each.key == key]
        assert [each for each in statuses if each not in ON_THE_WAY] == expected
        assert statuses.count("SCHEDULING") == len(expected)
        assert all(before != after for before, after in pairwise(statuses))


async def test_a_watch_that_breaks_is_made_up_for(tmp_path: Path) -> None:
    """By another list, of which only what is new is reported."""
    records = Records(tmp_path / "records")
    async with Simulator() as simulator, listening(tmp_path, simulator) as programs:
        create(simulator, "one")
        await records.until(reported("one"), TIMEOUT, *programs)
        # Its library asks a second time before it tells that the version is too old.
        simulator.faults.inject(Gone(verb="watch", as_event=True, count=2))
        simulator.disconnect("watch")
        create(simulator, "two")
        await records.until(reported("two"), TIMEOUT, *programs)
        create(simulator, "three")
        await records.until(reported("three"), TIMEOUT, *programs)
    assert [each.key for each in records.all] == ["one/one", "two/two", "three/three"]


async def test_a_cluster_that_refuses_ends_the_listener(tmp_path: Path) -> None:
    """So that nobody waits for its reports."""
    async with Simulator() as simulator:
        simulator.faults.inject(Fail(verb="list", code=403))
        async with listening(tmp_path, simulator) as (listener, _):
            with pytest.raises(ProgramError, match=r"(?s)exit code 1.*follow the cluster: \(403\)"):
                await listener.output(TIMEOUT)


async def test_a_service_that_has_gone_ends_the_listener(tmp_path: Path) -> None:
    """It does not connect again."""
    records = Records(tmp_path / "records")
    async with Simulator() as simulator, listening(tmp_path, simulator) as (listener, service):
        create(simulator, "one")
        await records.until(reported("one"), TIMEOUT, listener, service)
        await service.stop()
        with pytest.raises(ProgramError, match=r"(?s)exit code 1.*going away"):
            await listener.output(TIMEOUT)
