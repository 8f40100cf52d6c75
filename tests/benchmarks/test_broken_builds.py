"""A build that is slow, or that loses something, is told apart from one that is neither."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest

from osmo_benchmarks import run as runs
from osmo_benchmarks.machine import machine
from osmo_benchmarks.plan import Experiment, Measure, alone
from osmo_benchmarks.report import markdown
from osmo_benchmarks.rounds import measure
from osmo_benchmarks.run import Row, Run
from osmo_benchmarks.systems import Command, Osmo, System
from osmo_benchmarks.tables import round_trip, sustained
from tests.benchmarks.broken_build import LOST, SLEEP

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class StandIn(Osmo):
    """A build of ours in the place of a peer."""

    @property
    def name(self) -> str:
        """The peer's."""
        return "go"


@dataclass(frozen=True)
class Broken(Osmo):
    """A build of ours whose servers are broken."""

    fault: str = ""

    def service(self, record: Path | None = None) -> Command | None:
        """See `System`."""
        return self._broken(super().service(record))

    def operator(self, redis: str, stream: str) -> Command:
        """See `System`."""
        return self._broken(super().operator(redis, stream))

    def _broken(self, command: Command | None) -> Command:
        assert command is not None
        python, _, *module = command.arguments
        arguments = (python, "-m", "tests.benchmarks.broken_build", self.fault, *module)
        return replace(command, arguments=arguments, environment={"PYTHONPATH": str(ROOT)})


async def one_round(ours: Osmo, work: Measure, rows: Sequence[Row]) -> Run:
    """What a run finds that compares `ours` with an unbroken build."""
    systems: dict[str, System] = {"go": StandIn("ws"), "osmo-ws": ours}
    experiment = Experiment(
        name=rows[0].experiment,
        title="",
        heats=alone(*systems),
        measure=work,
        seconds=1.0,
        warm_up=False,
    )
    kept = runs.Experiment(name=experiment.name, title="")
    await measure(experiment, systems, 1, 1, kept.samples.append, lambda: None)
    return Run(
        command="bench",
        started="2026-01-02T03:04:05+00:00",
        seed=1,
        rounds=1,
        quick=True,
        complete=True,
        machine=machine(),
        versions={},
        systems=dict.fromkeys(systems, ""),
        tables=[runs.Table(name="t", title="T", rows=list(rows))],
        experiments={experiment.name: kept},
    )


def rows_of(table: str, experiment: str) -> list[Row]:
    """Those that compare our WebSocket with the Go peer."""
    made = {"round-trip": round_trip.table, "sustained": sustained.table}[table](True)
    return [each for each in made.rows if (each.experiment, each.ours) == (experiment, "osmo-ws")]


async def test_a_slow_build_misses_its_target(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its ratio says by how much."""
    monkeypatch.setattr(round_trip, "WARM_UP", 5)
    work = partial(round_trip.one_at_a_time, counts=(20, 50))
    rows = [each for each in rows_of("round-trip", "round-trip") if each.id == "T1 ws 50"]
    run = await one_round(Broken("ws", fault="slow"), work, rows)
    (row,) = rows
    figure, ratio = runs.figure(run, row, "osmo-ws"), runs.ratio(run, row, "go")
    assert figure is not None
    assert figure.median > SLEEP * 1e6
    assert ratio is not None
    assert runs.met(row, "go", ratio) is False
    assert "missed" in markdown.render(run)


async def test_a_lossy_build_has_no_figure() -> None:
    """What it acknowledged is not in Redis; the unbroken one beside it is measured."""
    messages = 5 * LOST
    rows = rows_of("sustained", "operator-redis")
    work = partial(sustained.through_operator, messages=messages)
    run = await one_round(Broken("ws", fault="lossy"), work, rows)
    ((_, failed),) = run.failures()
    assert failed.system == "osmo-ws"
    assert failed.failure == f"Redis holds {messages - 5} entries of {messages}"
    for row in rows:
        assert runs.figure(run, row, "osmo-ws") is None
        assert runs.ratio(run, row, "go") is None
        assert runs.figure(run, row, "go") is not None
    assert "failed" in markdown.render(run)
