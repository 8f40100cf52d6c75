"""What is to be measured: experiments, and the tables that are made of them."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from osmo_benchmarks.run import Row
from osmo_benchmarks.shared import Shared
from osmo_benchmarks.systems import System


@dataclass(frozen=True)
class Outcome:
    """What one system did once. See `Sample`."""

    figures: Mapping[str, float]
    series: Mapping[str, Sequence[float]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Context:
    """What an experiment may use while it runs once."""

    folder: Path
    """Empty, and its own: logs and records go there."""
    systems: Mapping[str, System]
    """Of this heat, by name."""
    shared: Shared
    """Of all heats of this experiment."""
    seed: int
    round: int
    """From 0; -1 in the warm-up."""

    @property
    def system(self) -> System:
        """The only one of this heat."""
        (only,) = self.systems.values()
        return only


Measure = Callable[[Context], Awaitable[Mapping[str, Outcome]]]


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One piece of work, done by each system in turn."""

    name: str
    title: str
    heats: tuple[tuple[str, ...], ...]
    """Who runs together, heat after heat; most heats have one system."""
    measure: Measure
    """Does the work once with the systems of the context, and checks that the result is right.

    Raises:
        ProgramError, WrongResultError: there are no figures; the others go on.
    """
    seconds: float
    """About how long one heat takes: for the time left, and never a limit."""
    timeout: float = 120.0
    """Seconds after which a heat is given up."""
    rounds: int | None = None
    """At most that many, where one takes long and nobody says how often."""
    warm_up: bool = True
    """Whether a round before the first is thrown away."""
    quick: bool = True
    """Whether it is part of a quick run."""
    memory_gb: float = 0.0
    """What it needs; with less it is skipped, and the report says so."""
    needs: frozenset[str] = frozenset()
    """Of `redis` and `postgresql`: without one, it is skipped."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of the study, and the experiments that fill it."""

    name: str
    title: str
    experiments: tuple[Experiment, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()


def alone(*systems: str) -> tuple[tuple[str, ...], ...]:
    """Heats of one system each."""
    return tuple((each,) for each in systems)
