"""What one run of the benchmarks measured: the content of its JSON file."""

import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from osmo_benchmarks.errors import RunFileError

FORMAT = 1
"""Of the JSON file; raised when a reader of an older one would misread it."""

Better = Literal["lower", "higher"]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A row of a table: one figure of one experiment, ours beside that of each peer."""

    id: str
    """For example `T1 ws 500`; unique in a run."""
    title: str
    """What is measured, for a reader who has not read the study."""
    short: str = ""
    """The same in three words below the title of its table, for a picture; empty: the id."""
    experiment: str
    figure: str
    """Name of the figure in each sample of the experiment."""
    unit: str
    better: Better
    ours: str
    """The system of ours that the row is about."""
    limits: dict[str, float | None] = {}
    """By peer: the ratio ours / peer that is aimed at, at most (`lower`) or at least (`higher`);
    None: published only."""
    aim: float | None = None
    """What the figure itself should reach, where the row is no ratio: a share, or a rate."""
    no_target: str = ""
    """Why nothing is aimed at, neither by a limit nor by an aim."""
    heat: str = ""
    """The heat whose samples count, where systems run together; empty: all."""
    published: dict[str, str] = {}
    """The study's figures, by system, as it gives them."""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """What one system did in one round of an experiment."""

    system: str
    round: int
    """From 0; rounds of the warm-up are not kept."""
    heat: str
    """Who ran at the same time, joined by `+`."""
    figures: dict[str, float] = {}
    series: dict[str, list[float]] = {}
    """Single measurements in the order in which they happened."""
    failure: str = ""
    """Why there are no figures."""


class Experiment(msgspec.Struct, kw_only=True):
    """All samples of one experiment."""

    name: str
    title: str
    samples: list[Sample] = []


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """A table of the study."""

    name: str
    title: str
    rows: list[Row]
    notes: list[str] = []
    """What a reader has to know to read the rows right: the cluster, what was left out and why."""


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where the run took place."""

    cores: int
    memory_gb: float
    cpu: str
    kernel: str


class Run(msgspec.Struct, kw_only=True):
    """A run of the benchmarks."""

    format: int = FORMAT
    command: str
    started: str
    """ISO 8601, UTC."""
    seconds: float = 0.0
    complete: bool = False
    """False: it was interrupted, and what had been measured until then is here."""
    seed: int
    rounds: int
    """Of an experiment at most; its samples say how many there were."""
    quick: bool
    machine: Machine
    versions: dict[str, str]
    systems: dict[str, str]
    """Who took part: name, and a line that says what it is."""
    skipped: dict[str, str] = {}
    """Systems, tables or experiments that were left out, and why."""
    tables: list[Table] = []
    experiments: dict[str, Experiment] = {}

    def samples(self, experiment: str, system: str, heat: str = "") -> list[Sample]:
        """Those that have figures, in the order of their rounds."""
        found = self.experiments.get(experiment)
        return [
            each
            for each in (found.samples if found else [])
            if each.system == system and not each.failure and heat in ("", each.heat)
        ]

    def failures(self) -> Iterator[tuple[str, Sample]]:
        """Samples without figures, with the name of their experiment."""
        for name, experiment in self.experiments.items():
            for each in experiment.samples:
                if each.failure:
                    yield name, each


class Spread(msgspec.Struct, frozen=True):
    """A median, and how far the rounds lie apart."""

    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: list[float]) -> "Spread | None":
        """None where there are no values."""
        if not values:
            return None
        return cls(statistics.median(values), min(values), max(values), len(values))


def figure(run: Run, row: Row, system: str) -> Spread | None:
    """The row's figure of one system over the rounds; None: not measured."""
    return Spread.of([each for _, each in _by_round(run, row, system)])


def ratio(run: Run, row: Row, peer: str) -> Spread | None:
    """Ours / the peer's, taken round by round; None: one of them was not measured, or is below
    zero, as differences are."""
    theirs: Mapping[int, float] = dict(_by_round(run, row, peer))
    return Spread.of(
        [
            mine / theirs[number]
            for number, mine in _by_round(run, row, row.ours)
            if mine >= 0 and theirs.get(number, 0.0) > 0
        ]
    )


def met(row: Row, peer: str, measured: Spread | None) -> bool | None:
    """Whether the median ratio reaches the row's limit; None: there is none, or no ratio."""
    limit = row.limits.get(peer)
    if limit is None or measured is None:
        return None
    return measured.median <= limit if row.better == "lower" else measured.median >= limit


def aim_met(row: Row, measured: Spread | None) -> bool | None:
    """Whether the median figure reaches the row's aim; None: there is none, or no figure."""
    if row.aim is None or measured is None:
        return None
    return measured.median <= row.aim if row.better == "lower" else measured.median >= row.aim


def _by_round(run: Run, row: Row, system: str) -> Iterator[tuple[int, float]]:
    for each in run.samples(row.experiment, system, row.heat):
        if row.figure in each.figures:
            yield each.round, each.figures[row.figure]


def save(run: Run, path: Path) -> None:
    """Write the file, as a whole or not at all.

    Raises:
        RunFileError: it cannot be written.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.write_bytes(msgspec.json.format(msgspec.json.encode(run), indent=1))
        partial.replace(path)
    except OSError as exc:
        partial.unlink(missing_ok=True)
        raise RunFileError(f"cannot write {path}: {exc.strerror}") from exc


def load(path: Path) -> Run:
    """Read the file of an earlier run.

    Raises:
        RunFileError: it cannot be read, or is none.
    """
    try:
        run = msgspec.json.decode(path.read_bytes(), type=Run)
    except OSError as exc:
        raise RunFileError(f"cannot read {path}: {exc.strerror}") from exc
    except msgspec.DecodeError as exc:
        raise RunFileError(f"{path} is no result of osmo-pipeline bench: {exc}") from exc
    if run.format != FORMAT:
        raise RunFileError(f"{path} has format {run.format}; this version reads {FORMAT}")
    return run
