"""The rows of a run as every report shows them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from math import inf

from osmo_benchmarks import run as runs
from osmo_benchmarks.run import Row, Run, Spread, Table
from osmo_benchmarks.systems import OTHER
from osmo_runtime.texts import counted

OURS = "osmo-pipeline"
"""Among the versions of a run."""
PEERS = ("legacy", "go", "go-tuned", OTHER)
"""In the order of the columns."""


class Verdict(Enum):
    """Whether a row reaches its targets."""

    MET = "met"
    MISSED = "missed"
    FAILED = "failed"
    NONE = ""


@dataclass(frozen=True)
class Peer:
    """One peer's part of a row."""

    figure: Spread | None
    ratio: Spread | None
    met: bool | None
    failed: bool


@dataclass(frozen=True)
class Line:
    """A row with what was measured for it."""

    row: Row
    figure: Spread | None
    peers: Mapping[str, Peer]
    verdict: Verdict

    @property
    def ours(self) -> str:
        """What ours did, or that it failed."""
        return "failed" if self.verdict is Verdict.FAILED else spread(self.figure, self.row.unit)

    @property
    def target(self) -> str:
        """What is aimed at, or why nothing is, in words."""
        sign = "≤" if self.row.better == "lower" else "≥"
        parts = [
            f"{sign} {number(limit)} ({peer})"
            for peer, limit in self.row.limits.items()
            if limit is not None
        ]
        if self.row.aim is not None:
            parts.append(f"{sign} {measure(self.row.aim, self.row.unit)}")
        return ", ".join(parts) or (f"none: {self.row.no_target}" if self.row.no_target else "")

    @property
    def published(self) -> str:
        """What the study gives, in words."""
        return ", ".join(f"{name} {figure}" for name, figure in self.row.published.items())

    def seen(self, peer: str) -> bool:
        """Whether there is anything to tell of a peer: a figure, or that it failed."""
        found = self.peers.get(peer)
        return found is not None and (found.figure is not None or found.failed)

    def advantage(self, peer: str) -> Spread | None:
        """How many times ahead of a peer ours is; below 1: behind; infinite: it takes nothing."""
        ratio = self.peers[peer].ratio if peer in self.peers else None
        if ratio is None or self.row.better == "higher":
            return ratio
        median, low, high = (
            1 / each if each else inf for each in (ratio.median, ratio.high, ratio.low)
        )
        return Spread(median, low, high, ratio.count)


def lines(run: Run, table: Table) -> Iterator[Line]:
    """Of the rows of a table of which there is a figure, or a failure."""
    for row in table.rows:
        if row.experiment in run.experiments:
            line = _line(run, row)
            failed = line.verdict is Verdict.FAILED
            if line.figure is not None or failed or any(map(line.seen, line.peers)):
                yield line


@dataclass(frozen=True)
class Columns:
    """Those of a table of which one of its rows tells something."""

    ours: bool
    peers: tuple[str, ...]
    target: bool
    """Whether one is reached or missed, or ours failed."""


def columns(found: Sequence[Line]) -> Columns:
    """What there is to show of these rows."""
    judged = [line for line in found if line.verdict is not Verdict.NONE]
    return Columns(
        ours=bool(judged) or any(line.figure is not None for line in found),
        peers=tuple(name for name in PEERS if any(line.seen(name) for line in found)),
        target=bool(judged),
    )


def _line(run: Run, row: Row) -> Line:
    mine = runs.figure(run, row, row.ours)
    peers = {}
    for name in PEERS:
        if name in row.limits and name in run.systems:
            ratio = runs.ratio(run, row, name)
            peers[name] = Peer(
                runs.figure(run, row, name),
                ratio,
                runs.met(row, name, ratio),
                _failed(run, row, name),
            )
    reached = [each.met for each in peers.values()] + [runs.aim_met(row, mine)]
    if mine is None and _failed(run, row, row.ours):
        verdict = Verdict.FAILED
    elif False in reached:
        verdict = Verdict.MISSED
    else:
        verdict = Verdict.MET if True in reached else Verdict.NONE
    return Line(row, mine, peers, verdict)


def _failed(run: Run, row: Row, system: str) -> bool:
    return any(
        each.system == system and each.failure and row.heat in ("", each.heat)
        for each in run.experiments[row.experiment].samples
    )


def summary(run: Run) -> str:
    """How many targets are reached."""
    verdicts = [each.verdict for table in run.tables for each in lines(run, table)]
    met, missed = verdicts.count(Verdict.MET), verdicts.count(Verdict.MISSED)
    text = (
        f"{met} of {met + missed} rows with a target reach it"
        if met + missed
        else "no row with a target was measured"
    )
    if failed := verdicts.count(Verdict.FAILED):
        text += f"; {failed} failed and have no figure"
    return text


def state(run: Run) -> str:
    """When, where and how, and whether the run is whole."""
    machine = run.machine
    text = (
        f"{run.command} at {run.started}, {run.seconds / 60:.1f} minutes, seed {run.seed},"
        f" {rounds(run)}; {machine.cores} cores, {machine.memory_gb:g} GB,"
        f" {machine.cpu}, {machine.kernel};"
        f" {OURS} {run.versions.get(OURS, 'of an unknown build')},"
        f" Python {run.versions.get('python', 'of an unknown build')}"
    )
    return text if run.complete else f"interrupted, not all was measured: {text}"


def rounds(run: Run) -> str:
    """How often each experiment was done, which may be less than was planned."""
    done = [
        len({sample.round for sample in each.samples if sample.round >= 0})
        for each in run.experiments.values()
        if each.samples
    ]
    least, most = min(done, default=0), max(done, default=0)
    return counted(most, "round") if least == most else f"{least} to {most} rounds"


def builds(run: Run) -> str:
    """Which build is ours and which is the other one; empty where there is no other."""
    if OTHER not in run.systems:
        return ""
    mine, other = (run.versions.get(name, "of an unknown build") for name in (OURS, OTHER))
    same = ": the same build" if mine == other else ""
    return f"ours is {OURS} {mine}, {OTHER} is {other}{same}"


def left_out(run: Run) -> Iterator[str]:
    """What was left out and why, all with the same reason together."""
    reasons: dict[str, list[str]] = {}
    for name, reason in run.skipped.items():
        reasons.setdefault(reason, []).append(name)
    for reason, names in reasons.items():
        yield f"{', '.join(names)}: {reason}"


def side(ahead: Spread) -> str:
    """Where ours stands by what `Line.advantage` gives."""
    return "ahead" if ahead.median >= 1 else "behind"


def standing(ahead: Spread) -> str:
    """The same with how many times; `far`, where one of both takes nothing."""
    times = max(ahead.median, 1 / ahead.median if ahead.median else inf)
    if times == inf:
        return f"far {side(ahead)}"
    text = number(times)
    return "even" if text == "1" else f"{text}x {side(ahead)}"


def number(value: float) -> str:
    """Three digits that count, and never an exponent."""
    size = abs(value)
    if size >= 100 or value == int(value):
        return f"{value:,.0f}"
    decimals = 1 if size >= 10 else 2 if size >= 1 else 3 if size >= 0.01 else 4
    return f"{value:.{decimals}f}".rstrip("0").rstrip(".")


def measure(value: float, unit: str) -> str:
    """A figure with its unit."""
    return f"{number(value)} {unit}".rstrip()


def spread(of: Spread | None, unit: str = "") -> str:
    """A median, and its range where there is one."""
    if of is None:
        return "-"
    text = measure(of.median, unit)
    return text if of.count == 1 else f"{text} [{number(of.low)} … {number(of.high)}]"
