"""Q1 to Q3: how long reports wait for their handling, and how evenly workers share them."""

import statistics
from functools import partial

from osmo_benchmarks.plan import Context, Experiment, Outcome, Table, alone
from osmo_benchmarks.run import Row
from osmo_benchmarks.tables import _plans
from osmo_benchmarks.tables._handling import Played, stage

COST_MS = 11.0
"""Of handling one report: what the study's single worker took for each of its 93 events."""
WORKERS = (1, 2, 4, 8)
MANY_ROUNDS = {4: 1, 8: 1}
"""By number of workers, where it is not all rounds: these have no limit, and take longest."""
SINGLE_ROUNDS = 3
"""At most."""
OURS = "osmo-ws"
DETAIL = "a detail of the averages with one and two workers, which have one"

AVERAGE_LIMITS = {1: 0.03, 2: 0.06}
TUNED_LIMIT = 1.0
"""Of the averages, where go has a limit."""
UNEVEN = 0.15
"""By how much a worker's share may differ from an even one."""
TIMES = {
    "avg_ms": "Creation to handled, average of 93 reports",
    "median_ms": "Median of these",
    "min_ms": "Shortest of these",
    "max_ms": "Longest of these",
}
PUBLISHED = {
    1: {
        "avg_ms": {"legacy": "1,863 ms", "go": "914.88 ms"},
        "median_ms": {"legacy": "2,216 ms", "go": "1,070.80 ms"},
        "min_ms": {"legacy": "12.68 ms", "go": "144.19 ms"},
        "max_ms": {"legacy": "2,239.89 ms", "go": "1,135.00 ms"},
        "under_1s_share": {"legacy": "10.6 %", "go": "38.9 %"},
    },
    2: {
        "avg_ms": {"go": "365.57 ms"},
        "median_ms": {"go": "421.16 ms"},
        "min_ms": {"go": "30.41 ms"},
        "max_ms": {"go": "619.63 ms"},
        "under_1s_share": {"go": "100 %"},
        "most_share": {"go": "57 % of all"},
        "least_share": {"go": "43 % of all"},
    },
}
"""By number of workers and figure."""


async def one_workflow(context: Context) -> dict[str, Outcome]:
    """Q1."""
    async with stage(context, COST_MS) as ready:
        played = await ready.play(_plans.one_workflow())
    times = [each.milliseconds for each in played.processed]
    mean = statistics.mean(times)
    figures = {"mean_ms": mean, "beyond_ms": mean - COST_MS}
    return {context.system.name: Outcome(figures, {"processing_ms": times})}


async def many_workflows(context: Context, workers: int) -> dict[str, Outcome]:
    """Q2, and after it Q3."""
    async with stage(context, COST_MS, workers) as ready:
        played = await ready.play(_plans.many_workflows(context.seed))
        figures = summary(played)
        if workers > 1:
            figures |= shares(await ready.play(_plans.steady(context.seed, workers)))
    first = min(each.created for each in played.processed)
    series = {
        "processing_ms": [each.milliseconds for each in played.processed],
        "created_s": [(each.created - first) / 1e9 for each in played.processed],
        "done_s": [(each.done - first) / 1e9 for each in played.processed],
    }
    return {context.system.name: Outcome(figures, series)}


def summary(played: Played) -> dict[str, float]:
    """How long everything took."""
    times = [each.milliseconds for each in played.processed]
    return {
        "avg_ms": statistics.mean(times),
        "median_ms": statistics.median(times),
        "min_ms": min(times),
        "max_ms": max(times),
        "under_1s_share": sum(each < 1000 for each in times) / len(times),
        "under_2s_share": sum(each < 2000 for each in times) / len(times),
        "superseded": float(played.superseded),
    }


def shares(played: Played) -> dict[str, float]:
    """What the busiest and the idlest worker did; 1 is an even share."""
    settled = played.per_worker.values()
    even = sum(settled) / len(settled)
    return {"most_share": max(settled) / even, "least_share": min(settled) / even}


def table(quick: bool) -> Table:
    """The study's tables of queue and workers."""
    single = Experiment(
        name="workflow-5",
        title=f"One workflow, five reports, {COST_MS:g} ms to handle each",
        heats=alone("legacy", "go", "go-tuned", OURS),
        measure=one_workflow,
        seconds=1.2,
        rounds=SINGLE_ROUNDS,
        warm_up=False,
        quick=False,
        needs=frozenset({"redis"}),
    )
    return Table(
        name="workers",
        title="Queue and workers",
        experiments=(single, *(_experiment(count, quick) for count in WORKERS)),
        rows=(*_single_rows(), *_many_rows(), *_share_rows()),
        notes=(
            f"Handling a report is an awaited wait of {COST_MS:g} ms for every system, and the time"
            " is from its creation at the sender until it is handled and settled. legacy handles"
            " in the service, before it acknowledges; the others put Redis and workers between.",
            f"Q2: {_plans.MANY_EVENTS} reports of {_plans.MANY_WORKFLOWS} workflows that are"
            " submitted within 5 ms, each workflow in order, 15 to 35 ms from one report to the"
            " next. A worker of ours handles reports of different tasks at the same time; one that"
            " comes while an older one of its task still waits takes its place, and then the time"
            " of both ends with its handling (the row of superseded reports counts them).",
            f"Q3 repeats these workflows over one second, {_plans.MANY_EVENTS} reports for each"
            f" worker: among {_plans.MANY_EVENTS} reports in all, eight workers differ by chance"
            " alone.",
        ),
    )


def _experiment(workers: int, quick: bool) -> Experiment:
    return Experiment(
        name=f"workers-{workers}",
        title=f"{_plans.MANY_WORKFLOWS} workflows at once, {_plans.MANY_EVENTS} reports,"
        f" workers: {workers}",
        heats=alone(*(("legacy",) if workers == 1 else ()), "go", "go-tuned", OURS),
        measure=partial(many_workflows, workers=workers),
        seconds=1.2 + 0.3 * workers,
        rounds=1 if quick else MANY_ROUNDS.get(workers),
        warm_up=False,
        quick=workers == 2,
        needs=frozenset({"redis"}),
    )


def _single_rows() -> list[Row]:
    row = partial(Row, experiment="workflow-5", unit="ms", better="lower", ours=OURS)
    return [
        row(
            id="Q1",
            title="Creation to handled, mean of one workflow's five reports",
            short="One workflow, 5 reports",
            figure="mean_ms",
            limits={"go": 1.0, "go-tuned": None, "legacy": None},
            published={"legacy": "54 ms", "go": "65 ms"},
        ),
        row(
            id="Q1 beyond",
            title=f"The same without the {COST_MS:g} ms of handling itself",
            short="Beyond the handler",
            figure="beyond_ms",
            limits={"go": 0.8, "go-tuned": None, "legacy": None},
        ),
    ]


def _many_rows() -> list[Row]:
    rows = []
    for workers in WORKERS:
        limit = AVERAGE_LIMITS.get(workers)
        peers = {"go": limit, "go-tuned": limit and TUNED_LIMIT}
        if workers == 1:
            peers["legacy"] = None
        row = partial(Row, experiment=f"workers-{workers}", ours=OURS)
        published = PUBLISHED.get(workers, {})
        for figure, title in TIMES.items():
            aimed = figure == "avg_ms" and limit is not None
            rows.append(
                row(
                    id=f"Q2 {workers}w {figure.removesuffix('_ms')}",
                    title=f"{title}, workers: {workers}",
                    short=f"{_plans.MANY_EVENTS} reports, workers: {workers}"
                    if figure == "avg_ms"
                    else "",
                    figure=figure,
                    unit="ms",
                    better="lower",
                    limits=peers if aimed else dict.fromkeys(peers),
                    published=published.get(figure, {}),
                    no_target="" if aimed else DETAIL,
                )
            )
        rows.append(
            row(
                id=f"Q2 {workers}w under 1 s",
                title=f"Share of reports handled within 1 s, workers: {workers}",
                figure="under_1s_share",
                unit="",
                better="higher",
                limits=dict.fromkeys(peers),
                published=published.get("under_1s_share", {}),
                no_target=DETAIL,
            )
        )
        rows.append(
            row(
                id=f"Q2 {workers}w superseded",
                title=f"Reports handled as part of a newer one, workers: {workers}",
                figure="superseded",
                unit="",
                better="lower",
                no_target="neither few nor many are better by themselves",
            )
        )
    return rows


def _share_rows() -> list[Row]:
    rows = []
    for workers in WORKERS[1:]:
        row = partial(Row, experiment=f"workers-{workers}", ours=OURS, unit="of even")
        published = PUBLISHED.get(workers, {})
        rows += [
            row(
                id=f"Q3 {workers}w most",
                title=f"Share of the busiest of {workers} workers",
                figure="most_share",
                better="lower",
                aim=1 + UNEVEN,
                published=published.get("most_share", {}),
            ),
            row(
                id=f"Q3 {workers}w least",
                title=f"Share of the idlest of {workers} workers",
                figure="least_share",
                better="higher",
                aim=1 - UNEVEN,
                published=published.get("least_share", {}),
            ),
        ]
    return rows
