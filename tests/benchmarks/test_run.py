"""What a run's file holds, and the ratios that are read from it."""

from pathlib import Path

import pytest

from osmo_benchmarks.errors import RunFileError
from osmo_benchmarks.run import (
    Experiment,
    Machine,
    Row,
    Run,
    Sample,
    aim_met,
    figure,
    load,
    met,
    ratio,
    save,
)

ROW = Row(
    id="T1",
    title="round trip",
    experiment="trip",
    figure="avg_us",
    unit="µs",
    better="lower",
    ours="osmo-ws",
    limits={"go": 0.9, "legacy": None},
)


def a_run(*samples: Sample) -> Run:
    """A run of one experiment."""
    return Run(
        command="osmo-pipeline bench",
        started="2026-01-02T03:04:05+00:00",
        seed=1,
        rounds=3,
        quick=False,
        machine=Machine(cores=2, memory_gb=4.0, cpu="some", kernel="Linux 6"),
        versions={"python": "3.11"},
        systems={"go": "the draft"},
        experiments={"trip": Experiment(name="trip", title="", samples=list(samples))},
    )


def sample(system: str, number: int, value: float | None, heat: str = "") -> Sample:
    """A sample with the row's figure, or a failed one."""
    figures = {} if value is None else {"avg_us": value}
    failure = "" if value is not None else "it crashed"
    return Sample(
        system=system, round=number, heat=heat or system, figures=figures, failure=failure
    )


def test_a_ratio_is_taken_within_each_round() -> None:
    """The machine was slow in the second round for both: the ratio does not see it."""
    run = a_run(
        sample("osmo-ws", 0, 50),
        sample("go", 0, 100),
        sample("osmo-ws", 1, 500),
        sample("go", 1, 1000),
        sample("osmo-ws", 2, 60),
        sample("go", 2, 100),
    )
    measured = ratio(run, ROW, "go")
    assert measured is not None
    assert (measured.low, measured.median, measured.high) == (0.5, 0.5, 0.6)
    assert met(ROW, "go", measured) is True
    assert met(ROW, "legacy", measured) is None


def test_a_failed_sample_gives_no_figure() -> None:
    """Nor does the round of the other that it would be compared with."""
    run = a_run(sample("osmo-ws", 0, 50), sample("go", 0, None), sample("osmo-ws", 1, 70))
    assert ratio(run, ROW, "go") is None
    measured = figure(run, ROW, "osmo-ws")
    assert measured is not None
    assert (measured.median, measured.count) == (60, 2)
    assert figure(run, ROW, "go") is None
    assert [(name, each.system) for name, each in run.failures()] == [("trip", "go")]


@pytest.mark.parametrize(
    ("better", "value", "expected"),
    [("lower", 0.9, True), ("lower", 0.91, False), ("higher", 0.9, True), ("higher", 0.89, False)],
)
def test_a_limit_is_reached_from_its_side(better: str, value: float, expected: bool) -> None:
    """At most for what should be low, at least for what should be high."""
    row = Row(
        id="x",
        title="",
        experiment="trip",
        figure="avg_us",
        unit="",
        better="lower" if better == "lower" else "higher",
        ours="osmo-ws",
        limits={"go": 0.9},
        aim=0.9,
    )
    run = a_run(sample("osmo-ws", 0, value), sample("go", 0, 1.0))
    assert met(row, "go", ratio(run, row, "go")) is expected
    assert aim_met(row, figure(run, row, "osmo-ws")) is expected


def test_only_the_heat_of_the_row_counts() -> None:
    """A system that runs beside several others has a figure for each of them."""
    row = Row(
        id="x",
        title="",
        experiment="trip",
        figure="avg_us",
        unit="",
        better="higher",
        ours="osmo-ws",
        heat="go+osmo-ws",
    )
    run = a_run(
        sample("osmo-ws", 0, 1.0, "go+osmo-ws"), sample("osmo-ws", 0, 0.2, "legacy+osmo-ws")
    )
    measured = figure(run, row, "osmo-ws")
    assert measured is not None
    assert measured.median == 1.0


def test_the_file_gives_back_the_run(tmp_path: Path) -> None:
    """Every sample, and nothing half-written beside it."""
    run = a_run(sample("osmo-ws", 0, 50), sample("go", 0, None))
    save(run, tmp_path / "run.json")
    assert load(tmp_path / "run.json") == run
    assert [each.name for each in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot read"),
        ("{}", "is no result of osmo-pipeline bench"),
        ("no json", "is no result of osmo-pipeline bench"),
    ],
)
def test_a_wrong_file_is_told(tmp_path: Path, text: str | None, said: str) -> None:
    """With its name and what is wrong with it."""
    path = tmp_path / "run.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(RunFileError, match=said):
        load(path)


def test_a_file_of_another_format_is_refused(tmp_path: Path) -> None:
    """It could be misread."""
    run = a_run()
    run.format = 99
    save(run, tmp_path / "run.json")
    with pytest.raises(RunFileError, match="format 99"):
        load(tmp_path / "run.json")
