"""A run as its user sees it: what it refuses, keeps, shows and leaves behind."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from osmo_benchmarks import bench
from osmo_benchmarks import run as runs
from osmo_benchmarks.bench import run_bench
from osmo_benchmarks.config import BenchConfig
from osmo_benchmarks.errors import FailedRunError, PlanError, ProgramError, RunFileError
from osmo_benchmarks.participants import DESCRIPTIONS, UNASKED, Participants
from osmo_benchmarks.plan import Context, Experiment, Outcome, Table, alone
from osmo_benchmarks.run import Row
from osmo_benchmarks.systems import Osmo, Peer, System
from tests.helpers import eventually

Work = Callable[[Context], Awaitable[Mapping[str, Outcome]]]

ROW = Row(
    id="X1",
    title="How long it takes",
    experiment="x",
    figure="ms",
    unit="ms",
    better="lower",
    ours="osmo-ws",
    limits={"go": 0.5},
)


async def measured(context: Context) -> Mapping[str, Outcome]:
    """Ours takes a quarter of the time."""
    return {context.system.name: Outcome({"ms": 1.0 if context.system.name == "osmo-ws" else 4.0})}


def with_table(
    monkeypatch: pytest.MonkeyPatch,
    work: Work = measured,
    *,
    memory_gb: float = 0.0,
    needs: frozenset[str] = frozenset(),
    rounds: int | None = None,
    rows: tuple[Row, ...] = (ROW,),
) -> None:
    """Let there be one table, `x`, and two systems, whose experiment is `work`."""
    experiment = Experiment(
        name="x",
        title="x",
        heats=alone("go", "osmo-ws"),
        measure=work,
        seconds=1.0,
        memory_gb=memory_gb,
        needs=needs,
        rounds=rounds,
    )

    @asynccontextmanager
    async def both(
        wanted: frozenset[str], beside: Path | None = None
    ) -> AsyncIterator[Participants]:
        systems: dict[str, System] = {"go": Peer("go", ("peer",)), "osmo-ws": Osmo("ws")}
        unasked = [name for name in DESCRIPTIONS if name not in wanted]
        yield Participants(
            {k: v for k, v in systems.items() if k in wanted}, dict.fromkeys(unasked, UNASKED)
        )

    def table(quick: bool) -> Table:
        return Table(name="x", title="All of it", experiments=(experiment,), rows=rows)

    monkeypatch.setattr(bench, "participants", both)
    monkeypatch.setattr(bench, "TABLES", {"x": table})


def config(folder: Path, **settings: Any) -> BenchConfig:
    """Whose files are in `folder`."""
    files = {"json": folder / "run.json", "html": folder / "run.html"}
    return BenchConfig(**(files | settings))


async def test_a_run_is_measured_saved_and_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And can be shown again from its file."""
    with_table(monkeypatch)
    picture = tmp_path / "ratios.svg"
    await run_bench(config(tmp_path, rounds=3, picture=picture), asyncio.Event())
    run = runs.load(tmp_path / "run.json")
    assert run.complete
    ratio = runs.ratio(run, ROW, "go")
    assert ratio == runs.Spread(0.25, 0.25, 0.25, 3)
    first = capsys.readouterr().out
    assert "X1" in first
    assert picture.read_text().lstrip().startswith("<")
    page = (tmp_path / "run.html").read_text()
    again = config(tmp_path, results=tmp_path / "run.json", html=tmp_path / "again.html")
    await run_bench(again, asyncio.Event())
    assert (tmp_path / "again.html").read_text() == page
    assert capsys.readouterr().out == first.replace("run.html", "again.html")


@pytest.mark.parametrize(
    ("settings", "most", "counted", "said"),
    [
        ({}, None, 5, "5 rounds"),
        ({}, 1, 1, "1 round"),
        ({"quick": True}, None, 2, "2 rounds"),
        ({"quick": True}, 1, 1, "1 round"),
        ({"quick": True, "rounds": 5}, 1, 5, "5 rounds"),
        ({"rounds": 3}, 1, 3, "3 rounds"),
    ],
)
async def test_rounds_that_are_asked_for_are_kept(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: Mapping[str, object],
    most: int | None,
    counted: int,
    said: str,
) -> None:
    """Also by an experiment that takes long (here `most` rounds), and in a quick run; the report
    says how many there were."""
    with_table(monkeypatch, rounds=most)
    await run_bench(config(tmp_path, **settings), asyncio.Event())
    run = runs.load(tmp_path / "run.json")
    assert len(run.samples("x", "osmo-ws")) == counted
    assert f" {said};" in (tmp_path / "run.html").read_text()
    assert ("--rounds" in run.command) == ("rounds" in settings)


async def test_who_is_not_asked_for_leaves_nothing_in_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No row without a figure, no column of a peer that has none; one line names all of them."""
    unseen = msgspec.structs.replace(ROW, id="X2", ours="osmo-grpc", limits={})
    with_table(monkeypatch, rows=(ROW, unseen))
    await run_bench(config(tmp_path, systems=("osmo-ws",), tables=("x",)), asyncio.Event())
    shown, page = capsys.readouterr().out, (tmp_path / "run.html").read_text()
    for text in (shown, page):
        assert "X1" in text
        assert "X2" not in text
        assert "ours / go" not in text
        assert "target" not in text.partition("X1")[0].rpartition("All of it")[2]
        assert "0 of 0" not in text
        assert "legacy, go, go-tuned, osmo-grpc, osmo-memory, osmo-other: not asked for" in text


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"tables": ("y",)}, "there is no table 'y'"),
        ({"systems": ("osmo-w",)}, "there is no system 'osmo-w': did you mean 'osmo-ws'"),
    ],
)
async def test_unknown_names_are_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: Mapping[str, object],
    says: str,
) -> None:
    """Before anything is measured."""
    with_table(monkeypatch)
    with pytest.raises(PlanError, match=says):
        await run_bench(config(tmp_path, **settings), asyncio.Event())
    with pytest.raises(RunFileError, match="cannot read"):
        runs.load(tmp_path / "run.json")


async def test_a_folder_that_is_not_there_is_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not after ten minutes."""
    with_table(monkeypatch)
    with pytest.raises(RunFileError, match="there is no folder"):
        await run_bench(config(tmp_path, html=tmp_path / "a" / "b.html"), asyncio.Event())


async def test_an_interrupted_run_keeps_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Marked as such, in the file and in the report."""
    stop = asyncio.Event()

    async def work(context: Context) -> Mapping[str, Outcome]:
        if context.round == 1:
            stop.set()
            await asyncio.Event().wait()
        return await measured(context)

    with_table(monkeypatch, work)
    with pytest.raises(FailedRunError, match=r"interrupted: .*run\.json"):
        await run_bench(config(tmp_path), stop)
    run = runs.load(tmp_path / "run.json")
    assert not run.complete
    assert len(run.samples("x", "osmo-ws")) == 1
    assert "interrupted" in capsys.readouterr().out
    assert "interrupted" in (tmp_path / "run.html").read_text()


async def test_a_run_is_interrupted_while_its_peers_are_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends at once, and the compiler with all of its processes, whoever they belong to."""
    started = tmp_path / "started"
    compiler = tmp_path / "go"
    compiler.write_text(
        f"#!/bin/sh\nsleep 600 & echo $! > {started}.new; mv {started}.new {started}; wait"
    )
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    stop = asyncio.Event()
    running = asyncio.create_task(run_bench(config(tmp_path, systems=("go",)), stop))
    await eventually(started.exists)
    stop.set()
    with pytest.raises(FailedRunError, match="before anything was measured"):
        await running
    await eventually(lambda: not _runs(int(started.read_text())))


def _runs(pid: int) -> bool:
    # Who has ended and whose parent has not asked yet is a zombie.
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_a_peer_that_crashes_is_told_and_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run succeeds: it is about the systems that are left."""

    async def work(context: Context) -> Mapping[str, Outcome]:
        if context.system.name == "go":
            raise ProgramError("the peer ended with exit code 2; the end of its log:\n  panic: <x>")
        return await measured(context)

    with_table(monkeypatch, work)
    await run_bench(config(tmp_path, rounds=2), asyncio.Event())
    run = runs.load(tmp_path / "run.json")
    assert len(run.samples("x", "osmo-ws")) == 2
    assert runs.ratio(run, ROW, "go") is None
    assert "panic: &lt;x&gt;" in (tmp_path / "run.html").read_text()


async def test_a_failure_of_ours_fails_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After everything else was measured and saved."""

    async def work(context: Context) -> Mapping[str, Outcome]:
        if context.system.name == "osmo-ws":
            raise ProgramError("lost")
        return await measured(context)

    with_table(monkeypatch, work)
    with pytest.raises(FailedRunError, match=r"x \(osmo-ws\)"):
        await run_bench(config(tmp_path), asyncio.Event())
    assert runs.load(tmp_path / "run.json").complete


@pytest.mark.parametrize(
    ("memory_gb", "needs", "says"),
    [(1e6, frozenset(), "1000001 GB"), (0.0, frozenset({"redis"}), "redis://")],
)
async def test_what_the_machine_lacks_is_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    memory_gb: float,
    needs: frozenset[str],
    says: str,
) -> None:
    """And nothing is measured in its place."""
    monkeypatch.setattr(bench, "redis_programs", list)
    with_table(monkeypatch, memory_gb=memory_gb, needs=needs)
    await run_bench(config(tmp_path), asyncio.Event())
    run = runs.load(tmp_path / "run.json")
    assert says in run.skipped["x"]
    assert not run.experiments
