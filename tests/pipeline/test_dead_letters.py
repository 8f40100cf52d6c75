"""`osmo-pipeline queue` and `dlq`, over a queue in memory and over a real one."""

import asyncio
import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Collection
from typing import Any

import pytest
from msgspec.structs import replace

from osmo_pipeline.commands import dead_letters, output, queue
from osmo_pipeline.commands.dead_letters import DropConfig, ListConfig, ReplayConfig, ShowConfig
from osmo_pipeline.commands.queue import PeekConfig, StatusConfig
from osmo_pipeline.config import CommandConfig
from osmo_pipeline.errors import NothingFoundError, StoppedError
from osmo_reports.bodies import UpdateNode, UpdatePod, encode_body
from osmo_runtime.queues import with_all_streams
from osmo_runtime.runner import ExitCode
from osmo_transport import (
    Ack,
    Message,
    Queue,
    QueueConfig,
    QueueUnavailableError,
    Reject,
    Retry,
    UsageError,
    Version,
    new_message,
    open_queue,
    publish,
)
from osmo_transport.testing.redis_server import RedisServer

HOSTILE = "\x1b[2J\x9b31m\u202e\x07\r\n\x7f"
"""What would clear a terminal, colour it, turn its text round, ring it, and overwrite a line."""

COLUMNS = 80


def pod(number: int, message: str = "") -> Message:
    """The report of a pod."""
    body = UpdatePod("w", f"t{number}", 0, "RUNNING", message=message)
    return new_message("update_pod", f"w/t{number}/0", encode_body(body), version=Version(1, 1))


def node(name: str) -> Message:
    """The report of a node."""
    body = encode_body(UpdateNode(name, name))
    return new_message("update_node", name, body, version=Version(1, 1))


async def bury(queue: Queue, backend: str, reasons: dict[str, Message]) -> None:
    """Make dead letters of these messages, each for its reason."""
    await publish(queue, list(reasons.values()), backend=backend)
    why = {message.id: reason for reason, message in reasons.items()}
    async with queue.consumer("workers", "w") as consumer:
        left = len(reasons)
        while left:
            deliveries = await consumer.receive(left)
            left -= len(deliveries)
            await consumer.settle([(each, Reject(why[each.message.id])) for each in deliveries])


@pytest.fixture
def stop() -> asyncio.Event:
    """Nobody has asked to stop yet."""
    return asyncio.Event()


@pytest.fixture(params=["memory", "redis"])
async def there(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, server: RedisServer
) -> AsyncIterator[Queue]:
    """A queue to which all commands go, whatever they are told."""
    url = "memory://commands" if request.param == "memory" else server.url

    async def opened(_: CommandConfig, max_entries: int = 1_000_000) -> Queue:
        return await open_queue(url, with_all_streams(QueueConfig(max_entries=max_entries)))

    for module in (queue, dead_letters):
        monkeypatch.setattr(module, "open_queue_of", opened)
    async with await open_queue(url, with_all_streams(QueueConfig())) as shared:
        yield shared


def shown(capsys: pytest.CaptureFixture[str]) -> Any:
    """The JSON document that was written."""
    return json.loads(capsys.readouterr().out)


async def test_status_tells_what_a_queue_holds(
    there: Queue, stop: asyncio.Event, capsys: pytest.CaptureFixture[str]
) -> None:
    """By stream and as a whole, in a table and in JSON."""
    await bury(there, "east", {"no": pod(1)})
    await publish(there, [pod(2), pod(3)], backend="east")
    async with there.consumer("workers", "w") as consumer:
        (delivery,) = await consumer.receive(1)
        await queue.show_status(StatusConfig(json=True), stop)
        figures = shown(capsys)
        (pods,) = [each for each in figures["streams"] if each["stream"] == "pods"]
        assert (pods["waiting"], pods["pending"]) == (1, 1)
        assert 0 <= pods["oldest_seconds"] < 60
        assert (figures["dead"], figures["consumers"]) == (1, 1)
        await queue.show_status(StatusConfig(), stop)
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].split() == ["STREAM", "WAITING", "PENDING", "OLDEST"]
        assert ["pods", "1", "1"] in [line.split()[:3] for line in lines]
        assert lines[-1].startswith("consumers 1, dead letters 1, queue epoch ")
        await consumer.settle([(delivery, Ack())])


async def test_peek_shows_entries_with_their_bodies(
    there: Queue, stop: asyncio.Event, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the streams, backends and kinds that are asked for, and takes none of them."""
    await publish(there, [pod(1), pod(2), node("n1")], backend="east")
    await publish(there, [pod(3)], backend="west")
    async with there.consumer("workers", "w") as consumer:
        (taken,) = await consumer.receive(1)
        await queue.peek(PeekConfig(json=True), stop)
        entries = shown(capsys)
        assert len(entries) == 4
        (first,) = [each for each in entries if each["pending"]]
        assert first["entry"] == taken.id
        assert (first["holder"], first["attempts"], first["kind"]) == ("w", 1, "update_pod")
        assert first["payload"]["status"] == "RUNNING"
        for config, expected in (
            (PeekConfig(json=True, kind="update_node"), {"n1"}),
            (PeekConfig(json=True, backend="west"), {"w/t3/0"}),
            (PeekConfig(json=True, streams=("nodes",)), {"n1"}),
            (PeekConfig(json=True, streams=("pods",), limit=1), {"w/t1/0"}),
        ):
            await queue.peek(config, stop)
            assert {each["key"] for each in shown(capsys)} == expected
        with pytest.raises(NothingFoundError):
            await queue.peek(PeekConfig(older_than=60.0), stop)
        with pytest.raises(UsageError, match="no stream 'lost'"):
            await queue.peek(PeekConfig(streams=("lost",)), stop)
        await consumer.settle([(taken, Retry("later", after=60.0))])


async def test_letters_are_listed_by_what_is_asked_for(
    there: Queue, stop: asyncio.Event, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of each in JSON, over several pages; none is an exit code of its own."""
    with pytest.raises(NothingFoundError, match="there is no dead letter"):
        await dead_letters.list_letters(ListConfig(), stop)
    await bury(there, "east", {"Timeout of a": pod(1), "unknown node": node("n1")})
    await bury(there, "west", {f"timeout {i}": pod(i) for i in range(2, 7)})
    await dead_letters.list_letters(ListConfig(json=True), stop)
    letters = shown(capsys)
    assert len(letters) == 7
    assert letters == sorted(letters, key=lambda each: str(each["letter"]))
    assert {"buried", "age_seconds", "attempts", "entry", "stream"} <= letters[0].keys()
    (one,) = [each for each in letters if each["reason"] == "unknown node"]
    assert (one["backend"], one["kind"], one["key"]) == ("east", "update_node", "n1")
    assert one["payload"]["node"] == "n1"
    for config, count in (
        (ListConfig(json=True, backend="west"), 5),
        (ListConfig(json=True, kind="update_pod"), 6),
        (ListConfig(json=True, reason="TIMEOUT"), 6),
        (ListConfig(json=True, reason="timeout", backend="east"), 1),
        (ListConfig(json=True, limit=3), 3),
    ):
        await dead_letters.list_letters(config, stop)
        assert len(shown(capsys)) == count
    with pytest.raises(NothingFoundError, match="no such dead letter"):
        await dead_letters.list_letters(ListConfig(json=True, older_than=60.0), stop)
    assert shown(capsys) == []


async def test_letters_are_shown_whole(
    there: Queue, stop: asyncio.Event, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those that are named; a report by its body, other kinds as text or as digits."""
    raw = new_message("strange", "a", b"\x00\xff", version=Version(1, 1))
    text = new_message("strange", "b", "hällo".encode(), version=Version(1, 1))
    broken = new_message("update_pod", "c", b"junk", version=Version(1, 1))
    odd = replace(text, id="odd", key="d", timestamp=float("nan"))
    await bury(there, "east", {"1": raw, "2": text, "3": broken, "4": odd, "5": pod(1)})
    letters = {letter.reason: letter.id for letter in await there.dead_letters(9)}
    await dead_letters.show_letters(ShowConfig(json=True, letters=tuple(letters.values())), stop)
    whole = {each["reason"]: each for each in shown(capsys)}
    assert whole["1"]["payload_hex"] == "00ff"
    assert whole["2"]["payload_text"] == "hällo"
    assert whole["3"]["payload_text"] == "junk"
    assert whole["4"]["message"]["timestamp"] is None
    assert whole["5"]["payload"]["task_uuid"] == "t1"
    with pytest.raises(NothingFoundError, match="no dead letter 7-7"):
        await dead_letters.show_letters(ShowConfig(letters=(letters["5"], "7-7")), stop)
    said = capsys.readouterr().out
    assert "key: w/t1/0\n" in said
    assert '    "task_uuid": "t1",\n' in said


async def test_hostile_letters_reach_no_terminal(
    there: Queue, stop: asyncio.Event, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names, reasons, bodies and bytes: what is not printable is written as its escape."""
    texts = new_message("strange" + HOSTILE, "k" + HOSTILE, HOSTILE.encode(), version=Version(1, 1))
    await bury(there, "east" + HOSTILE, {HOSTILE: texts, "r" + HOSTILE: pod(1, HOSTILE)})
    await publish(there, [texts], backend="east" + HOSTILE)
    letters = tuple(letter.id for letter in await there.dead_letters(9))
    for as_json in (False, True):
        await dead_letters.list_letters(ListConfig(json=as_json), stop)
        await dead_letters.show_letters(ShowConfig(json=as_json, letters=letters), stop)
        await queue.peek(PeekConfig(json=as_json), stop)
        said = capsys.readouterr().out
        assert said.replace("\n", "").isprintable()


async def test_letters_are_replayed_and_dropped(
    there: Queue, stop: asyncio.Event, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those that are named, or all that fit; what dies again meanwhile is not among them."""
    await bury(there, "east", {f"timeout {i}": pod(i) for i in range(4)})
    await bury(there, "west", {"bad": node("n1")})
    first = (await there.dead_letters(1))[0].id
    await dead_letters.replay(ReplayConfig(letters=(first,)), stop)
    assert capsys.readouterr().out == "replayed 1 dead letter\n"
    await dead_letters.replay(ReplayConfig(json=True, all=True, reason="timeout"), stop)
    assert shown(capsys) == {"replayed": 3, "complete": True}
    status = await there.status()
    assert (status.waiting["pods"], status.dead) == (4, 1)
    with pytest.raises(UsageError, match="name the dead letters to drop, or say --all"):
        await dead_letters.drop(DropConfig(), stop)
    await dead_letters.drop(DropConfig(all=True), stop)
    assert capsys.readouterr().out == "dropped 1 dead letter\n"
    with pytest.raises(NothingFoundError):
        await dead_letters.drop(DropConfig(all=True), stop)
    with pytest.raises(NothingFoundError):
        await dead_letters.replay(ReplayConfig(letters=(first,)), stop)
    with pytest.raises(ValueError, match="not both"):
        ReplayConfig(letters=("1-1",), all=True)


async def test_a_letter_that_cannot_be_put_back_is_told(
    server: RedisServer, stop: asyncio.Event, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was put there by others, and holds nothing that is readable: it stays until it is dropped.
    A letter of a kind that nobody knows goes back as any other."""
    url = server.url
    async with await open_queue(url, with_all_streams(QueueConfig())) as queue:
        server.command("XADD", "{osmo}:dead", "*", "hello", "world")
        unknown = new_message("unheard-of", "k", b"\x00", version=Version(1, 1))
        await bury(queue, "east", {"who knows": unknown})
        strange, other = await queue.dead_letters(9)
        with pytest.raises(NothingFoundError, match="with a backend and a message"):
            await dead_letters.replay(ReplayConfig(queue=url, letters=(strange.id,)), stop)
        with pytest.raises(NothingFoundError, match="1 of them are no dead letters with a backend"):
            await dead_letters.replay(ReplayConfig(queue=url, letters=(strange.id, other.id)), stop)
        assert capsys.readouterr().out == "replayed 1 dead letter\n"
        async with queue.consumer("workers", "w") as consumer:
            (delivery,) = await consumer.receive(9)
            assert delivery.message == unknown
        with pytest.raises(NothingFoundError, match=r"1 of them are no dead letters$"):
            await dead_letters.drop(DropConfig(queue=url, letters=(strange.id, other.id)), stop)
        assert await queue.dead_letters(9) == []


async def test_what_dies_again_is_not_replayed_for_ever(
    there: Queue, stop: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that rejects whatever comes back makes new letters, which stay."""
    monkeypatch.setattr(dead_letters, "PAGE", 2)
    await bury(there, "east", {f"{i}": pod(i) for i in range(5)})
    replay = type(there).replay

    async def replay_and_reject(self: Queue, letters: Collection[str]) -> int:
        count = await replay(self, letters)
        async with there.consumer("workers", "w") as consumer:
            left = count
            while left:
                deliveries = await consumer.receive(left)
                left -= len(deliveries)
                await consumer.settle([(each, Reject("again")) for each in deliveries])
        return count

    monkeypatch.setattr(type(there), "replay", replay_and_reject)
    await dead_letters.replay(ReplayConfig(all=True), stop)
    assert {letter.reason for letter in await there.dead_letters(9)} == {"again"}


async def test_a_full_queue_is_told(
    there: Queue, stop: asyncio.Event, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what was done by then."""
    await bury(there, "east", {f"{i}": pod(i) for i in range(150)})
    with pytest.raises(QueueUnavailableError, match="full"):
        await dead_letters.replay(ReplayConfig(all=True, max_entries=120), stop)
    assert capsys.readouterr().out == "replayed at least 100 dead letters\n"
    status = await there.status()
    assert (status.waiting["pods"], status.dead) == (120, 30)


async def test_a_stop_half_way_says_what_was_done(
    there: Queue,
    stop: asyncio.Event,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """After the step that it came in; the others stay."""
    monkeypatch.setattr(dead_letters, "STEP", 2)
    await bury(there, "east", {f"{i}": pod(i) for i in range(7)})
    drop = type(there).drop
    steps = 0

    async def interrupted(self: Queue, letters: Collection[str]) -> int:
        nonlocal steps
        steps += 1
        if steps == 2:
            stop.set()
        return await drop(self, letters)

    monkeypatch.setattr(type(there), "drop", interrupted)
    with pytest.raises(StoppedError, match="stopped half-way: 4 dead letters dropped"):
        await dead_letters.drop(DropConfig(all=True), stop)
    assert capsys.readouterr().out == "dropped at least 4 dead letters\n"
    assert (await there.status()).dead == 3


def osmo_pipeline(*argv: str) -> list[str]:
    """A command line."""
    return [sys.executable, "-m", "osmo_pipeline", *argv]


def filled(server: RedisServer, count: int) -> list[str]:
    """Dead letters as workers leave them; the names of the pods."""

    async def fill() -> None:
        limits = with_all_streams(QueueConfig())
        async with await open_queue(server.url, limits) as shared:
            for start in range(0, count, 500):
                await bury(shared, "east", {f"no {start + i}": pod(start + i) for i in range(500)})

    asyncio.run(fill())
    return [f"w/t{number}/0" for number in range(count)]


async def keys_in(url: str) -> list[str]:
    """Of all that a queue holds, entries and dead letters."""
    found: list[str] = []
    async with await open_queue(url, with_all_streams(QueueConfig())) as shared:
        after = ""
        while page := await shared.peek("pods", 1000, after):
            after = page[-1].id
            found += [each.message.key for each in page if each.message]
        after = ""
        while letters := await shared.dead_letters(1000, after):
            after = letters[-1].id
            found += [each.message.key for each in letters if each.message]
    return found


def test_a_replay_that_is_killed_loses_and_doubles_nothing(server: RedisServer) -> None:
    """`kill -9` among thousands; run again, it does the rest."""
    keys = filled(server, 2000)
    command = osmo_pipeline("dlq", "replay", "--all", "--queue", server.url)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while server.command("XLEN", "{osmo}:dead") > len(keys) - 300:
        assert time.monotonic() < deadline
        assert process.poll() is None
    process.kill()
    process.communicate()
    assert 0 < server.command("XLEN", "{osmo}:dead") < len(keys)
    assert sorted(asyncio.run(keys_in(server.url))) == sorted(keys)
    done = subprocess.run(command, capture_output=True, check=True)
    assert done.stdout.startswith(b"replayed ")
    assert server.command("XLEN", "{osmo}:stream:pods") == len(keys)
    assert sorted(asyncio.run(keys_in(server.url))) == sorted(keys)


def on_a_terminal(argv: list[str], typed: bytes = b"", until: bytes = b"") -> tuple[int, bytes]:
    """What a program says on a terminal, where `typed` is typed once `until` was
    said; and its exit code."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(argv[0], argv)
    said = b""
    while True:
        try:
            said += os.read(terminal, 65536)
        except OSError:  # it has ended
            break
        if typed and until in said:
            os.write(terminal, typed)
            typed = b""
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said


async def test_tables_fit_a_terminal(
    there: Queue,
    stop: asyncio.Event,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """However long a name is, and however much room its letters take."""
    size = os.terminal_size((COLUMNS, 24))
    monkeypatch.setattr(output, "terminal_width", lambda: size.columns)
    long = new_message("k" * 50, "\u952e" * 50, b"", version=Version(1, 1))
    await bury(there, "b" * 50, {"\u952e" * 200: long, "short": pod(1)})
    await publish(there, [long], backend="b" * 50)
    await dead_letters.list_letters(ListConfig(), stop)
    await queue.peek(PeekConfig(), stop)
    await queue.show_status(StatusConfig(), stop)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) >= 8
    assert max(output.cells_of(line) for line in lines) == COLUMNS
    assert output.cells_of("\u952ea\u0301") == 3


def test_who_drops_all_is_asked(server: RedisServer) -> None:
    """On a terminal: no answer but yes is one, and Ctrl-C ends it."""
    filled(server, 500)
    drop = osmo_pipeline("dlq", "drop", "--queue", server.url)
    asked = b"drop 500 dead letters? [y/N] "
    assert on_a_terminal(drop, b"n\n", asked)[0] == ExitCode.NOTHING
    code, said = on_a_terminal(drop, b"\x03", asked)
    assert code == ExitCode.FAILED
    assert b"osmo-pipeline dlq drop: stopped half-way: 0 dead letters dropped" in said
    assert server.command("XLEN", "{osmo}:dead") == 500
    code, said = on_a_terminal(drop, b"y\n", asked)
    assert code == ExitCode.DONE
    assert b"dropped 500 dead letters" in said


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (("dlq", "replay", "1-1", "--backend", "a"), 2, "not both"),
        (("queue", "status", "--queue=memory://"), 2, "ends with this command"),
    ],
)
def test_what_is_wrong_is_said(argv: tuple[str, ...], code: int, said: str) -> None:
    """Without a traceback, and with the exit code of its kind."""
    done = subprocess.run(osmo_pipeline(*argv), capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr
