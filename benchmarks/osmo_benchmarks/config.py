"""The configuration of a run of the benchmarks."""

from pathlib import Path
from typing import Annotated

from osmo_runtime.fields import Setting
from osmo_runtime.logs import LogLevel
from osmo_runtime.runner import ProgramConfig
from osmo_transport.bounds import Count, Seed
from osmo_transport.lean import dataclass


@dataclass(frozen=True, kw_only=True)
class BenchConfig(ProgramConfig):
    """Repeats the tables of the study on this machine: every system does the same work in turn, and
    the report shows who is ahead by how much."""

    tables: Annotated[tuple[str, ...], Setting(positional=True, metavar="TABLE")] = ()
    """The tables to measure: round-trip, startup, large-cluster, huge-cluster (100 000 pods, which
    takes minutes and 17 GB), workers, sustained, scale-out; none: all but huge-cluster."""
    quick: bool = False
    """A minute instead of ten: fewer rounds, and none of the experiments that take long."""
    rounds: Count | None = None
    """How often every system does every experiment, after a warm-up; none: 5 times, what takes long
    less often, and in a quick run twice, what takes long once. The report says how often."""
    systems: tuple[str, ...] = ()
    """Who takes part: legacy, go, go-tuned, osmo-ws, osmo-grpc, osmo-memory, osmo-other (which
    needs --beside); none: all. Repeat for several."""
    beside: Path | None = None
    """Python of another installation of this checkout, pure where this one is compiled or compiled
    where it is pure, which takes part as osmo-other in what depends on that, whoever else does;
    none: nobody does."""
    seed: Seed = 1
    """The same seed gives the same workflows, events and ends."""
    json: Path = Path("osmo-bench.json")
    """File of the results, with every sample; written after each experiment."""
    html: Path = Path("osmo-bench.html")
    """File of the report: one page with tables and plots that needs no network."""
    picture: Path | None = None
    """Also write the ratios as a picture (SVG)."""
    markdown: Path | None = None
    """Also write the rows that have a target as a table for a README."""
    results: Path | None = None
    """Measure nothing: report on this JSON file of an earlier run."""
    log_level: LogLevel = LogLevel.WARNING
    """The least severe log records that are written."""
