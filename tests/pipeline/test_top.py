"""`osmo-pipeline top`: what it makes of what it is told, and what a terminal sees of that."""

import asyncio
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from fcntl import ioctl
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from osmo_pipeline.commands.output import cells_of
from osmo_pipeline.commands.top import TopConfig, show_top
from osmo_pipeline.fleet import Patience, Stored, members
from osmo_pipeline.top import watching
from osmo_pipeline.top.board import Board, Flow, Latency, Queued, flow, latencies
from osmo_pipeline.top.figures import Figures, percentile
from osmo_pipeline.top.frame import document, duration, frame, line, per_second, rows_of
from osmo_pipeline.top.live import _View
from osmo_pipeline.top.scraping import Scraper, add
from osmo_pipeline.top.screen import Key, keys_in
from osmo_pipeline.top.watching import Sources, Watch
from osmo_reports.bodies import Registration
from osmo_reports.directory import open_directory
from osmo_transport import (
    NEW,
    Claim,
    Holder,
    Producer,
    Queue,
    QueueStatus,
    QueueUnavailableError,
    Standing,
    UsageError,
    open_queue,
    publish,
)
from osmo_transport.testing.redis_server import RedisServer
from osmo_worker.store import Backend, open_store
from tests.pipeline.test_dead_letters import bury, pod
from tests.worker.harness import delivery, heartbeat, node_report, report

NOW = 1_800_000_000.0
HOSTILE = "\x1b[2J\x9b31m\u202e\x07\r\n\x7f"
NAMES = (HOSTILE, "<b>", "x" * 300, "東京" * 40, "e\u0301" * 40, "🚀" * 40)
PATIENCE = Patience(60.0, 95.0)

METRICS = """\
# TYPE osmo_operator_append_seconds histogram
osmo_operator_append_seconds_bucket{le="0.001"} 50
osmo_operator_append_seconds_bucket{le="0.01"} 100
osmo_operator_append_seconds_bucket{le="+Inf"} 100
osmo_operator_append_seconds_sum 1
osmo_operator_append_seconds_count 100
# TYPE osmo_worker_in_hand gauge
osmo_worker_in_hand 7
"""


def status(waiting: int = 0, dead: int = 0) -> QueueStatus:
    """Of a queue with one stream."""
    return QueueStatus("e", {"pods": waiting}, {"pods": 0}, dead, 0, 0, {"pods": 3.0}, 1)


def standing(
    backend: str, sequence: int = 0, *, epoch: int = 1, opened: float = NOW - 100
) -> Standing:
    """Of somebody who reports."""
    holder = Holder("i", "10.0.0.7:4711", opened)
    return Standing(Producer(backend, "listener"), epoch, sequence, opened, "i", holder)


def fleet(*names: str, heartbeat_age: float = 1.0, blind: float = 0.0) -> Board:
    """A board with these backends."""
    at = datetime.fromtimestamp(NOW - heartbeat_age, UTC)
    rows = {
        name: Backend(
            name=name,
            first_seen=at,
            last_seen=at,
            last_heartbeat=at,
            cluster_uid="uid",
            namespace="osmo",
            version="1.2",
            node_condition_prefix="",
            registered_at=at,
            pods_current_at=None,
            watch_ages={"workflow": blind},
        )
        for name in names
    }
    tasks = {name: {"RUNNING": 2, "COMPLETED": 1} for name in names}
    nodes = {name: {True: 3, False: 1} for name in names}
    stored = Stored(rows=rows, tasks=tasks, nodes=nodes)
    found = members({}, [standing(name) for name in names], stored, PATIENCE, NOW)
    rates = Flow(dict.fromkeys(names, 2.5), 1234.0)
    return Board(place="redis://r", wall=NOW, status=status(5), flow=rates, members=found)


def texts(board: Board, width: int = 80, height: int = 24, first: int = 0) -> list[str]:
    """The lines of a frame."""
    return [line.text for line in frame(board, width, height, first)]


def test_rates_are_of_what_was_stored_between_two_looks() -> None:
    """A new epoch counts from zero, and one that was not told of before not at all."""
    before = Queued(10.0, NOW, status(5), [standing("a", 100), standing("b", 7)])
    now = Queued(
        *(12.0, NOW + 2, status(1, dead=1)),
        [standing("a", 110), standing("b", 4, epoch=2, opened=NOW + 1), standing("old", 1000)],
    )
    found = flow(before, now)
    assert found == Flow({"a": 5.0, "b": 2.0, "old": 0.0}, (14 + 3) / 2)
    assert flow(now, now) is None


def test_percentiles_are_of_what_came_between_two_scrapes() -> None:
    """A service that began anew counts anew; where nothing came there is none."""
    before, now = Figures(), Figures()
    add(before, METRICS)
    add(now, METRICS.replace("100\n", "150\n"))
    assert latencies(before, now)["append"] == pytest.approx((0.0055, 0.00991))
    assert latencies(None, before)["append"] == pytest.approx((0.001, 0.00982))
    assert latencies(now, now) == {"append": Latency(None, None)}
    assert percentile({1.0: 90, float("inf"): 90}, {1.0: 10, float("inf"): 10}, 50) == 0.5
    assert percentile({}, {1.0: 1, float("inf"): 10}, 99) == 1.0
    assert percentile({}, {}, 99) is None
    with pytest.raises(ValueError, match="could not convert"):
        add(before, "osmo_worker_in_hand many\n")


@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 50), (40, 8), (130, 3)])
@pytest.mark.parametrize("count", [0, 3, 200])
def test_a_frame_fits_its_terminal(width: int, height: int, count: int) -> None:
    """Whatever the backends are called, and at least one of them is in it."""
    names = [*NAMES, *(f"cluster-{number:03}" for number in range(200))][:count]
    board = fleet(*names)
    lines = texts(board, width, height)
    assert all(cells_of(text) <= max(width, 80) and text.isprintable() for text in lines)
    if height >= 24:
        assert len(lines) == height
        shown = min(count, rows_of(board, width, height))
        assert sum("3/4" in text for text in lines) == shown
        assert lines[-1].startswith(f"1 to {shown} of {count}" if count else "no backends")


def test_a_frame_tells_figures_and_what_is_wrong() -> None:
    """The worst backends first, unknown figures as a question mark."""
    board = fleet("a")
    lines = texts(board)
    assert lines[1:5] == [
        "backends  1: 1 ok",
        "reports   2.5/s in, 1234/s handled",
        "queue     5 waiting, 0 pending, oldest 3s, consumers 1",
        "dead      0 letters",
    ]
    assert lines[7].split() == ["a", "ok", "1s", "2m", "2.5", "3", "2", "3/4"]
    assert [line.style for line in frame(fleet("a", heartbeat_age=61.0), 80, 24)][1] == "red"
    assert "1 blind" in texts(fleet("a", blind=96.0))[1]
    assert texts(replace(board, status=status(dead=1)))[4] == "dead      1 letter"
    empty = Board(place="redis://r", wall=NOW, problems=["queue: " + "is away " * 30])
    lines = texts(empty)
    assert lines[3] == "queue     ? waiting, ? pending, oldest ?, consumers ?"
    assert lines[5].startswith("queue: is away")
    assert lines[6].endswith("…")
    assert "10.0.0.7:4711" in texts(board, 200)[7]
    assert texts(fleet(*(f"c{n:03}" for n in range(50))), first=1000)[-2].startswith("c049")


def test_a_line_and_a_document_tell_the_same() -> None:
    """For logs and for programs; what is not known is left out, or null."""
    board = fleet("a", HOSTILE)
    assert "backends=2 silent=0 blind=0 ok=2 reports_per_second=5.0" in line(board)
    assert line(board).isprintable()
    told = document(board)
    assert (told["reports_per_second"], told["handled_per_second"]) == (5.0, 1234.0)
    empty = Board(place="redis://r", wall=NOW, problems=["queue: x"])
    assert line(empty).endswith("ok=0 problem='queue: x'")
    assert document(empty)["queue"] is document(empty)["reports_per_second"] is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.0004, "0.4ms"),
        (0.00996, "10ms"),
        (0.4996, "500ms"),
        (0.9996, "1.0s"),
        (9.96, "10s"),
        (600.0, "10m"),
    ],
)
def test_durations_are_short(seconds: float | None, text: str) -> None:
    """Whatever their size."""
    assert duration(seconds) == text


def test_low_rates_have_a_digit_more() -> None:
    """So that one each two seconds is seen."""
    assert [per_second(rate) for rate in (0.0, 0.5, 9.96, 1234.5)] == ["0", "0.5", "10", "1234"]


def test_keys_move_what_is_shown() -> None:
    """And never beyond the backends that there are."""
    view = _View(fleet(*(f"c{number}" for number in range(50))))
    view.page = 10
    typed = b"j\x1b[B\x1b[6~ \x1b[A\x1b[5~k?\x1b[1;5C"
    moved = []
    for key in keys_in(typed):
        view.press(key)
        moved.append(view.first)
    assert moved == [1, 2, 12, 22, 21, 11, 10]
    for key, first in ((Key.END, 40), (Key.DOWN, 40), (Key.HOME, 0), (Key.PAGE_UP, 0)):
        view.press(key)
        assert view.first == first
    assert not view.left.is_set()
    view.press(Key.QUIT)
    assert view.left.is_set()


@pytest.fixture
async def filled(server: RedisServer, tmp_path: Path) -> AsyncIterator[dict[str, Any]]:
    """The settings that name a queue and a store, with a backend that reports."""
    place: dict[str, Any] = {"queue": server.url, "store": f"sqlite:///{tmp_path}/store.db"}
    async with (
        await open_queue(server.url) as queue,
        await open_directory(server.url) as directory,
        open_store(place["store"]) as store,
    ):
        await directory.register("east", Registration("uid", "osmo", "1.2"))
        claim = Claim(waits=True, lease=30.0, connection="c", address="10.0.0.7:4711")
        await queue.open_producer(Producer("east", "listener"), "i", NEW, claim)
        await bury(queue, "west", {"no": pod(1)})
        await publish(queue, [pod(2)], backend="west")
        reports = (report(), node_report(), heartbeat(at=time.time()))
        await store.handle_batch([delivery(each, backend="east") for each in reports])
        yield place


@pytest.fixture
async def port() -> AsyncIterator[str]:
    """An operations port."""

    async def tell(request: web.Request) -> web.Response:
        return web.Response(text=METRICS)

    app = web.Application()
    app.router.add_get("/metrics", tell)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, number = runner.addresses[0]
    yield f"{host}:{number}"
    await runner.cleanup()


async def test_one_frame_tells_of_queue_store_and_services(
    filled: dict[str, Any], port: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In lines and in JSON; a service that does not answer is named."""
    ports = (port, f"http://{port}/metrics", "127.0.0.1:1")
    config = TopConfig(**filled, operations=ports, once=True, json=True, interval=0.01)
    await show_top(config, asyncio.Event())
    told = json.loads(capsys.readouterr().out)
    west, east = told["backends"]
    assert (east["backend"], east["state"], east["tasks"]) == ("east", "ok", {"RUNNING": 1})
    assert (west["backend"], west["state"], west["tasks"]) == ("west", "silent", {})
    assert (told["queue"]["waiting"]["pods"], told["queue"]["dead"]) == (1, 1)
    assert told["services"] == {"in_hand": 14.0}
    assert told["latencies"] == {"append": {"p50_seconds": None, "p99_seconds": None}}
    (problem,) = told["problems"]
    assert problem.startswith("http://127.0.0.1:1/metrics: ")
    await show_top(TopConfig(**filled, once=True, interval=0.01), asyncio.Event())
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "backends  2: 1 silent, 1 ok"
    with pytest.raises(UsageError, match="no operations port"):
        await show_top(TopConfig(**filled, operations=("ftp://x",)), asyncio.Event())


@pytest.mark.parametrize("as_json", [False, True])
async def test_elsewhere_than_on_a_terminal_each_look_is_a_line(
    filled: dict[str, Any],
    as_json: bool,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Until it is told to stop."""
    stop, look, left = asyncio.Event(), Watch.look, [1, 2]

    async def counted(watch: Watch) -> None:
        if not left:
            stop.set()
            await asyncio.Event().wait()
        left.pop()
        await look(watch)

    monkeypatch.setattr(Watch, "look", counted)
    await show_top(TopConfig(**filled, json=as_json, interval=0.001), stop)
    first, second = capsys.readouterr().out.splitlines()
    if as_json:
        assert json.loads(first)["reports_per_second"] is None
        assert json.loads(second)["reports_per_second"] == 0.0
    else:
        assert "backends=2 silent=1 blind=0 ok=1 waiting=1" in first
        assert "reports_per_second=0 handled_per_second=0 waiting=1" in second


@asynccontextmanager
async def watching_all(filled: Mapping[str, Any]) -> AsyncIterator[tuple[Watch, Queue]]:
    """A watch over the queue, the directory and the store that are filled; and that queue."""
    async with (
        await open_queue(filled["queue"]) as queue,
        await open_directory(filled["queue"]) as directory,
        open_store(filled["store"]) as store,
    ):
        sources = Sources(place="redis://r", queue=queue, directory=directory, store=store)
        yield Watch(sources, PATIENCE), queue


async def test_who_does_not_answer_is_named_and_asked_again(
    filled: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it fails or hangs: the others are shown all the same."""
    monkeypatch.setattr(watching, "ANSWER_TIMEOUT", 0.2)
    async with watching_all(filled) as (watch, queue):
        status_of = queue.status

        async def fails() -> QueueStatus:
            raise QueueUnavailableError("gone")

        async def hangs() -> QueueStatus:
            await asyncio.Event().wait()
            raise AssertionError

        for broken, problem in ((fails, "queue: gone"), (hangs, "queue: did not answer within 0")):
            monkeypatch.setattr(queue, "status", broken)
            await watch.look()
            board = watch.board()
            assert board.status is None
            assert board.problems[0].startswith(problem)
            assert {member.name for member in board.members} == {"east"}
        monkeypatch.setattr(queue, "status", status_of)
        await watch.look()
        assert watch.board().problems == []
        assert watch.board().status is not None


async def test_counts_come_some_at_a_time(
    filled: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until all rows were counted nothing is said of a backend whose rows were not."""
    monkeypatch.setattr(watching, "COUNTING_TIME", 0.0)
    async with watching_all(filled) as (watch, _):
        await watch.look()
        assert {member.tasks for member in watch.board().members} == {None}
        await watch.look(counted=True)
        east, west = sorted(watch.board().members, key=lambda member: member.name)
        assert (east.tasks, west.tasks) == ({"RUNNING": 1}, {})
        assert (east.nodes, west.nodes) == ({True: 1}, {})


async def test_an_answer_without_end_is_cut_off(port: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever answers at such an address."""
    monkeypatch.setattr("osmo_pipeline.top.scraping.MAX_BYTES", 100)
    async with Scraper([port], timeout=5.0) as scraper:
        figures = await scraper.ask()
    assert list(figures.failures.values()) == ["it tells more than 100 bytes"]


@pytest.mark.parametrize("place", ["ftp://x", "a..b:1", f"{'a' * 64}.b:1"])
def test_a_place_that_is_none_is_refused(place: str) -> None:
    """Before anybody is asked."""
    with pytest.raises(UsageError, match=re.escape(place)):
        Scraper([place], timeout=5.0)


async def test_no_password_of_a_service_is_shown() -> None:
    """Where it is away, its URL and the reason are."""
    async with Scraper(["http://me:hidden@127.0.0.1:1"], timeout=5.0) as scraper:
        figures = await scraper.ask()
    ((url, why),) = figures.failures.items()
    assert url == "http://me:****@127.0.0.1:1/metrics"
    assert "hidden" not in why
    with pytest.raises(UsageError) as refused:
        Scraper(["ftp://me:hidden@127.0.0.1:1"], timeout=5.0)
    assert "hidden" not in str(refused.value)


@pytest.mark.parametrize("text", ['x{a="b",\t="c"} 1\n', "x{\n", 'x_bucket{le="one"} 1\n'])
def test_what_is_no_figure_is_refused(text: str) -> None:
    """Whatever answers there: it is told as a failure, and ends nothing."""
    with pytest.raises(ValueError, match=r".+"):
        add(Figures(), text)


@contextmanager
def _terminal(*argv: str) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """A program on a terminal of 80x24: what reads and writes it, and the process."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color"}
    with subprocess.Popen(
        [sys.executable, "-m", "osmo_pipeline", *argv],
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env=environment,
    ) as process:
        os.close(theirs)
        try:
            yield ours, process
        finally:
            process.kill()
            os.close(ours)


async def _until(ours: int, pattern: str) -> str:
    """What was written up to a match of the pattern."""
    written = b""
    while not re.search(pattern, written.decode(errors="replace"), re.DOTALL):
        written += await asyncio.to_thread(os.read, ours, 65536)
    return written.decode(errors="replace")


@pytest.mark.parametrize("ends", ["q", "SIGINT"])
async def test_the_terminal_is_given_back(filled: dict[str, Any], ends: str) -> None:
    """As it was, whoever ends it; until then keys and resizes make new frames."""
    options = (f"--queue={filled['queue']}", f"--store={filled['store']}")
    with _terminal("top", *options, "--interval=0.1") as (ours, process):
        before = termios.tcgetattr(ours)
        seen = await _until(ours, "waiting.*q: quit.*waiting.*q: quit")
        assert "\x1b[?1049h" in seen
        assert not termios.tcgetattr(ours)[3] & termios.ICANON
        ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 140, 0, 0))
        os.killpg(process.pid, signal.SIGWINCH)
        await _until(ours, r"VERSION +CLUSTER")
        if ends == "q":
            os.write(ours, b"q")
        else:
            process.send_signal(signal.SIGINT)
        await _until(ours, re.escape("\x1b[?1049l"))
        assert await asyncio.to_thread(process.wait, 20) == 0
        assert termios.tcgetattr(ours) == before
