"""What is shown of a run: of every row that was measured, and nothing that was not."""

import re
from collections.abc import Mapping
from math import inf
from xml.etree import ElementTree

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from osmo_benchmarks import run as runs
from osmo_benchmarks.report import html, markdown, picture, terminal
from osmo_benchmarks.report.lines import Verdict, lines, number, spread
from osmo_benchmarks.run import Experiment, Machine, Run, Sample, Spread
from osmo_benchmarks.tables import TABLES

ROUNDS = 3
RISING = [float(each) for each in range(1, 60)]
SERIES = (
    *("round_trip_us", "gap_ms", "diff_ms", "round_trip_ms", "acked_ms", "backlog_ms", "backlog"),
    *("rss_s", "rss_mb", "processing_ms", "created_s", "done_s"),
)


def whole(*tables: str) -> Run:
    """A run with every row of these tables, else of all; the later a system is named, the higher
    its figures."""
    made = [TABLES[name](False) for name in tables or TABLES]
    names = (
        *("osmo-memory", "osmo-ws", "osmo-other", "osmo-grpc"),
        *("go-tuned", "go", "legacy"),
    )
    figures = {(row.experiment, row.figure) for table in made for row in table.rows}
    experiments = {}
    for each in (each for table in made for each in table.experiments):
        kept = experiments[each.name] = Experiment(name=each.name, title=each.title)
        for turn in range(ROUNDS):
            for heat in each.heats:
                for system in heat:
                    place = names.index(system) + 1
                    value = 10.0 * place + turn
                    kept.samples.append(
                        Sample(
                            system=system,
                            round=turn,
                            heat="+".join(heat),
                            figures={f: value for e, f in figures if e == each.name},
                            series={name: [x * place for x in RISING] for name in SERIES},
                        )
                    )
    kept_tables = [
        runs.Table(name=t.name, title=t.title, rows=list(t.rows), notes=list(t.notes)) for t in made
    ]
    return empty(kept_tables, experiments, dict.fromkeys(names, "what it is"))


def empty(
    tables: list[runs.Table] | None = None,
    experiments: Mapping[str, Experiment] | None = None,
    systems: Mapping[str, str] | None = None,
    *,
    complete: bool = True,
) -> Run:
    """A run in which nothing was measured but what is given."""
    return Run(
        command="osmo-pipeline bench <x>",
        started="2026-01-02T03:04:05+00:00",
        seconds=61.0,
        complete=complete,
        seed=1,
        rounds=ROUNDS,
        quick=False,
        machine=Machine(cores=2, memory_gb=8.0, cpu="A & B", kernel="Linux 6"),
        versions={"osmo-pipeline": "0.1.0 (pure Python)"},
        systems=dict(systems or {}),
        tables=tables or [],
        experiments=dict(experiments or {}),
    )


def test_a_whole_run(capsys: pytest.CaptureFixture[str]) -> None:
    """Each row is in each report, and each plot is drawn."""
    run = whole()
    terminal.show(run)
    shown = capsys.readouterr().out
    page, table, drawn = html.render(run), markdown.render(run), picture.render(run)
    for line in (line for each in run.tables for line in lines(run, each)):
        assert f"{line.row.id} " in shown
        assert f"<b>{line.row.id}</b>" in page
        assert (f"| {line.row.id} |" in table) == (line.verdict is not Verdict.NONE)
    assert page.count("<figure>") == page.count("</svg></figure>") == 18
    assert "//" not in re.sub(r'"http://www\.w3\.org/[^"]*"', "", page)
    assert not re.search(r"#0[0-9a-f]0[0-9a-f]0[0-9a-f]\b", page)
    assert "<script" not in page
    ElementTree.fromstring(drawn)


def test_the_same_run_gives_the_same_picture() -> None:
    """It is committed."""
    assert picture.render(whole()) == picture.render(whole())


@pytest.mark.parametrize("complete", [True, False])
def test_a_run_without_anything(capsys: pytest.CaptureFixture[str], *, complete: bool) -> None:
    """No report fails, and what is interrupted says so."""
    run = empty(complete=complete)
    terminal.show(run)
    for text in (capsys.readouterr().out, html.render(run), markdown.render(run)):
        assert ("interrupted" in text) == (not complete)
    ElementTree.fromstring(picture.render(run))


def test_what_failed_has_a_reason_and_no_figure(capsys: pytest.CaptureFixture[str]) -> None:
    """Here ours fails in one experiment, and a peer in another one."""
    run = whole("round-trip", "large-cluster")
    for name, system in (("throughput", "osmo-ws"), ("burst", "go")):
        kept = run.experiments[name]
        kept.samples = [each for each in kept.samples if each.system != system]
        failed = Sample(system=system, round=0, heat=system, failure="it said:\n  <boom>")
        kept.samples.append(failed)
    terminal.show(run)
    shown, page = capsys.readouterr().out, html.render(run)
    assert "osmo-ws failed in throughput: it said:\n  <boom>" in shown
    assert "it said:\n  &lt;boom&gt;" in page
    assert "<boom>" not in page
    found = {line.row.id: line for table in run.tables for line in lines(run, table)}
    assert found["T2 ws"].verdict is Verdict.FAILED
    assert found["T2 ws"].figure is None
    assert found["L1 burst"].peers["go"].failed
    assert found["L1 burst"].peers["go"].ratio is None
    assert found["L1 burst"].verdict is Verdict.NONE


def test_a_ratio_is_turned_so_that_more_is_ahead() -> None:
    """The shortest of ours is the furthest ahead."""
    run = whole()
    found = {line.row.id: line for table in run.tables for line in lines(run, table)}
    time, rate = found["T1 ws 500"], found["T2 ws"]
    ratio, ahead = time.peers["go"].ratio, time.advantage("go")
    assert ratio is not None
    assert ahead == Spread(1 / ratio.median, 1 / ratio.high, 1 / ratio.low, ROUNDS)
    assert rate.advantage("go") == rate.peers["go"].ratio


def test_what_takes_no_time_is_infinitely_ahead() -> None:
    """And is drawn, as what is ahead."""
    run = whole("round-trip")
    row = next(row for table in run.tables for row in table.rows if row.id == "T1 ws 500")
    before = picture.render(run), html.render(run)
    for sample in run.samples(row.experiment, row.ours):
        sample.figures[row.figure] = 0.0
    found = {line.row.id: line for table in run.tables for line in lines(run, table)}
    assert found[row.id].advantage("go") == Spread(inf, inf, inf, ROUNDS)
    assert found[row.id].verdict is Verdict.MET
    drawn, page = picture.render(run), html.render(run)
    assert (drawn, page) != before
    ElementTree.fromstring(drawn)


def test_page_and_terminal_say_who_is_ahead(capsys: pytest.CaptureFixture[str]) -> None:
    """In the words of the picture, and the bar has the colour of who is."""
    run = whole("round-trip")
    (table,) = run.tables
    (ahead, behind) = (row for row in table.rows if row.id in ("T1 ws 500", "T2 ws"))
    for sample in run.experiments[ahead.experiment].samples:
        sample.figures[ahead.figure] = 1.0 if sample.system == ahead.ours else 4.0
    for sample in run.experiments[behind.experiment].samples:
        sample.figures[behind.figure] = 1.0 if sample.system == behind.ours else 3.0
    run.tables = [msgspec.structs.replace(table, rows=[ahead, behind])]
    terminal.show(run)
    shown, page = capsys.readouterr().out, html.render(run)
    for text in (shown, page):
        assert text.count("4x ahead") == text.count("3x behind") == 3
    fills = re.findall(r"fill:var\(--([\w-]+)\)", page)
    assert fills == ["osmo-ws"] * 3 + ["legacy", "go", "osmo-other"]


def test_one_round_of_two_builds_is_no_comparison() -> None:
    """The table of both says so, and who is ahead where there were more."""
    run = whole("round-trip")
    assert "one round" not in markdown.render(run)
    for kept in run.experiments.values():
        kept.samples = [each for each in kept.samples if each.round == 0]
    (header, *rows) = (
        markdown.render(run).partition("| row | what | ours | osmo-other")[2].split("\n| T")
    )
    assert header.startswith(" | ours / osmo-other | ours is |")
    assert rows
    assert all("| one round: no comparison |" in row for row in rows)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.00042, "0.0004"),
        (0.0318, "0.032"),
        (1.0, "1"),
        (1.266, "1.27"),
        (12.34, "12.3"),
        (1234.5, "1,234"),
        (-0.5, "-0.5"),
    ],
)
def test_numbers(value: float, text: str) -> None:
    """Three digits that count."""
    assert number(value) == text


@given(st.floats(-1e12, 1e12))
def test_numbers_are_read_as_what_they_are(value: float) -> None:
    """To two digits, unless they are tiny."""
    assert float(number(value).replace(",", "")) == pytest.approx(value, rel=0.05, abs=1e-4)


def test_ranges() -> None:
    """One round has none."""
    assert spread(None) == "-"
    assert spread(Spread(2.0, 1.0, 3.0, 3), "ms") == "2 ms [1 … 3]"
    assert spread(Spread(2.0, 2.0, 2.0, 1), "ms") == "2 ms"
