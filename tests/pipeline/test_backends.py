"""`osmo-pipeline backends`: what is known of each, and how to be rid of one."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from osmo_pipeline.commands import backends, rules
from osmo_pipeline.commands.backends import (
    ForgetConfig,
    ListConfig,
    PurgeConfig,
    ResetConfig,
    ShowConfig,
)
from osmo_pipeline.commands.rules import GetRulesConfig, SetRulesConfig
from osmo_pipeline.errors import NothingFoundError, RefusedError, StoppedError
from osmo_pipeline.fleet import State, standings
from osmo_reports.bodies import Registration
from osmo_reports.directory import open_directory
from osmo_transport import (
    NEW,
    Claim,
    Message,
    Producer,
    Queue,
    QueueUnavailableError,
    Standing,
    open_queue,
)
from osmo_transport.testing.redis_server import RedisServer
from osmo_worker.store import StateStore, open_store, retention
from tests.worker.harness import delivery, heartbeat, node_report, report

HOSTILE = "\x1b[2J\u202e<b>"
MINUTES_AGO = 120.0


@pytest.fixture
def stop() -> asyncio.Event:
    """Nobody has asked to stop yet."""
    return asyncio.Event()


@pytest.fixture
def place(server: RedisServer, tmp_path: Path) -> dict[str, Any]:
    """The settings that name a queue of the test's own, and a store."""
    return {"queue": server.url, "store": f"sqlite:///{tmp_path}/store.db"}


@pytest.fixture
async def queue(place: dict[str, Any]) -> AsyncIterator[Queue]:
    """The queue."""
    async with await open_queue(place["queue"]) as opened:
        yield opened


async def _reports(
    queue: Queue, backend: str, source: str = "osmo-listener", credential: str = "token a"
) -> None:
    """A listener holds the place."""
    claim = Claim(
        waits=True, lease=30.0, connection="c", address="10.0.0.7:4711", credential=credential
    )
    await queue.open_producer(Producer(backend, source), "i1", NEW, claim)


async def _registers(place: dict[str, Any], backend: str) -> None:
    """A listener has been let in."""
    async with await open_directory(place["queue"]) as directory:
        await directory.register(backend, Registration("uid-1", "osmo", "9.9"))


async def _applied(place: dict[str, Any], backend: str, *messages: Message, age: float) -> None:
    """A worker has applied these, `age` seconds ago."""
    async with open_store(place["store"], clock=lambda: time.time() - age) as store:
        await store.handle_batch([delivery(message, backend=backend) for message in messages])


def _heartbeat(age: float) -> Message:
    return heartbeat(at=time.time() - age)


def shown(capsys: pytest.CaptureFixture[str]) -> Any:
    """The JSON document that was written."""
    return json.loads(capsys.readouterr().out)


async def test_every_backend_is_listed_that_any_of_three_knows(
    place: dict[str, Any], queue: Queue, stop: asyncio.Event, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who reports it from where, its tasks and nodes, and whether it is silent."""
    await _registers(place, "registered")
    await _reports(queue, "reporting")
    nodes = (node_report("n1"), node_report("n2", available=False))
    await _applied(place, "reporting", report(), *nodes, _heartbeat(1.0), age=1.0)
    await _applied(place, HOSTILE, report(), _heartbeat(MINUTES_AGO), age=MINUTES_AGO)
    await backends.list_backends(ListConfig(**place, json=True), stop)
    found = {each["backend"]: each for each in shown(capsys)}
    assert sorted(found) == sorted(["registered", "reporting", HOSTILE])
    one = found["reporting"]
    assert (one["state"], one["address"], one["version"]) == ("ok", "10.0.0.7:4711", "1.0")
    assert (one["tasks"], one["nodes"]) == ({"RUNNING": 1}, {"available": 1, "unavailable": 1})
    assert 0 <= one["heartbeat_age_seconds"] < 60
    assert 0 <= one["reporting_seconds"] < 60
    (producer,) = one["producers"]
    assert (producer["source"], producer["instance"]) == ("osmo-listener", "i1")
    assert (producer["reports"], producer["epoch"]) == (True, one["epoch"])
    assert one["credentials"] == [producer["credential"]] == ["token a"]
    assert found["registered"]["credentials"] is None
    assert found["registered"]["state"] == found[HOSTILE]["state"] == "silent"
    assert found["registered"]["version"] == "9.9"
    blind = heartbeat(version=(1, 2), at=time.time(), watch_ages={"node": 3.0, "workflow": 200.0})
    await _applied(place, "reporting", blind, age=0.0)
    await backends.list_backends(ListConfig(**place, json=True, state=State.BLIND), stop)
    (one,) = shown(capsys)
    assert (one["backend"], one["watch_ages"]["workflow"]) == ("reporting", 200.0)
    config = ListConfig(**place, silent_after=1e6, blind_after=201.0, state=State.OK)
    await backends.list_backends(config, stop)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["BACKEND", r"\x1b[2J\u202e<b>", "reporting"]
    assert lines[2].split()[4:6] == ["1", "1/2"]


async def test_without_a_store_the_queue_is_asked_alone(
    place: dict[str, Any], queue: Queue, stop: asyncio.Event, capsys: pytest.CaptureFixture[str]
) -> None:
    """A backend is away that nobody reports; what the store would tell is not known."""
    del place["store"]
    with pytest.raises(NothingFoundError):
        await backends.list_backends(ListConfig(**place), stop)
    await _registers(place, "away")
    await _reports(queue, "there")
    capsys.readouterr()
    await backends.list_backends(ListConfig(**place, json=True), stop)
    found = shown(capsys)
    assert [(each["backend"], each["state"]) for each in found] == [
        ("away", "away"),
        ("there", "ok"),
    ]
    assert {each["tasks"] for each in found} == {None}
    await backends.list_backends(ListConfig(**place, containing="THE"), stop)
    captured = capsys.readouterr()
    assert captured.out.splitlines()[1].split()[:6] == ["there", "ok", "?", "0s", "?", "?"]
    assert "--store tells" in captured.err
    with pytest.raises(NothingFoundError):
        await backends.list_backends(ListConfig(**place, state=State.SILENT), stop)


async def test_all_of_one_backend_is_shown(
    place: dict[str, Any], queue: Queue, stop: asyncio.Event, capsys: pytest.CaptureFixture[str]
) -> None:
    """With its rules and the nodes that are not available; one that is not known is said to be."""
    await _reports(queue, "a")
    await _applied(place, "a", node_report("n1", available=False), _heartbeat(1.0), age=1.0)
    await rules.set_rules(SetRulesConfig(**_queue(place), backend="a", rules={"Ready": "x"}), stop)
    capsys.readouterr()
    await backends.show_backend(ShowConfig(**place, backend="a", json=True), stop)
    one = shown(capsys)
    assert (one["backend"], one["state"], one["rules"]) == ("a", "ok", {"Ready": "x"})
    assert one["rules_origin"] == "command"
    assert (one["unavailable_nodes"], one["nodes"]["unavailable"]) == (["n1"], 1)
    await backends.show_backend(ShowConfig(**_queue(place), backend="a"), stop)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["backend: a", "state: ok"]
    assert "nodes: -" in lines
    with pytest.raises(NothingFoundError, match="'b'"):
        await backends.show_backend(ShowConfig(**_queue(place), backend="b"), stop)


async def test_a_backend_is_purged_once_nobody_reports_it(
    place: dict[str, Any],
    queue: Queue,
    stop: asyncio.Event,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Not while a listener holds its place or the store has just heard of it, unless by force."""
    await _applied(place, "a", report(), _heartbeat(1.0), age=1.0)
    config = {**place, "backend": "a"}
    with pytest.raises(RefusedError, match=r"heard of a .* ago"):
        await backends.purge_backend(PurgeConfig(**config), stop)
    await _reports(queue, "a")
    with pytest.raises(RefusedError, match=r"reported by i1 from 10\.0\.0\.7:4711"):
        await backends.purge_backend(PurgeConfig(**config, silent_after=0.001), stop)
    async with open_store(place["store"]) as store:
        assert len(await store.tasks()) == 1
        capsys.readouterr()
        await backends.purge_backend(PurgeConfig(**config, force=True, json=True), stop)
        assert shown(capsys) == {
            "backend": "a",
            "removed": {"events": 0, "tasks": 1, "usage": 0, "nodes": 0, "backends": 1},
            "complete": True,
        }
        assert not await store.tasks()
        assert not await store.backends()
    with pytest.raises(NothingFoundError, match="knows no backend 'a'"):
        await backends.purge_backend(PurgeConfig(**config), stop)


async def test_a_backend_that_others_purge_meanwhile(
    place: dict[str, Any], stop: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Is refused in words: there is nothing left of it."""
    await _applied(place, "a", report(), age=MINUTES_AGO)
    config = PurgeConfig(**place, backend="a")

    async def purged_meanwhile(queue: Queue) -> list[Standing]:
        await backends.purge_backend(replace(config, force=True), stop)
        return await standings(queue)

    monkeypatch.setattr(backends, "standings", purged_meanwhile)
    with pytest.raises(NothingFoundError, match="knows no backend 'a' any more"):
        await backends.purge_backend(config, stop)


async def test_the_store_tells_what_it_knows_while_the_queue_is_away(
    place: dict[str, Any], stop: asyncio.Event, capsys: pytest.CaptureFixture[str]
) -> None:
    """And the command fails all the same: not all is told."""
    await _applied(place, "a", report(), age=1.0)
    config = ListConfig(queue="redis://127.0.0.1:1", store=place["store"], json=True)
    with pytest.raises(QueueUnavailableError):
        await backends.list_backends(config, stop)
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["backend"], row["tasks"], row["epoch"]) == ("a", {"RUNNING": 1}, None)
    with pytest.raises(QueueUnavailableError):
        await backends.list_backends(replace(config, store=None), stop)


async def test_a_purge_that_another_one_overtakes(
    place: dict[str, Any], stop: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Does not say that the backend was heard of: it is gone."""
    await _applied(place, "a", report(), age=MINUTES_AGO)
    config = PurgeConfig(**place, backend="a")
    check = backends._check_unreported

    async def checked_and_overtaken(config: PurgeConfig, store: StateStore) -> None:
        await check(config, store)
        await backends.purge_backend(replace(config, force=True), stop)

    monkeypatch.setattr(backends, "_check_unreported", checked_and_overtaken)
    with pytest.raises(NothingFoundError, match="knows no backend 'a' any more"):
        await backends.purge_backend(config, stop)


async def test_a_purge_that_is_stopped_says_what_it_did(
    place: dict[str, Any],
    stop: asyncio.Event,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And the next one does the rest."""
    monkeypatch.setattr(retention, "STEP_ROWS", 2)
    await _applied(place, "a", *(report(f"t{n}") for n in range(3)), age=MINUTES_AGO)
    stop.set()
    config = PurgeConfig(**place, backend="a")
    with pytest.raises(StoppedError, match="run it again"):
        await backends.purge_backend(config, stop)
    assert capsys.readouterr().out == "a: removed 0 events\n"
    stop.clear()
    await backends.purge_backend(config, stop)
    assert capsys.readouterr().out == "a: removed 0 events, 3 tasks, 0 usage, 0 nodes and itself\n"


async def test_all_are_told_that_report_a_backend_by_a_credential_of_their_own(
    place: dict[str, Any], queue: Queue, stop: asyncio.Event, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same one once."""
    await _reports(queue, "a", "pods", "token one")
    await _reports(queue, "a", "nodes", "token two")
    await _reports(queue, "a", "events", "token two")
    await _reports(queue, "a", "usage", "")
    await backends.show_backend(ShowConfig(**_queue(place), backend="a", json=True), stop)
    row = shown(capsys)
    assert sorted(row["credentials"]) == ["token one", "token two"]
    by_source = {each["source"]: each["credential"] for each in row["producers"]}
    assert by_source == {
        "pods": "token one",
        "nodes": "token two",
        "events": "token two",
        "usage": None,
    }
    await backends.list_backends(ListConfig(**_queue(place)), stop)
    assert "token two token one" in capsys.readouterr().out


async def test_no_rules_of_a_backend_that_is_not_known_may_be_back_soon(
    place: dict[str, Any], queue: Queue, stop: asyncio.Event, capsys: pytest.CaptureFixture[str]
) -> None:
    """As after the queue lost its memory; of one that is known there are none."""
    config = GetRulesConfig(**_queue(place), backend="a")
    await rules.get_rules(config, stop)
    assert "operators put back what they know within seconds" in capsys.readouterr().err
    await _registers(place, "a")
    await rules.get_rules(config, stop)
    assert "a has no rules of its own" in (said := capsys.readouterr().err)
    assert "put back" not in said


async def test_programs_read_what_the_other_commands_did(
    place: dict[str, Any], queue: Queue, stop: asyncio.Event, capsys: pytest.CaptureFixture[str]
) -> None:
    """One document each."""
    where = {**_queue(place), "backend": "a", "json": True}
    await rules.get_rules(GetRulesConfig(**where), stop)
    assert shown(capsys) == {
        "backend": "a",
        "origin": "default",
        "version": None,
        "rules": {"Ready": "True"},
        "registered": False,
    }
    await rules.set_rules(SetRulesConfig(**where, rules={"Ready": "False"}), stop)
    done = shown(capsys)
    assert (done["rules"], done["registered"]) == ({"Ready": "False"}, False)
    await rules.get_rules(GetRulesConfig(**where), stop)
    assert shown(capsys)["version"] == done["version"]
    await _reports(queue, "a")
    await _applied(place, "a", report(), age=1.0)
    await backends.reset_backend(ResetConfig(**where, store=place["store"]), stop)
    assert shown(capsys) == {"backend": "a", "rows": 0, "producers": 1}
    await backends.forget_backend(ForgetConfig(**where), stop)
    assert shown(capsys) == {"backend": "a", "forgotten": True}
    with pytest.raises(NothingFoundError, match="no backend is called 'b'"):
        await backends.forget_backend(ForgetConfig(**{**where, "backend": "b"}), stop)


def _queue(place: dict[str, Any]) -> dict[str, Any]:
    return {"queue": place["queue"]}
