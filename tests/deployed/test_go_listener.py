"""A deployed listener in Go, generated from the contract, at our operator's end."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from osmo_reports.bodies import Registration, decode_body
from tests.deployed.harness import serving
from tests.deployed.test_node_conditions import push
from tests.helpers import eventually

pytestmark = pytest.mark.timeout(300)  # The first test waits until Go has built the listener.

KINDS = {
    "update_pod",
    "update_node",
    "update_node_usage",
    "node_inventory",
    "pod_event",
    "logging",
}


class Program:
    """The listener's process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def says(self, event: str) -> dict[str, Any]:
        """The next event of that name; what comes before it is left out."""
        assert self.process.stdout is not None
        seen = []
        while line := await self.process.stdout.readline():
            said: dict[str, Any] = json.loads(line)
            if said["event"] == event:
                return said
            seen.append(said)
        raise AssertionError(f"no event {event}: {seen}")


@asynccontextmanager
async def running(go_listener: Path, target: str, **options: object) -> AsyncIterator[Program]:
    """The listener with some options, killed at the end."""
    arguments = [f"-{name}={value}" for name, value in {"target": target, **options}.items()]
    process = await asyncio.create_subprocess_exec(
        go_listener, *arguments, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield Program(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_window_of_all_kinds(go_listener: Path) -> None:
    """Each is acknowledged once, on one connection, in order."""
    async with serving() as desk, running(go_listener, desk.target, messages=2000) as program:
        done = await program.says("done")
        assert (done["acknowledged"], done["connects"], done["resent"], done["strange"]) == (
            *(2000, 1, 0, 0),
        )
        assert len(desk.stored) == 2000
        assert {message.kind for message in desk.messages} == KINDS
        for message in desk.messages[:12]:
            decode_body(message.kind, message.payload)


async def test_a_reconnect_sends_again_what_has_no_answer(go_listener: Path) -> None:
    """Every report is stored in the end, whatever was on its way when the connection broke."""
    async with serving() as desk, running(go_listener, desk.target, messages=3000) as program:
        for number in range(3):
            await eventually(lambda n=number: len(desk.stored) > 500 * (n + 1))  # type: ignore[misc]
            assert desk.server.resync(f"memory {number}") == 1
            ended = await program.says("ended")
            assert (ended["code"], ended["message"]) == ("Unavailable", "the queue lost its memory")
        done = await program.says("done")
        assert (done["acknowledged"], done["connects"]) == (3000, 4)
        ids = [message.id for message in desk.messages]
        assert len(set(ids)) == 3000
        assert len(ids) <= 3000 + done["resent"]


async def test_nothing_is_answered_before_it_is_stored(go_listener: Path) -> None:
    """The listener fills its window and waits."""
    async with serving() as desk:
        desk.open.clear()
        async with running(go_listener, desk.target, messages=300, window=100) as program:
            await eventually(lambda: desk.held == 100)
            first = asyncio.create_task(program.says("acknowledged"))
            await asyncio.sleep(0)
            assert not first.done()
            desk.open.set()
            await first
            assert (await program.says("done"))["acknowledged"] == 300


async def test_single_reports(go_listener: Path) -> None:
    """Many calls at once, by the listener that knows no other way."""
    options = {"mode": "unary", "messages": 500, "parallel": 50}
    async with serving() as desk, running(go_listener, desk.target, **options) as program:
        assert (await program.says("done"))["acknowledged"] == 500
        assert len(desk.stored) == 500
        assert len(desk.batches) < 500


async def test_an_introduction(go_listener: Path) -> None:
    """As it is made at the start of a listener."""
    options = {"mode": "init", "backend": "blue", "uid": "uid-7"}
    async with serving() as desk, running(go_listener, desk.target, **options) as program:
        said = await program.says("init")
        assert (said["success"], said["message"]) == (True, "")
        ((backend, message),) = desk.stored
        assert backend == "blue"
        registration = decode_body(message.kind, message.payload)
        assert registration == Registration("uid-7", "osmo", "6.0", "osmo.nvidia.com/")


async def test_condition_rules(go_listener: Path) -> None:
    """The default, a change, and signs of life towards the queue."""
    options = {"mode": "conditions", "heartbeat": "20ms"}
    async with serving() as desk, running(go_listener, desk.target, **options) as program:
        assert (await program.says("rules"))["rules"] == {"Ready": "True"}
        desk.server.push("deployed", push(1, Ready="False"))
        assert (await program.says("rules"))["rules"] == {"Ready": "False"}
        await eventually(lambda: len(desk.stored) >= 2)
        assert {message.kind for message in desk.messages} == {"heartbeat"}


async def test_a_killed_listener_leaves_nothing_behind(go_listener: Path) -> None:
    """SIGKILL in the middle of its stream."""
    async with serving() as desk:
        async with running(go_listener, desk.target, messages=100_000) as program:
            await eventually(lambda: len(desk.stored) > 200, timeout=30.0)
            program.process.kill()
        await eventually(lambda: desk.server.connections == 0)
        assert desk.held == 0
