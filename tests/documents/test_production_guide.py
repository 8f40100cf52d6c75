"""What the production guide says of Redis holds for a real server that is set up as it says."""

import asyncio
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from osmo_deployed.layout import OsmoLayout
from osmo_listener.config import ListenerConfig
from osmo_listener.service import run_listener
from osmo_operator.config import OperatorConfig
from osmo_operator.service import run_operator
from osmo_reports.bodies import Registration
from osmo_reports.directory import open_directory
from osmo_reports.directory import scripts as directory
from osmo_runtime.queues import QueueLayout
from osmo_simulator.builders import make_node, make_pod, task_labels
from osmo_simulator.server import Simulator
from osmo_transport import QueueRefusedError, open_queue
from osmo_transport.queues.redis.layout import OwnLayout
from osmo_transport.queues.redis.scripts import entries, looks, producers, state
from osmo_transport.queues.redis.scripts.script import Script
from osmo_transport.testing.redis_server import RedisServer, redis_programs
from osmo_worker.config import WorkerConfig
from osmo_worker.metrics import WorkerMetrics
from osmo_worker.service import run_worker
from tests.documents.guide import fenced
from tests.documents.rights import GUIDE, LAYOUTS, ROLES, allow, denied, rules_of
from tests.helpers import eventually

_CALL = re.compile(r"redis\.p?call\('([A-Z]+)'(?:, '([A-Z]+)')?")


def scripts_of(module: ModuleType) -> set[Script]:
    """Those that a module defines."""
    return {found for found in vars(module).values() if isinstance(found, Script)}


EVERYBODY = {state.EPOCH, state.STATUS}
SCRIPTS = {
    "operator": {
        *(OwnLayout.append, producers.OPEN, producers.RENEW),
        *(directory.REGISTER, directory.RESTORE_CLAIM),
        *(directory.SET_RULES, directory.RESTORE, directory.ADOPT),
    },
    "worker": {producers.RAISE, *scripts_of(entries)},
    "admin": {
        *(OwnLayout.replay, producers.RESET, *scripts_of(looks)),
        *(directory.SET_RULES, directory.FORGET),
    },
    "reader": scripts_of(looks),
}
"""What each role does atomically."""

CONNECTING = {"config|get", "evalsha", "info", "script|load"}
COMMANDS = {
    "operator": {"hgetall", "lindex", "xread", "xrevrange"},
    "worker": {"get", "xpending", "xreadgroup"},
    "admin": {"hgetall", "xdel"},
    "reader": {"hgetall"},
}
"""And besides."""

LEFT_TO_OTHERS = {"admin": {"set"}, "reader": {"set", "hincrby", "hset"}}
"""What is done by who may write: see `scripts.state`; a look at leases changes none."""

OF_LISTS = {"operator": {"del", "lindex", "llen", "lpush", "ltrim"}, "admin": {"lpush", "ltrim"}}
"""What only the deployed layout needs."""

SEEN = 0.05
"""Seconds between two looks of a service."""


@pytest.fixture(scope="module", params=redis_programs())
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """One of each kind, the oldest supported included."""
    with RedisServer(redis_programs()[request.param]) as started:
        yield started


def commands_of(scripts: set[Script]) -> set[str]:
    """What they run, with the subcommand of what has one."""
    found = {call for script in scripts for call in _CALL.findall(script.text)}
    return {"|".join(filter(None, call)).lower() for call in found}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_user_may_do_what_its_scripts_do(role: str, layout: QueueLayout) -> None:
    """Also in branches that no other test takes; and nothing else."""
    needed = {*CONNECTING, *COMMANDS[role], *commands_of(EVERYBODY | SCRIPTS[role])}
    needed -= LEFT_TO_OTHERS.get(role, set())
    if layout == "own":
        needed -= OF_LISTS.get(role, set())
    given = rules_of(role, layout)
    assert {rule[1:] for rule in given if rule.startswith("+")} == needed
    assert [rule for rule in given if rule.startswith("-")] == []


def test_every_script_is_somebodys() -> None:
    """A new one is not forgotten."""
    known = EVERYBODY.union(*SCRIPTS.values())
    modules = entries, looks, producers, state, directory
    assert set().union(*map(scripts_of, modules)) <= known
    assert commands_of({OsmoLayout.append}) == commands_of({OwnLayout.append})
    assert commands_of({OsmoLayout.replay}) == commands_of({OwnLayout.replay})


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_the_programs_run_with_these_users(
    server: RedisServer, layout: QueueLayout, tmp_path: Path
) -> None:
    """A listener, an operator and a worker; nothing is denied."""
    server.flush()
    users = allow(server, layout)
    stop, metrics = asyncio.Event(), WorkerMetrics()
    urls: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
    operator = OperatorConfig(
        queue=users["operator"], listen=("memory://",), layout=layout, check_interval=SEEN
    )
    worker = WorkerConfig(
        queue=users["worker"],
        layout=layout,
        store=f"sqlite:///{tmp_path}/osmo.db",
        check_interval=SEEN,
    )
    kubeconfig = tmp_path / "kubeconfig"
    async with Simulator() as simulator:
        kubeconfig.write_text(simulator.kubeconfig("osmo"))
        simulator.cluster.create("nodes", make_node("n1"))
        labels, running = task_labels("w", "t"), {"phase": "Running"}
        simulator.cluster.create("pods", make_pod("task", labels=labels, node="n1", status=running))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(run_operator(operator, stop, urls.set_result))
            tasks.create_task(run_worker(worker, stop, lambda: None, metrics=metrics))
            listener = ListenerConfig(backend="b", connect=(await urls)[0], kubeconfig=kubeconfig)
            tasks.create_task(run_listener(listener, stop))
            await eventually(lambda: metrics.of("update_pod").handled)
            await eventually(lambda: metrics.of("update_node").handled)
            stop.set()
    assert not denied(server)


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_the_directory_is_kept_with_these_users(
    server: RedisServer, layout: QueueLayout
) -> None:
    """What operators and commands do there; nothing is denied."""
    server.flush()
    users = allow(server, layout)
    async with (
        await open_directory(users["operator"]) as told,
        await open_directory(users["admin"]) as changed,
        await open_directory(users["reader"]) as seen,
    ):
        await told.register("b", Registration(cluster_uid="uid"))
        rules = await changed.set_rules("b", {"Ready": "True"})
        await told.adopt_rules(["b"])
        following = told.follow_rules()
        assert (await anext(following))["b"] == rules
        await changed.set_rules("b", {"Ready": "Unknown"})
        assert (await anext(following))["b"] != rules
        await following.aclose()
        names = told.follow_claims()
        claims = await anext(names)
        await names.aclose()
        server.flush()
        await told.restore_rules({"b": rules})
        assert (await seen.rules())["b"] == (await changed.rules())["b"] == rules
        await told.declare_rules("b", {"Ready": "True"})
        await told.restore_claims(claims)
        assert await seen.backends() == await changed.backends() != {}
        assert await changed.forget("b")
    assert not denied(server)


async def test_a_reader_looks_at_a_queue_that_nobody_has_opened(server: RedisServer) -> None:
    """Nothing is made, which he may not."""
    server.flush()
    users = allow(server, "own")
    async with await open_queue(users["reader"]) as queue:
        assert (await queue.status()).queue_epoch == ""
    assert server.command("KEYS", "*") == []


async def test_a_worker_reaches_nothing_but_the_entries(server: RedisServer) -> None:
    """What operators keep is out of its reach, and so is another namespace."""
    server.flush()
    users = allow(server, "own")
    for role, url in users.items():
        with pytest.raises(
            QueueRefusedError, match=rf"osmo-{role} .* use its keys: allow it ~{{x}}:\*"
        ):
            await open_queue(url.replace("namespace=osmo", "namespace=x"))
    async with await open_queue(users["worker"]) as queue:
        with pytest.raises(QueueRefusedError, match="use its keys"):
            await queue.reset("b")
        with pytest.raises(QueueRefusedError, match="use its keys"):
            await queue.producers(1)


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
