"""The whole pipeline in one process: every carrier, and an end that is checked."""

import asyncio
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from osmo_listener.config import ListenerConfig
from osmo_listener.listeners import PodStatus
from osmo_pipeline import demo
from osmo_pipeline.config import DEFAULT_DATABASE, DemoConfig
from osmo_pipeline.demo import Demo, run_demo
from osmo_pipeline.display import Lines, Progress
from osmo_pipeline.errors import DemoError
from osmo_pipeline.verify import Difference
from osmo_simulator.cluster import Cluster
from osmo_simulator.scenario import Scenario, ScenarioConfig
from osmo_transport import UnknownSchemeError, registry
from osmo_transport.registry import TRANSPORTS
from osmo_transport.testing.redis_server import RedisServer
from osmo_worker import StoreConfig, WorkerMetrics
from osmo_worker.store import StateStore, Task, Totals
from osmo_worker.store.database import Database
from tests.transport import third_party
from tests.worker.harness import delivery, report


@pytest.mark.parametrize("transport", ["memory", "ws", "grpc"])
async def test_the_store_equals_the_cluster(
    transport: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nineteen workflows run to their ends, and every pod that is left has its row."""
    database = tmp_path / "demo.db"
    config = DemoConfig(transport=transport, store=f"sqlite:///{database}", workflows=19, pace=0.02)
    await run_demo(config, asyncio.Event())
    plan = ScenarioConfig(
        seed=config.seed, nodes=config.nodes, workflows=config.workflows, pace=config.pace
    )
    planned = {(t.task_uuid, t.retry_id): t for t in Scenario(Cluster(), plan).expected}
    with closing(sqlite3.connect(database)) as connection:
        query = "SELECT task_uuid, retry_id, status, deleted_at IS NOT NULL FROM tasks"
        rows = {(task, retry): rest for task, retry, *rest in connection.execute(query)}
    assert rows == {key: [t.status, t.deleted] for key, t in planned.items()}
    printed = capsys.readouterr().out
    assert "19 workflows" in printed
    assert "the store equals the cluster" in printed


async def test_somebody_elses_transport_carries_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By its scheme, as ours."""
    third_party.install(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    ours = {**TRANSPORTS.ours, "third": "third_party:open_transport"}
    monkeypatch.setattr(registry, "TRANSPORTS", TRANSPORTS._replace(ours=ours))
    config = DemoConfig(transport="third", store="memory://", workflows=1, pace=0.01)
    await run_demo(config, asyncio.Event())
    assert " over third and " in capsys.readouterr().out


async def test_an_unknown_transport_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the database of an earlier run is removed."""
    monkeypatch.chdir(tmp_path)
    DEFAULT_DATABASE.touch()
    with pytest.raises(
        UnknownSchemeError, match=r"none of the transports serves 'pigeon': .*ws://"
    ):
        await run_demo(DemoConfig(transport="pigeon"), asyncio.Event())
    assert DEFAULT_DATABASE.exists()


async def test_a_second_run_tells_of_itself_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Over a database of earlier runs it says so, and counts and compares its own rows."""
    config = DemoConfig(store=f"sqlite:///{tmp_path}/demo.db", workflows=2, pace=0.01)
    said = []
    for _ in range(2):
        await run_demo(config, asyncio.Event())
        said.append(capsys.readouterr().out)
    assert "backend" not in said[0]
    assert "this one is the backend demo-2" in said[1]
    for text in said:
        assert "\n2 workflows, " in text


def test_the_last_lines_fit_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """But for a path or a URL, which nobody could copy from two lines."""
    statuses = dict.fromkeys(sorted(status.value for status in PodStatus), 123)
    totals = Totals(statuses=statuses, deleted=123_456, workflows=123_456, running=0)
    progress = Progress(
        elapsed=1.0, totals=totals, messages=1_234_567, rate=1.0, in_flight=0, p50=12.3, p99=123.4
    )
    demo.summarize(DemoConfig(), progress, 123_456, "demo")
    config = DemoConfig(store="memory://", queue="redis://127.0.0.1:6379?namespace=demonstration")
    demo.summarize(config, progress, 123_456, "demo-123")
    Lines().show(progress)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 10
    assert not [line for line in lines if len(line) > 80 and len(line.split()) > 2]


def test_no_password_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """Of neither URL."""
    config = DemoConfig(queue="redis://u:hunter2@h", store="postgresql://u:hunter2@h/d")
    totals = Totals(statuses={}, deleted=0, workflows=0, running=0)
    progress = Progress(
        elapsed=1.0, totals=totals, messages=1, rate=1.0, in_flight=0, p50=0.1, p99=0.1
    )
    demo.summarize(config, progress, 0, "demo")
    said = capsys.readouterr().out
    assert "redis://u:****@h" in said
    assert "postgresql://u:****@h/d" in said


async def test_through_redis(tmp_path: Path) -> None:
    """The same with Redis as the queue and the store in memory."""
    with RedisServer() as redis:
        config = DemoConfig(queue=redis.url, store="memory://", workflows=5, pace=0.02)
        await run_demo(config, asyncio.Event())


async def test_a_difference_fails_the_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo does not claim what it did not find."""

    def wrong(*_: object) -> list[Difference]:
        return [Difference(f"w/t{n}/0", "status is 'RUNNING'") for n in range(12)]

    monkeypatch.setattr(demo, "differences", wrong)
    config = DemoConfig(store="memory://", workflows=1, pace=0.01, settle_timeout=0.0)
    with pytest.raises(ExceptionGroup) as caught:
        await run_demo(config, asyncio.Event())
    (error,) = caught.value.exceptions
    assert isinstance(error, DemoError)
    assert "differs from the cluster in 12 places" in str(error)
    assert "and 2 more" in str(error)


class RowlessStore(StateStore):
    """A store that gives out figures and no rows."""

    async def tasks(self, *_: object, **__: object) -> list[Task]:
        raise AssertionError("rows were asked for")


async def test_the_database_counts_what_is_shown() -> None:
    """So that a look at the figures costs the demo the same however many rows there are."""
    config, metrics = StoreConfig(), WorkerMetrics()
    database = Database("memory://", config)
    async with RowlessStore(database, config, metrics, time.time) as store:
        ended = report("b", flow="other", status="COMPLETED", deleted=True)
        reports = [delivery(message, backend=demo.BACKEND) for message in (report("a"), ended)]
        await store.handle_batch(reports)
        listener = ListenerConfig(backend=demo.BACKEND)
        progress = await Demo(DemoConfig(), store, listener, metrics).progress()
    assert progress.totals == Totals(
        statuses={"COMPLETED": 1, "RUNNING": 1}, deleted=1, workflows=2, running=1
    )


async def test_stop_ends_it_early(capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C compares what there is and ends."""
    stop = asyncio.Event()
    stop.set()
    await run_demo(DemoConfig(store="memory://", workflows=19, pace=10.0), stop)
    assert "the store equals the cluster" in capsys.readouterr().out


def test_a_reader_that_leaves_ends_it() -> None:
    """`| head -1` shows a line, and no traceback at whatever the demo says after it."""
    arguments = ("demo", "--store=memory://", "--workflows=2", "--pace=0.02")
    command = [sys.executable, "-m", "osmo_pipeline", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b"the page: http://127.0.0.1:")
        assert b"workflows=" in process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141
