"""Every command over a queue, a directory and a store that are full of hostile texts."""

import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from osmo_pipeline.__main__ import COMMANDS
from osmo_reports.bodies import PodEvent, Registration, Taint, UpdateNode, UpdatePod, encode_body
from osmo_reports.directory import open_directory
from osmo_runtime.queues import with_all_streams
from osmo_transport import (
    NEW,
    Claim,
    Message,
    Producer,
    QueueConfig,
    Version,
    new_message,
    open_queue,
)
from osmo_transport.message import MAX_NAME
from osmo_transport.testing.redis_server import RedisServer
from osmo_worker.store import open_store
from tests.pipeline.commands import Commands, commands
from tests.pipeline.test_dead_letters import bury
from tests.worker.harness import delivery, heartbeat

FORGED = "FORGED"
"""No line begins with it, or a name could say what we did not."""

HOSTILE = (
    f"\x1b[2J\x1b]0;t\x07\x9b31m\0\x7f\u202e\u2066\u200b\u2028\r\n{FORGED}\r{FORGED}\x85{FORGED}"
    "<script>alert(1)</script>%s%n{0}{x.__class__}=cmd|' /C calc'!A0`$(id);'\"\\"
)
LONG = HOSTILE * 500
"""Longer than anything that is shown whole."""

TYPED = HOSTILE.replace("\0", "")
"""As far as a command line can hold it."""


class Given(NamedTuple):
    """Where all of it is."""

    places: tuple[str, ...]
    """Options that name the queue and the store."""
    letters: list[str]
    run: Commands


def _message(kind: str, body: object, payload: bytes | None = None) -> Message:
    data = encode_body(body) if payload is None else payload  # type: ignore[arg-type]
    return new_message(kind, HOSTILE[:MAX_NAME], data, version=Version(1, 1))


@pytest.fixture
async def given(server: RedisServer, tmp_path: Path) -> AsyncIterator[Given]:
    """Names, reasons, bodies and bytes, and what no layout can read."""
    store_url = f"sqlite:///{tmp_path}/store.db"
    pod = UpdatePod(HOSTILE, HOSTILE, 0, HOSTILE, HOSTILE, HOSTILE, HOSTILE, LONG[:100_000])
    node = UpdateNode(
        HOSTILE, HOSTILE, labels={HOSTILE: HOSTILE}, taints=(Taint(HOSTILE, HOSTILE),)
    )
    reports = [
        _message("update_pod", pod),
        _message("update_node", node),
        _message("pod_event", PodEvent(HOSTILE, HOSTILE, HOSTILE)),
        _message(HOSTILE, None, HOSTILE.encode()),
    ]
    async with (
        await open_queue(server.url, with_all_streams(QueueConfig())) as queue,
        await open_directory(server.url) as directory,
        open_store(store_url) as store,
    ):
        await bury(queue, HOSTILE, {LONG: reports[0], HOSTILE: reports[1]})
        server.command("XADD", "{osmo}:dead", "*", "b", b"\xff" + HOSTILE.encode(), "r", LONG)
        server.command("XADD", "{osmo}:stream:pods", "*", b"\xff", HOSTILE)
        claim = Claim(waits=True, lease=30.0, connection=HOSTILE, address=HOSTILE)
        await queue.open_producer(Producer(HOSTILE, HOSTILE), HOSTILE, NEW, claim)
        await queue.open_producer(Producer(TYPED, TYPED), TYPED, NEW, claim)
        for name in (HOSTILE, TYPED):
            await directory.register(name, Registration(HOSTILE, HOSTILE, HOSTILE, HOSTILE))
            await store.handle_batch(
                [delivery(each, backend=name) for each in (*reports[:3], heartbeat())]
            )
        await directory.set_rules(TYPED, {f"x\x1b\n{FORGED}": "\u202e"})
        server.command("HSET", "{osmo}:rules", b"\xff" + HOSTILE.encode(), HOSTILE)
        server.command("HSET", "{osmo}:backends", b"\xff" + HOSTILE.encode(), HOSTILE)
        letters = [letter.id for letter in await queue.dead_letters(9)]
        assert len(letters) == 3
    with commands(tmp_path) as run:
        yield Given(("--queue", server.url, "--store", store_url), letters, run)


COMMAND_LINES: dict[tuple[str, ...], Sequence[str]] = {
    ("queue", "status"): (),
    ("queue", "peek"): (),
    ("dlq", "list"): ("--reason", "script"),
    ("dlq", "show"): ("LETTERS",),
    ("rules", "set"): (TYPED, f"{TYPED}=("),
    ("rules", "get"): (TYPED,),
    ("backends", "list"): (),
    ("backends", "show"): (TYPED,),
    ("top",): ("--once", "--interval", "0.001"),
    ("dlq", "replay"): ("--backend", TYPED),
    ("backends", "reset"): (TYPED,),
    ("backends", "purge"): (TYPED,),
    ("backends", "forget"): (TYPED,),
    ("rules", "clear"): (TYPED,),
    ("dlq", "drop"): ("LETTERS",),
}
"""In their order: those that change something come last."""
TOKENS = {("tokens", "add"), ("tokens", "list"), ("tokens", "revoke")}
"""About a file of one's own; `test_tokens` has theirs."""
NOT_ABOUT_DATA = {("demo",), ("web",), ("completion",), *TOKENS}
"""What only services or the program itself say."""
WITH_STORE = {"list", "show", "reset", "purge", "top"}


def test_the_table_has_every_command() -> None:
    """A new one is put to the same test."""
    assert set(COMMAND_LINES) == COMMANDS.keys() - NOT_ABOUT_DATA


async def test_nothing_hostile_reaches_a_terminal(given: Given) -> None:
    """Tables, JSON, hints and errors hold printable characters alone, and no line that a name
    made."""
    for words, rest in COMMAND_LINES.items():
        wants_store = words[0] != "dlq" and words[-1] in WITH_STORE
        places = given.places if wants_store else given.places[:2]
        arguments = given.letters if tuple(rest) == ("LETTERS",) else list(rest)
        for form in (["--log-format=text"], ["--log-format=json", "--json"]):
            _, out, err = given.run(*words, *arguments, *places, *form)
            assert "Traceback" not in err, (words, err)
            said = out + err
            assert said.replace("\n", "").isprintable(), (words, form)
            assert not [line for line in said.split("\n") if line.lstrip().startswith(FORGED)]
            assert out or err, words
            if "--json" in form and out:
                json.loads(out)
