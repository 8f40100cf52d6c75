"""The commands that tell operators something, as a user types them."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from osmo_runtime.queues import QueueLayout
from osmo_transport import Reject, open_queue, publish
from osmo_transport.testing.redis_server import RedisServer
from tests.documents.rights import LAYOUTS, allow, denied
from tests.pipeline.commands import Commands, commands
from tests.queues.harness import report_with_body


@pytest.fixture(scope="module")
def osmo_pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    """The command line."""
    with commands(tmp_path_factory.mktemp("commands")) as started:
        yield started


def test_rules_are_set_and_read_back(tmp_path: Path, osmo_pipeline: Commands) -> None:
    """What `get` prints is what `set` takes; a wrong rule is named and changes nothing; a name that
    was forgotten has no rules."""
    with RedisServer() as redis:
        queue = ("--queue", redis.url)
        code, out, err = osmo_pipeline("rules", "get", "a", *queue)
        assert (code, out) == (0, "Ready=True\n")
        assert "no rules of its own" in err
        code, out, _ = osmo_pipeline("rules", "set", "a", "Ready=True", "^Gpu.*=False|x=y", *queue)
        assert code == 0
        assert out.startswith("a: 2 rules, version ")
        code, _, err = osmo_pipeline("rules", "set", "a", "Disk(=x", "Ready=True", *queue)
        assert code == 2
        assert "the rule Disk(=x" in err
        assert (
            "no listener has registered a"
            in osmo_pipeline("rules", "set", "a", "Ready=True", "^Gpu.*=False|x=y", *queue)[2]
        )
        code, out, err = osmo_pipeline("rules", "get", "a", *queue)
        assert out == "Ready=True\n'^Gpu.*=False|x=y'\n"
        assert "set by command" in err
        there = (*queue, "--layout=osmo")
        assert osmo_pipeline("rules", "get", "a", *there)[1] == "Ready=True\n"
        assert osmo_pipeline("rules", "set", "a", "Ready=False", *there)[0] == 0
        assert osmo_pipeline("rules", "get", "a", *there)[1] == "Ready=False\n"
        # What a deployed operator takes.
        assert redis.command("RPOP", "backend-connections:a") == b'{"rules":{"Ready":"False"}}'
        assert osmo_pipeline("backends", "forget", "a", *queue)[:2] == (
            0,
            "a is free, and the default rules hold for it\n",
        )
        assert osmo_pipeline("rules", "get", "a", *queue)[1] == "Ready=True\n"
        store = ("--store", f"sqlite:///{tmp_path}/store.db")
        code, out, err = osmo_pipeline("backends", "reset", "a", *queue, *store)
        assert (code, out) == (2, "")
        assert "store.db is not there: name the store of the workers" in err
        migrate = ("-m", "osmo_worker", "migrate", *store)
        subprocess.run([sys.executable, *migrate], check=True, capture_output=True)
        code, out, err = osmo_pipeline("backends", "reset", "a", *queue, *store)
        assert (code, out) == (
            0,
            "a: took back 0 rows of the future, and lets 0 producers begin anew\n",
        )
        assert "no producer of a backend 'a'" in err
        code, _, err = osmo_pipeline("backends", "forget", "a", *queue)
        assert code == 3
        assert "no backend is called 'a'" in err
        assert '"level":"WARNING"' in err


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (("rules",), 2, "say which: rules set, rules get, rules clear"),
        (("rules", "--json"), 2, "say which: rules set, rules get, rules clear"),
        (("rules", "sit", "a"), 2, "no command 'rules sit': did you mean 'rules set'?"),
        (("rule", "get", "a"), 2, "no command 'rule': did you mean 'rules get'?"),
        (("dmo", "--nodes", "1"), 2, "no command 'dmo': did you mean 'demo'?"),
        (("benhc",), 2, "no command 'benhc': did you mean 'bench'?"),
        (("dmo", "--help"), 2, "no command 'dmo': did you mean 'demo'?"),
        (("xyz",), 2, "no command 'xyz'; osmo-pipeline --help lists them"),
        (("rules", "set", "a"), 2, "rules is missing"),
        (("rules", "set", "a", "Ready"), 2, "expected pairs of a key and text, TYPE=STATUS"),
        (("rules", "set", "a", "A=x", "A=y"), 2, "'A' is given twice"),
        (("rules", "get", "a", "--queue=memory://"), 2, "ends with this command"),
        (("backends", "reset", "a"), 2, "store is missing"),
        (("backends", "reset", "a", "--store=memory://"), 2, "ends with this command"),
        (("rules", "get", "a", "--queue=redis://127.0.0.1:1"), 1, "is not available"),
    ],
)
def test_what_is_wrong_is_said(
    argv: tuple[str, ...], code: int, said: str, osmo_pipeline: Commands
) -> None:
    """Without a traceback, and with the exit code of its kind."""
    got, _, err = osmo_pipeline(*argv)
    assert got == code
    assert said in err
    assert "Traceback" not in err
    assert err.count("\n") == 1


def test_a_group_of_commands_has_help(osmo_pipeline: Commands) -> None:
    """The one that lists them."""
    code, out, _ = osmo_pipeline("rules", "--help")
    assert code == 0
    assert "rules set BACKEND TYPE=STATUS" in out


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_whoever_shows_and_whoever_changes_has_the_rights_of_the_guide(
    server: RedisServer, osmo_pipeline: Commands, layout: QueueLayout
) -> None:
    """Of Redis, and no others are asked for; who may only show is told what he may not."""
    users = allow(server, layout)
    async with await open_queue(users["operator"]) as queue:
        await publish(queue, [report_with_body(name, "update_node") for name in "abc"], backend="b")
    async with (
        await open_queue(users["worker"]) as queue,
        queue.consumer("workers", "w") as consumer,
        asyncio.timeout(20),
    ):
        for _ in "ab":
            (taken,) = await consumer.receive(1)
            await consumer.settle([(taken, Reject("no"))])

    def run(role: str, *argv: str) -> tuple[int, str, str]:
        return osmo_pipeline(*argv, "--queue", users[role], "--layout", layout)

    found = json.loads(run("reader", "dlq", "list", "--json")[1])
    letters = [letter["letter"] for letter in found]
    for command in ("queue status", "queue peek", "backends list", "backends show b"):
        assert run("reader", *command.split())[0] == 0, command
    assert run("reader", "dlq", "show", *letters)[0] == 0
    assert run("reader", "rules", "get", "b")[0] == 0
    assert run("reader", "top", "--once", "--interval=0.01")[0] == 0
    changes = (
        ("rules", "set", "b", "Ready=Unknown"),
        ("dlq", "replay", letters[0]),
        ("dlq", "drop", letters[1]),
        ("backends", "forget", "b"),
    )
    for change in changes:
        assert run("admin", *change)[0] == 0, change
    assert not denied(server)
    code, _, err = run("reader", *changes[0])
    assert code == 1
    assert "does not let the user osmo-reader of the queue's URL" in err
    assert "with ACL SETUSER osmo-reader" in err
