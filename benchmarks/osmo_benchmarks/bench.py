"""One run of the benchmarks: what is asked for, measured, saved and shown."""

import asyncio
import logging
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from osmo_benchmarks import postgres, rounds
from osmo_benchmarks import run as runs
from osmo_benchmarks.config import BenchConfig
from osmo_benchmarks.errors import FailedRunError, PlanError, RunFileError
from osmo_benchmarks.machine import available_memory_gb, machine, versions
from osmo_benchmarks.participants import DESCRIPTIONS, Participants, participants
from osmo_benchmarks.plan import Experiment, Table
from osmo_benchmarks.progress import progress
from osmo_benchmarks.report import html, markdown, picture, terminal
from osmo_benchmarks.run import Run, Sample
from osmo_benchmarks.systems import OTHER
from osmo_benchmarks.tables import ON_DEMAND, TABLES
from osmo_runtime import build
from osmo_runtime.errors import suggest
from osmo_runtime.startup import unless_stopped
from osmo_transport.naming import setting
from osmo_transport.testing.redis_server import MISSING, redis_programs

ROUNDS = 5
QUICK_ROUNDS = 2
MEMORY_MARGIN_GB = 1.0
"""Left to everything else on the machine."""

_log = logging.getLogger(__name__)


async def run_bench(config: BenchConfig, stop: asyncio.Event) -> None:
    """Measure, or take the results of an earlier run, and report.

    Raises:
        PlanError: an unknown table or system, or `beside` is no Python that has our programs.
        RunFileError: a file cannot be written or read.
        FailedRunError: interrupted (what was measured is saved), or one of our systems lost
            something.
    """
    if config.results is not None:
        _report(runs.load(config.results), config)
        return
    names = _names(config.tables or _usual_tables(), TABLES, "table")
    tables = [TABLES[name](config.quick) for name in names]
    wanted = frozenset(_names(config.systems, DESCRIPTIONS, "system"))
    if config.beside is not None:
        wanted |= {OTHER}
    _check_writable(config)
    async with AsyncExitStack() as stack:
        invited = stack.enter_async_context(participants(wanted, config.beside))
        taking_part = await unless_stopped(invited, stop)
        if taking_part is None:
            raise FailedRunError("interrupted before anything was measured")
        run = _begin(config, tables, taking_part)
        if taking_part.other == build.version():
            _log.warning(
                "%s names an installation of the same build: %s", setting("beside"), build.version()
            )
        began = time.monotonic()
        try:
            await unless_stopped(_measure(run, config, tables, taking_part), stop)
        finally:
            run.seconds = time.monotonic() - began
            runs.save(run, config.json)
    _report(run, config)
    if not run.complete:
        raise FailedRunError(f"interrupted: {config.json} holds what was measured until then")
    if ours := sorted({f"{name} ({each.system})" for name, each in run.failures() if _ours(each)}):
        raise FailedRunError(f"a system of ours failed in {', '.join(ours)}: see {config.html}")


def _usual_tables() -> tuple[str, ...]:
    return tuple(name for name in TABLES if name not in ON_DEMAND)


def _ours(sample: Sample) -> bool:
    return sample.system.startswith("osmo-")


def _names(asked: Sequence[str], known: Iterable[str], what: str) -> list[str]:
    names = list(known)
    for each in asked:
        if each not in names:
            raise PlanError(f"there is no {what} {each!r}: {suggest(each, names)}")
    return [each for each in names if not asked or each in asked]


def _check_writable(config: BenchConfig) -> None:
    """Ten minutes are too long to learn it at the end."""
    for path in (config.json, config.html, config.picture, config.markdown):
        if path is not None and not path.absolute().parent.is_dir():
            raise RunFileError(f"cannot write {path}: there is no folder {path.parent}")


def _begin(config: BenchConfig, tables: Sequence[Table], taking_part: Participants) -> Run:
    arguments = [*config.tables, *(["--quick"] if config.quick else [])]
    if config.rounds is not None:
        arguments += ["--rounds", str(config.rounds)]
    for name in config.systems:
        arguments += ["--systems", name]
    if config.beside is not None:
        arguments += ["--beside", str(config.beside)]
    return Run(
        command=" ".join(("osmo-pipeline bench", *arguments)),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        seed=config.seed,
        rounds=config.rounds or (QUICK_ROUNDS if config.quick else ROUNDS),
        quick=config.quick,
        machine=machine(),
        versions=versions() | ({OTHER: taking_part.other} if taking_part.other else {}),
        systems={name: DESCRIPTIONS[name] for name in taking_part.systems},
        skipped=dict(taking_part.skipped)
        | (
            {}
            if config.tables
            else dict.fromkeys(sorted(ON_DEMAND), "is measured when it is named")
        ),
        tables=[
            runs.Table(
                name=each.name, title=each.title, rows=list(each.rows), notes=list(each.notes)
            )
            for each in tables
        ],
    )


async def _measure(
    run: Run, config: BenchConfig, tables: Sequence[Table], taking_part: Participants
) -> None:
    experiments = []
    for each in (each for table in tables for each in table.experiments):
        if reason := _missing(each, config, taking_part):
            run.skipped[each.name] = reason
        else:
            # Whoever says how often means all of them.
            experiments.append(replace(each, rounds=config.rounds) if config.rounds else each)
    total = sum(
        each.seconds
        * len(rounds.planned(each, run.rounds))
        * len(rounds.heats(each, taking_part.systems))
        for each in experiments
    )
    with progress(total) as shown:
        for each in experiments:
            shown.begin(each.name)
            kept = runs.Experiment(name=each.name, title=each.title)
            run.experiments[each.name] = kept
            try:
                await rounds.measure(
                    each,
                    taking_part.systems,
                    run.rounds,
                    config.seed,
                    kept.samples.append,
                    partial(shown.advance, each.seconds),
                )
            finally:
                runs.save(run, config.json)
    run.complete = True


def _missing(experiment: Experiment, config: BenchConfig, taking_part: Participants) -> str:
    """Why an experiment cannot be done, or nothing."""
    if config.quick and not experiment.quick:
        return "takes too long for a quick run"
    if not rounds.heats(experiment, taking_part.systems):
        return "none of its systems takes part"
    if "redis" in experiment.needs and not _has_redis():
        return MISSING
    if "postgresql" in experiment.needs and postgres.programs() is None:
        return postgres.MISSING
    needed, there = experiment.memory_gb + MEMORY_MARGIN_GB, available_memory_gb()
    if experiment.memory_gb and there < needed:
        return f"needs {needed:.0f} GB of memory; {there:.1f} GB are available"
    return ""


def _has_redis() -> bool:
    try:
        return bool(redis_programs())
    except FileNotFoundError:
        return False


def _report(run: Run, config: BenchConfig) -> None:
    terminal.show(run)
    _write(config.html, html.render(run))
    if config.picture is not None:
        _write(config.picture, picture.render(run))
    if config.markdown is not None:
        _write(config.markdown, markdown.render(run))
    sys.stdout.write(f"report: {config.html}\n")


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise RunFileError(f"cannot write {path}: {exc.strerror}") from exc
