"""Another installation of this project takes part beside this one."""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from osmo_benchmarks import bench
from osmo_benchmarks import run as runs
from osmo_benchmarks.bench import run_bench
from osmo_benchmarks.config import BenchConfig
from osmo_benchmarks.errors import PlanError
from osmo_benchmarks.participants import participants
from osmo_benchmarks.plan import Context, Experiment, Outcome, Table, alone
from osmo_benchmarks.run import Row
from osmo_benchmarks.systems import OTHER
from osmo_runtime import build

BOTH = frozenset({"osmo-ws", OTHER})


def interpreter(folder: Path, does: str) -> Path:
    """A Python elsewhere."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{does}\n")
    path.chmod(0o755)
    return path


async def test_both_builds_are_measured_in_turns_and_shown(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each by its own Python, whoever else is named; reports say which is which, who is ahead, and
    where both are the same build."""
    elsewhere = interpreter(tmp_path, f'exec "{sys.executable}" "$@"')
    turns: list[str] = []

    async def work(context: Context) -> Mapping[str, Outcome]:
        turns.append(context.system.client("ws://127.0.0.1:1", 1, 0, 1).arguments[0])
        name = context.system.name
        return {name: Outcome({"ms": 3.0 if name == "osmo-ws" else 4.0})}

    row = Row(
        id="X1",
        title="How long it takes",
        experiment="x",
        figure="ms",
        unit="ms",
        better="lower",
        ours="osmo-ws",
        limits={"go": None, OTHER: None},
    )
    experiment = Experiment(name="x", title="x", heats=alone(*BOTH), measure=work, seconds=1.0)
    table = Table(name="x", title="X", experiments=(experiment,), rows=(row,))
    monkeypatch.setattr(bench, "TABLES", {"x": lambda _: table})
    config = BenchConfig(
        systems=("osmo-ws",),
        beside=elsewhere,
        rounds=2,
        json=tmp_path / "run.json",
        html=tmp_path / "run.html",
        markdown=tmp_path / "run.md",
    )
    await run_bench(config, asyncio.Event())
    assert sorted(turns[:2]) == sorted([sys.executable, str(elsewhere)])
    assert turns == turns[:2] * 3
    assert runs.load(tmp_path / "run.json").versions[OTHER] == build.version()
    shown = (tmp_path / "run.md").read_text()
    figures = "3 ms [3 … 3] | 4 ms [4 … 4] | 0.75 [0.75 … 0.75] | 1.33x ahead |"
    assert f"| X1 | How long it takes | {figures}" in shown
    page = (tmp_path / "run.html").read_text()
    assert "ours / osmo-other" in page
    both = f"osmo-pipeline {build.version()}, osmo-other is {build.version()}: the same build"
    for text in (shown, page, capsys.readouterr().out):
        assert both in text
    (warned,) = caplog.messages
    assert warned.startswith("--beside (beside) names an installation of the same build: ")


async def test_a_python_that_lacks_the_programs_is_refused(tmp_path: Path) -> None:
    """With what it says, and with the setting that named it."""
    elsewhere = interpreter(tmp_path, "echo no module of that name >&2; exit 1")
    with pytest.raises(PlanError, match=r"(?s)--beside \(beside\) is .*no module of that name"):
        async with participants(BOTH, elsewhere):
            pass


async def test_a_python_that_is_none_is_refused_whoever_is_named(tmp_path: Path) -> None:
    """Before anything is measured: the one that was named, and not silently without it."""
    nowhere = tmp_path / "python"
    with pytest.raises(PlanError, match=rf"--beside \(beside\) is {nowhere}: .* be started"):
        await run_bench(BenchConfig(systems=("osmo-ws",), beside=nowhere), asyncio.Event())


async def test_without_another_installation_there_is_one_build() -> None:
    """The report says what would bring the other."""
    async with participants(BOTH) as found:
        assert list(found.systems) == ["osmo-ws"]
        assert "--beside (beside)" in found.skipped[OTHER]
