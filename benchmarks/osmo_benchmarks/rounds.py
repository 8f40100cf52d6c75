"""The order in which systems do an experiment: round after round, each in turn.

Whatever disturbs the machine then disturbs all alike, and a ratio is taken within one round.
"""

import asyncio
from collections.abc import Callable, Mapping
from math import isfinite
from pathlib import Path
from tempfile import TemporaryDirectory

from osmo_benchmarks.errors import BenchmarkError, WrongResultError
from osmo_benchmarks.plan import Context, Experiment, Outcome
from osmo_benchmarks.run import Sample
from osmo_benchmarks.shared import Shared
from osmo_benchmarks.systems import System

GIVE_UP_AFTER = 2
"""Failures of a heat in a row: it would fail again, and the others need the time."""

Heat = tuple[str, ...]


def heats(experiment: Experiment, systems: Mapping[str, System]) -> list[Heat]:
    """Those that can run with `systems`."""
    return [heat for heat in experiment.heats if all(name in systems for name in heat)]


def planned(experiment: Experiment, rounds: int) -> list[int]:
    """The numbers of an experiment's rounds; -1 is the warm-up."""
    counted = range(min(rounds, experiment.rounds or rounds))
    return [-1, *counted] if experiment.warm_up else list(counted)


async def measure(
    experiment: Experiment,
    systems: Mapping[str, System],
    rounds: int,
    seed: int,
    keep: Callable[[Sample], None],
    done: Callable[[], None],
) -> None:
    """Run all rounds of `experiment`.

    `keep` is given each sample as soon as it is there, so that an interrupted run keeps them;
    `done` is told of each heat that has ended. A heat that fails leaves a sample with the reason
    for each of its systems, and the others go on.
    """
    failures: dict[Heat, int] = {}
    with TemporaryDirectory(prefix="osmo-bench-") as folder:
        async with Shared() as shared:
            for number in planned(experiment, rounds):
                for heat in heats(experiment, systems):
                    if failures.get(heat, 0) < GIVE_UP_AFTER:
                        place = Path(folder) / f"{number}-{'+'.join(heat)}"
                        place.mkdir()
                        context = Context(
                            folder=place,
                            systems={name: systems[name] for name in heat},
                            shared=shared,
                            seed=seed,
                            round=number,
                        )
                        samples = await _heat(experiment, heat, context)
                        failed = any(each.failure for each in samples)
                        failures[heat] = failures.get(heat, 0) + 1 if failed else 0
                        for each in samples:
                            if number >= 0 or each.failure:
                                keep(each)
                    done()


async def _heat(experiment: Experiment, heat: Heat, context: Context) -> list[Sample]:
    try:
        async with asyncio.timeout(experiment.timeout):
            outcomes = _whole(heat, await experiment.measure(context))
    except TimeoutError:
        failure = f"gave no result within {experiment.timeout:g} s"
    except BenchmarkError as exc:
        failure = str(exc)
    else:
        return [
            Sample(
                system=name,
                round=context.round,
                heat="+".join(heat),
                figures=dict(outcome.figures),
                series={key: list(values) for key, values in outcome.series.items()},
            )
            for name, outcome in outcomes.items()
        ]
    return [
        Sample(system=name, round=context.round, heat="+".join(heat), failure=failure)
        for name in heat
    ]


def _whole(heat: Heat, outcomes: Mapping[str, Outcome]) -> Mapping[str, Outcome]:
    if outcomes.keys() != set(heat):
        raise WrongResultError(f"measured {sorted(outcomes)} where {sorted(heat)} took part")
    for name, outcome in outcomes.items():
        if strange := sorted(key for key, each in outcome.figures.items() if not isfinite(each)):
            raise WrongResultError(f"{name} has figures that are no numbers: {strange}")
    return outcomes
