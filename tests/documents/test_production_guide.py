"""What the production guide says of Redis holds for a real server that is set up as it says."""

import asyncio
import logging
import re
from collections.abc import Iterator
from contextlib import suppress

import pytest

from osmo_pipeline.config import DemoConfig
from osmo_pipeline.demo import run_demo
from osmo_reports.bodies import Registration
from osmo_reports.directory import Claim, open_directory
from osmo_transport import (
    Ack,
    QueueRefusedError,
    Reject,
    Retry,
    new_message,
    open_queue,
    publish,
)
from osmo_transport.testing.redis_server import RedisServer, redis_programs
from tests.documents.guide import ROOT, fenced, inline

GUIDE = "docs/production.md"
USER = fenced(GUIDE, "user osmo ").split()[1:]
FOR_THE_LAYOUT = inline(GUIDE, "~backend-connections:*").split()
ANOTHER_LAYOUT = "layout=osmo"


@pytest.fixture(scope="module", params=redis_programs())
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """One of each kind, the oldest supported included."""
    with RedisServer(redis_programs()[request.param]) as started:
        yield started


def allow(server: RedisServer, *rules: str) -> str:
    """Let the user of the guide do this and nothing else, with an empty Redis; its URL."""
    server.flush()
    server.command("ACL", "SETUSER", USER[0], "reset", *rules)
    server.command("ACL", "LOG", "RESET")
    return f"redis://osmo:PASSWORD@127.0.0.1:{server.port}/0"


def denied(server: RedisServer) -> set[str]:
    """What the user tried and may not."""
    entries = (dict(zip(entry[::2], entry[1::2], strict=True)) for entry in _log(server))
    return {entry[b"object"].decode() for entry in entries}


def _log(server: RedisServer) -> list[list[bytes]]:
    entries: list[list[bytes]] = server.command("ACL", "LOG")
    return entries


SCRIPTED = {
    found
    for script in (ROOT / "libs").rglob("*.py")
    for found in re.findall(r"redis\.p?call\('([A-Z]+)'(?:, '([A-Z]+)')?", script.read_text())
}
"""Each command of a script in Redis, with its subcommand if it has one."""

SOON = 0.5
"""Seconds after which a right that is waited for has been asked for."""

HARMLESS = {"client", "client|setinfo"}
"""The client library's name, as the guide says."""


async def use(url: str) -> None:
    """Everything that a queue and its directory can do."""
    async with await open_queue(url) as queue, await open_directory(url) as directory:
        await directory.register("cluster-a", Registration(cluster_uid="uid"))
        await directory.set_rules("cluster-a", {"Ready": "True"})
        await directory.adopt_rules(["cluster-a"])
        assert "cluster-a" in await directory.rules()
        following = directory.follow_rules()
        assert await anext(following)
        await directory.set_rules("cluster-a", {"Ready": "Unknown"})
        assert await anext(following)
        await following.aclose()
        claims = directory.follow_claims()
        assert await anext(claims)
        await claims.aclose()
        await directory.restore_claims({"cluster-b": Claim(freed=1)})
        assert await directory.forget("cluster-a")
        messages = [new_message("update_pod", f"w/t/{number}", b"") for number in range(4)]
        await publish(queue, messages, backend="cluster-a")
        await queue.raise_epochs({"cluster-a": 1})
        async with queue.consumer("workers", "guide") as consumer:
            taken = await consumer.receive(10)
            outcomes = (Ack(), Reject("no"), Retry("later", after=0.0))
            await consumer.settle(list(zip(taken, outcomes, strict=False)))
        await queue.status()
        await queue.dead_letters(10)
        await queue.reset("cluster-a")


def test_the_user_may_do_what_the_scripts_do() -> None:
    """Also in those branches that no test with this user takes."""
    allowed = {word[1:] for word in (*USER, *FOR_THE_LAYOUT) if word.startswith("+")}
    assert len(SCRIPTED) > 20
    for command, subcommand in SCRIPTED:
        assert {command.lower(), f"{command}|{subcommand}".lower()} & allowed, command


async def test_the_user_may_do_what_the_programs_need(server: RedisServer) -> None:
    """A listener, an operator and a worker run with exactly these rights; nothing is denied."""
    url = allow(server, *USER[1:])
    config = DemoConfig(queue=f"{url}?namespace=osmo", store="memory://", workflows=1, pace=0.01)
    await run_demo(config, asyncio.Event())
    await use(url)
    assert denied(server) <= HARMLESS


async def test_the_user_of_the_deployed_layout(server: RedisServer) -> None:
    """Needs what the guide adds, and nothing more."""
    await use(f"{allow(server, *USER[1:], *FOR_THE_LAYOUT)}?{ANOTHER_LAYOUT}")
    assert denied(server) <= HARMLESS


async def test_the_user_sees_no_other_keys(server: RedisServer) -> None:
    """Those of another namespace are out of its reach, which is said at once."""
    url = allow(server, *USER[1:])
    with pytest.raises(QueueRefusedError):
        await open_queue(f"{url}?namespace=other")


@pytest.mark.parametrize("right", [word for word in USER if word.startswith("+x")])
async def test_each_right_is_needed(server: RedisServer, right: str) -> None:
    """None of the list is there for nothing, where it is about a stream."""
    url = allow(server, *(word for word in USER[1:] if word != right))
    with suppress(QueueRefusedError, TimeoutError):
        async with asyncio.timeout(SOON):
            await use(url)
    assert denied(server) - HARMLESS


def options() -> dict[str, str]:
    """The configuration of the guide."""
    lines = fenced(GUIDE, "appendonly yes").splitlines()
    return {name.replace("-", "_"): value for name, value in (line.split() for line in lines)}


@pytest.mark.parametrize(
    ("left_out", "level"),
    [((), "disk"), (("appendfsync",), "process"), (("appendonly", "appendfsync"), "memory")],
)
async def test_the_level_that_a_configuration_gives(
    left_out: tuple[str, ...], level: str, caplog: pytest.LogCaptureFixture
) -> None:
    """At `disk` the log says so; below, the queue has a caveat, which says what to set."""
    caplog.set_level(logging.INFO)
    given = {name: value for name, value in options().items() if name not in left_out}
    with RedisServer(**given) as server:
        async with await open_queue(server.url) as queue:
            if level == "disk":
                assert not queue.caveats
                assert "durability level disk, Redis loses nothing" in caplog.text
                return
            (caveat,) = queue.caveats
    assert f"durability level {level}" in caveat
    assert "set appendonly yes and appendfsync always" in caveat
    assert re.match(r"queue redis://127\.0\.0\.1:\d+/0: ", caveat)
