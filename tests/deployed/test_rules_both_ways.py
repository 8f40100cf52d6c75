"""Condition rules, set at either side, reach the listeners of both (2.1)."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from osmo_operator import service
from osmo_operator.config import OperatorConfig
from osmo_operator.service import run_operator
from osmo_reports import open_directory
from osmo_reports.conditions import DEFAULT_RULES
from osmo_reports.directory import RULES_KIND, Directory, Origin, decode_rules
from osmo_reports.directory.redis import MAX_WAITING
from osmo_runtime.queues import queue_url
from osmo_transport import connect
from osmo_transport.testing.redis_server import RedisServer
from tests.deployed.harness import deployed
from tests.deployed.programs import DeployedOperator, DeployedService
from tests.deployed.test_osmo_layout_services import running
from tests.helpers import eventually
from tests.queues.harness import cluster_of_one

LIST = "backend-connections:east"


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Operators look for rules of others without a pause that a test would notice."""
    monkeypatch.setattr(service, "RULES_INTERVAL", 0.01)


@asynccontextmanager
async def shared(server: RedisServer) -> AsyncIterator[Directory]:
    """The directory beside the queue that is shared with those deployed."""
    async with await open_directory(queue_url(server.url, "osmo")) as directory:
        yield directory


@asynccontextmanager
async def operating(server: RedisServer, user: str = "") -> AsyncIterator[tuple[str, str]]:
    """An operator of ours; where it listens for listeners of ours, and for deployed ones."""
    config = OperatorConfig(
        listen=("ws://127.0.0.1:0", "grpc://127.0.0.1:0"),
        queue=server.url.replace("//", f"//{user}"),
        layout="osmo",
        drain_timeout=1.0,
    )
    async with running(lambda stop, ready: run_operator(config, stop, ready)) as (ours, theirs):
        yield ours, theirs.removeprefix("grpc://")


async def test_what_we_set_reaches_deployed_listeners(
    server: RedisServer, operator: DeployedOperator
) -> None:
    """A deployed operator takes it from its list, in the order in which it was set; what a
    forgotten backend goes back to as well."""
    async with shared(server) as directory:
        await directory.set_rules("east", {"Ready": "True", "^Gpu.*": "False|Unknown"})
        await directory.set_rules("west", {"Disk": "False"})
        await directory.set_rules("east", {"": "True"})
        await directory.forget("east")
    assert [operator.rules("east") for _ in range(4)] == [
        {"rules": {"Ready": "True", "^Gpu.*": "False|Unknown"}},
        {"rules": {"": "True"}},
        {"rules": DEFAULT_RULES},
        None,
    ]
    assert operator.rules("west") == {"rules": {"Disk": "False"}}


async def test_what_nobody_takes_is_bounded(
    server: RedisServer, operator: DeployedOperator
) -> None:
    """Each replaces all before it: the oldest go."""
    async with shared(server) as directory:
        for number in range(MAX_WAITING + 5):
            await directory.set_rules("east", {"Ready": str(number)})
    assert server.command("LLEN", LIST) == MAX_WAITING
    assert operator.rules("east") == {"rules": {"Ready": "5"}}


async def test_in_our_own_layout_nobody_else_is_told(server: RedisServer) -> None:
    """Nor is anything taken from there."""
    server.command("LPUSH", LIST, '{"rules": {"Ready": "Unknown"}}')
    async with await open_directory(server.url) as directory:
        await directory.set_rules("east", {"Ready": "False"})
        await directory.adopt_rules(["east"])
        assert (await directory.rules())["east"].rules == {"Ready": "False"}
    assert server.command("LLEN", LIST) == 1


async def test_what_the_deployed_service_sets_reaches_every_listener(
    server: RedisServer, deployed_service: DeployedService, stub: Any
) -> None:
    """Ours, and deployed ones that report to an operator of ours, each of every operator; and
    whoever connects later."""
    async with (
        operating(server) as (url, target),
        operating(server) as (other, _),
        connect(url, backend="east") as one,
        connect(other, backend="east", source="nodes") as two,
        deployed(stub, target, "east") as listener,
        connect(other, backend="west") as stranger,
    ):
        call = listener.conditions()
        assert (await call.read()).node_conditions.rules == DEFAULT_RULES
        for client in (one, two, stranger):
            await client.epoch_after(0)
        version = 0
        for rules in ({"Ready": "True", "Disk": "False"}, {"": "True"}, {}):
            deployed_service.set_rules("east", rules)
            pushes = [await client.push_after(RULES_KIND, version) for client in (one, two)]
            assert [decode_rules(push.payload) for push in pushes] == [rules, rules]
            version = pushes[0].version
            while (answer := await call.read()).HasField("heartbeat"):
                pass
            assert answer.node_conditions.rules == rules
        async with connect(url, backend="east", source="late") as late:
            assert decode_rules((await late.push_after(RULES_KIND, 0)).payload) == {}
        assert server.command("EXISTS", LIST) == 0


async def test_what_we_set_is_told_once(server: RedisServer) -> None:
    """Our own operators, who find it in the list, know it already: its version stays."""
    async with (
        shared(server) as directory,
        operating(server) as (url, _),
        connect(url, backend="east") as client,
    ):
        await client.epoch_after(0)
        known = await directory.set_rules("east", {"Ready": "False"})
        assert (await client.push_after(RULES_KIND, 0)).version == known.version
        await eventually(lambda: server.command("EXISTS", LIST) == 0)
        assert await directory.rules() == {"east": known}


async def test_of_several_the_newest_counts(
    server: RedisServer, deployed_service: DeployedService
) -> None:
    """Whoever set it: those before it are never told."""
    async with shared(server) as directory:
        deployed_service.set_rules("east", {"Ready": "1"})
        await directory.set_rules("east", {"Ready": "2"})
        deployed_service.set_rules("east", {"Ready": "3"})
        await directory.adopt_rules(["west", "east"])
        assert {name: found.rules for name, found in (await directory.rules()).items()} == {
            "east": {"Ready": "3"}
        }
        assert server.command("EXISTS", LIST) == 0


async def test_backends_of_others_are_left_to_them(
    server: RedisServer, operator: DeployedOperator, deployed_service: DeployedService
) -> None:
    """While no listener of a backend reports to us, a deployed operator takes its rules."""
    async with operating(server) as (url, _), connect(url, backend="west") as client:
        await client.epoch_after(0)
        deployed_service.set_rules("east", {"Ready": "False"})
        deployed_service.set_rules("west", {"Ready": "False"})
        await client.push_after(RULES_KIND, 0)
        assert operator.rules("east") == {"rules": {"Ready": "False"}}


@pytest.mark.parametrize(
    "payload",
    [
        *("", "[]", "{", '{"rules": ["Ready"]}', '{"rules": {"Ready": true}}', "\x00"),
        '{"rules": ' + "[" * 100_000,
        json.dumps({"rules": {"Ready": "x" * 300_000}}),
    ],
    ids=lambda payload: payload[:12] or "empty",
)
async def test_what_cannot_be_read_is_left_out(
    server: RedisServer, payload: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With a word, and it keeps nobody from what comes next."""
    async with shared(server) as directory:
        known = await directory.set_rules("east", {"Ready": "True"})
        server.command("LPUSH", LIST, payload)
        await directory.adopt_rules(["east"])
        assert await directory.rules() == {"east": known}
        assert "east" in caplog.text
        server.command("LPUSH", LIST, '{"rules": {"Ready": "False"}, "new": 1}')
        await directory.adopt_rules(["east"])
        assert (await directory.rules())["east"].rules == {"Ready": "False"}


async def test_what_a_file_declares_is_left_alone(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """What the deployed service sets is taken from the list, and left out with a word; those
    deployed are told what the file declares."""
    async with shared(server) as directory:
        known = await directory.declare_rules("east", {"Ready": "True"})
        assert server.command("LRANGE", LIST, 0, -1) == [b'{"rules":{"Ready":"True"}}']
        await directory.adopt_rules(["east"])
        assert not caplog.text
        server.command("LPUSH", LIST, '{"rules": {"Ready": "False"}}')
        await directory.adopt_rules(["east"])
        assert await directory.rules() == {"east": known}
        assert "rules that were set for east elsewhere are left out" in caplog.text
        await directory.declare_rules("east", None)
        server.command("LPUSH", LIST, '{"rules": {"Ready": "False"}}')
        await directory.adopt_rules(["east"])
        assert (await directory.rules())["east"].origin is Origin.DEPLOYED


async def test_what_is_put_back_leaves_what_others_told_since(server: RedisServer) -> None:
    """It is newer, and is taken over; where they told nothing, they are told again."""
    async with shared(server) as directory:
        known = await directory.set_rules("east", {"Ready": "1"})
        server.flush()
        await directory.restore_rules({"east": known})
        assert server.command("LRANGE", LIST, 0, -1) == [b'{"rules":{"Ready":"1"}}']
        server.flush()
        server.command("LPUSH", LIST, '{"rules": {"Ready": "2"}}')
        await directory.restore_rules({"east": known})
        await directory.adopt_rules(["east"])
        assert (await directory.rules())["east"].rules == {"Ready": "2"}


async def test_a_key_of_another_type_is_left_alone(server: RedisServer) -> None:
    """Rules are kept, and taken, as if it were not there."""
    server.command("SET", LIST, "something")
    async with shared(server) as directory:
        known = await directory.set_rules("east", {"Ready": "False"})
        await directory.adopt_rules(["east"])
        assert await directory.rules() == {"east": known}
    assert server.command("GET", LIST) == b"something"


async def test_a_cluster_is_not_shared() -> None:
    """There the list may be in another node than the queue's slot; rules are kept all the same."""
    with await cluster_of_one() as server:
        url = f"{queue_url(server.url, 'osmo')}&cluster=true"
        async with await open_directory(url) as directory:
            server.command("LPUSH", LIST, '{"rules": {"Ready": "Unknown"}}')
            known = await directory.set_rules("east", {"Ready": "False"})
            await directory.adopt_rules(["east"])
            assert await directory.rules() == {"east": known}
            assert await directory.forget("east")
        assert server.command("LLEN", LIST) == 1


async def test_rules_that_cannot_be_taken_end_no_operator(
    server: RedisServer, deployed_service: DeployedService, caplog: pytest.LogCaptureFixture
) -> None:
    """One that may read the list of others, and not change it, says so once and goes on."""
    rights = ("~*osmo*", "%R~backend-connections:*", "+@all")
    server.command("ACL", "SETUSER", "osmo", "reset", "on", ">pw", *rights)
    try:
        async with (
            operating(server, "osmo:pw@") as (url, _),
            connect(url, backend="east") as one,
            connect(url, backend="west") as other,
        ):
            for client in (one, other):
                await client.epoch_after(0)
            deployed_service.set_rules("east", {"Ready": "False"})
            await eventually(lambda: "are not taken over" in caplog.text)
            async with connect(url, backend="north") as late:
                assert await late.epoch_after(0)
        assert caplog.text.count("are not taken over") == 1
    finally:
        server.command("ACL", "DELUSER", "osmo")
