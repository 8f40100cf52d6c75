"""Who runs when, what is kept, and that a failure stops nobody else."""

import asyncio
import re
from collections.abc import Mapping
from math import nan

import pytest

from osmo_benchmarks.errors import ProgramError, WrongResultError
from osmo_benchmarks.plan import Context, Experiment, Measure, Outcome, alone
from osmo_benchmarks.rounds import GIVE_UP_AFTER, heats, measure, planned
from osmo_benchmarks.run import Sample
from osmo_benchmarks.systems import Osmo, Peer, System

SYSTEMS: Mapping[str, System] = {
    "go": Peer("go", ("peer",)),
    "legacy": Peer("legacy", ("peer",)),
    "osmo-ws": Osmo("ws"),
}


def experiment(
    work: Measure,
    *pairs: tuple[str, ...],
    warm_up: bool = False,
    rounds: int | None = None,
    timeout: float = 10.0,
) -> Experiment:
    """One that calls `work`."""
    return Experiment(
        name="x",
        title="",
        heats=pairs or alone("go", "osmo-ws"),
        measure=work,
        seconds=1.0,
        warm_up=warm_up,
        rounds=rounds,
        timeout=timeout,
    )


async def run(
    of: Experiment, rounds: int, systems: Mapping[str, System] = SYSTEMS
) -> tuple[list[Sample], int]:
    """The samples kept, and how many heats were told to have ended."""
    kept: list[Sample] = []
    ended = 0

    def done() -> None:
        nonlocal ended
        ended += 1

    await measure(of, systems, rounds, 7, kept.append, done)
    return kept, ended


async def test_systems_take_turns_after_a_warm_up() -> None:
    """A B, A B, A B; the first round is thrown away."""
    order = []

    async def work(context: Context) -> Mapping[str, Outcome]:
        order.append((context.round, context.system.name, context.seed))
        assert list(context.folder.iterdir()) == []
        return {context.system.name: Outcome({"figure": float(context.round)})}

    kept, ended = await run(experiment(work, warm_up=True), 2)
    assert order == [(n, name, 7) for n in (-1, 0, 1) for name in ("go", "osmo-ws")]
    assert [(each.system, each.round, each.figures) for each in kept] == [
        (name, n, {"figure": float(n)}) for n in (0, 1) for name in ("go", "osmo-ws")
    ]
    assert ended == 6


async def test_a_failure_is_kept_with_its_reason_and_the_others_go_on() -> None:
    """After two in a row a heat is given up."""
    tries = 0

    async def work(context: Context) -> Mapping[str, Outcome]:
        nonlocal tries
        if context.system.name == "go":
            tries += 1
            raise ProgramError("go ended with exit code 1; the end of its log: …")
        return {"osmo-ws": Outcome({"figure": 1.0})}

    kept, ended = await run(experiment(work), 4)
    failed = [each for each in kept if each.failure]
    assert tries == len(failed) == GIVE_UP_AFTER
    assert all("the end of its log" in each.failure and not each.figures for each in failed)
    assert sum(each.system == "osmo-ws" for each in kept) == 4
    assert ended == 8


async def test_a_wrong_result_gives_no_figures_to_either_of_a_pair() -> None:
    """Who was first means nothing when one of them lost reports."""

    async def work(_: Context) -> Mapping[str, Outcome]:
        raise WrongResultError("3 of 85 pods are missing")

    kept, _ = await run(experiment(work, ("go", "osmo-ws")), 1)
    assert [(each.system, each.heat, each.failure) for each in kept] == [
        (name, "go+osmo-ws", "3 of 85 pods are missing") for name in ("go", "osmo-ws")
    ]


@pytest.mark.parametrize(
    ("outcomes", "reason"),
    [
        (
            {"go": Outcome({"figure": 1.0})},
            r"measured \['go'\] where \['go', 'osmo-ws'\] took part",
        ),
        (dict.fromkeys(("go", "osmo-ws", "legacy"), Outcome({})), "where .* took part"),
        (dict.fromkeys(("go", "osmo-ws"), Outcome({"figure": nan})), r"no numbers: \['figure'\]"),
    ],
)
async def test_samples_are_of_those_who_took_part(
    outcomes: Mapping[str, Outcome], reason: str
) -> None:
    """Of each of them, and with figures that are numbers."""

    async def work(_: Context) -> Mapping[str, Outcome]:
        return outcomes

    kept, _ = await run(experiment(work, ("go", "osmo-ws")), 1)
    assert [each.system for each in kept] == ["go", "osmo-ws"]
    assert all(re.search(reason, each.failure) and not each.figures for each in kept)


async def test_a_heat_that_hangs_is_given_up() -> None:
    """Its time is limited."""

    async def work(context: Context) -> Mapping[str, Outcome]:
        if context.system.name == "go":
            await asyncio.Event().wait()
        return {context.system.name: Outcome({})}

    kept, _ = await run(experiment(work, timeout=0.01), 1)
    assert ["no result within" in each.failure for each in kept] == [True, False]


async def test_what_is_shared_lasts_for_the_experiment() -> None:
    """It is made once, whoever asks first, and closed at the end."""
    events = []

    class Cluster:
        async def __aenter__(self) -> "Cluster":
            events.append("made")
            return self

        async def __aexit__(self, *_: object) -> None:
            events.append("closed")

    async def work(context: Context) -> Mapping[str, Outcome]:
        assert isinstance(await context.shared.get("cluster", Cluster), Cluster)
        events.append(context.system.name)
        return {context.system.name: Outcome({})}

    await run(experiment(work), 2)
    assert events == ["made", "go", "osmo-ws", "go", "osmo-ws", "closed"]


def test_heats_of_absent_systems_are_left_out() -> None:
    """And only those."""

    async def work(_: Context) -> Mapping[str, Outcome]:
        return {}

    of = experiment(work, ("go", "osmo-ws"), ("go-tuned", "osmo-ws"), ("legacy",))
    assert heats(of, SYSTEMS) == [("go", "osmo-ws"), ("legacy",)]


def test_an_experiment_can_ask_for_fewer_rounds() -> None:
    """One that takes minutes."""

    async def work(_: Context) -> Mapping[str, Outcome]:
        return {}

    assert planned(experiment(work, rounds=1), 5) == [0]
    assert planned(experiment(work, warm_up=True), 2) == [-1, 0, 1]
