"""K1 to K3: how soon a listener reports what is there, and what changes."""

import asyncio
import random
import statistics
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import NamedTuple

from osmo_benchmarks.clusters import Cluster, Pod, Status, best, has_api_server
from osmo_benchmarks.plan import Context, Experiment, Outcome, Table, alone
from osmo_benchmarks.records import Record
from osmo_benchmarks.run import Row
from osmo_benchmarks.systems import OTHER
from osmo_benchmarks.tables._listening import Listening, gaps, leads, listening, once
from osmo_simulator.lifecycle import FAILURES, SUCCEEDED, Moment, creating, running

PODS = 85
"""As in the study."""
MANY_PODS = 10_000
WORKFLOWS, TASKS = 49, 55
"""That run to their end, as in the study."""
FAILING = 5
"""Every so many-th task fails."""
ARRIVAL = 1.0
"""Seconds within which all workflows are submitted."""
STEP = (0.15, 0.35)
"""Seconds from one change of a pod to its next."""
TIMEOUT = 60.0
"""Seconds until everything is reported: ten times what the slowest needs."""
START_ROUNDS, PAIR_ROUNDS, MANY_ROUNDS = 5, 3, 1
"""At most: programs take longer to start and to end than to report."""

OURS = "osmo-ws"
ALONE = ("legacy", "go", "go-tuned", OURS, OTHER, "osmo-grpc")
PAIRS = (("go", OURS), ("legacy", OURS))
MANY_PAIRS = PAIRS[:1]
SHARE = 0.6
"""Of what two systems see, to be reported first."""
PENDING = "SCHEDULING"
"""What is reported of a pod that was only created."""
NOW = "2026-01-02T03:04:05Z"
AIMED = "it is aimed at the row beside go"


class Change(NamedTuple):
    """Of one pod."""

    at: float
    """Seconds since the start."""
    pod: Pod
    status: Status | None
    """None: it is created."""


def pods(prefix: str, count: int) -> list[Pod]:
    """A workflow has four of them."""
    return [Pod(f"{prefix}-{number // 4:06}", f"task-{number:06}") for number in range(count)]


@asynccontextmanager
async def filled(count: int) -> AsyncIterator[Cluster]:
    """The best cluster there is, with pods in it."""
    async with best() as cluster:
        await cluster.create(pods("there", count))
        yield cluster


async def start_up(context: Context, count: int) -> dict[str, Outcome]:
    """K1, and K2 from the start of the processes: the pods exist."""
    cluster = await context.shared.get("cluster", partial(filled, count))
    expected = {each.key: PENDING for each in pods("there", count)}
    async with listening(context, cluster.kubeconfig) as found:
        records = {name: once(await it.until(expected, TIMEOUT)) for name, it in found.items()}
        if len(found) > 1:
            return who_was_first(records)
        return {name: started(it, records[name]) for name, it in found.items()}


def started(it: Listening, records: Sequence[Record]) -> Outcome:
    """What a start was like."""
    between = gaps(records)
    received = [each.at for each in records]
    figures = {
        "gap_mean_ms": statistics.mean(between),
        "gap_median_ms": statistics.median(between),
        "first_to_last_ms": (max(received) - min(received)) / 1e6,
        "first_report_ms": it.first_report_ms(records),
        "last_ack_ms": it.last_ack_ms(records),
        "cpu_s": it.listener.cpu_seconds(),
        "peak_rss_mb": it.listener.peak_rss_megabytes(),
    }
    return Outcome(figures, {"gap_ms": between} if len(between) < MANY_PODS // 2 else {})


def who_was_first(records: Mapping[str, Sequence[Record]]) -> dict[str, Outcome]:
    """Of two systems, in everything that both reported."""
    one, other = records
    outcomes = {}
    for mine, theirs in ((one, other), (other, one)):
        differences = leads(records[mine], records[theirs])
        figures = {
            "first_share": sum(each < 0 for each in differences) / len(differences),
            "median_diff_ms": statistics.median(differences),
        }
        outcomes[mine] = Outcome(figures, {"diff_ms": differences})
    return outcomes


@asynccontextmanager
async def watching(context: Context) -> AsyncIterator[tuple[Cluster, dict[str, Listening], Pod]]:
    """Both listeners at work in a cluster that has one pod only, which they have reported."""
    cluster = await context.shared.get("cluster", best)
    await cluster.clear()
    probe = Pod(f"probe-{context.round}", "task")
    await cluster.create([probe])
    async with listening(context, cluster.kubeconfig) as found:
        for it in found.values():
            await it.until({probe.key: PENDING}, TIMEOUT)
        yield cluster, found, probe


async def both(
    found: dict[str, Listening], expected: dict[str, str], before: dict[str, int]
) -> dict[str, Outcome]:
    """Wait for both; who was first in what came after the first `before` reports."""
    return who_was_first(
        {name: await it.until(expected, TIMEOUT, since=before[name]) for name, it in found.items()}
    )


async def discovery(context: Context) -> dict[str, Outcome]:
    """K2: pods appear while both listeners run."""
    async with watching(context) as (cluster, found, probe):
        before = {name: it.received for name, it in found.items()}
        there = pods("new", PODS)
        await cluster.create(there)
        expected = {each.key: PENDING for each in (probe, *there)}
        return await both(found, expected, before)


async def transitions(context: Context) -> dict[str, Outcome]:
    """K3: workflows run to their end while both listeners run."""
    plan, ends = workflows(context.seed)
    async with watching(context) as (cluster, found, probe):
        before = {name: it.received for name, it in found.items()}
        await run(plan, cluster)
        return await both(found, {probe.key: PENDING, **ends}, before)


def workflows(seed: int) -> tuple[list[Change], dict[str, str]]:
    """The changes of all pods in the order of time, and the last status of each key."""
    chance = random.Random(seed)
    arrivals = [chance.uniform(0.0, ARRIVAL) for _ in range(WORKFLOWS)]
    changes = []
    ends = {}
    for number in range(TASKS):
        pod = Pod(f"workflow-{number % WORKFLOWS}", f"task-{number // WORKFLOWS}")
        outcome = FAILURES[0] if number % FAILING == FAILING - 1 else SUCCEEDED
        moment = Moment(now=NOW, container="task", pod_ip="10.64.0.1", host_ip="10.64.0.1")
        at = arrivals[number % WORKFLOWS]
        for status in (None, creating(moment), running(moment), outcome.end(moment)):
            changes.append(Change(at, pod, status))
            at += chance.uniform(*STEP)
        ends[pod.key] = outcome.status
    return sorted(changes, key=lambda change: change.at), ends


async def run(plan: Sequence[Change], cluster: Cluster) -> None:
    """Make each change at its time."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    for change in plan:
        await asyncio.sleep(max(0.0, started + change.at - loop.time()))
        if change.status is None:
            await cluster.create([change.pod])
        else:
            await cluster.set_status([change.pod], change.status)


def table(quick: bool) -> Table:
    """The study's tables of start-up, discovery and transitions."""
    rounds = partial(_rounds, quick)
    where = "a real API server" if has_api_server() else "the simulator"
    return Table(
        name="startup",
        title="Start-up, discovery and status changes",
        experiments=(
            Experiment(
                name="startup-85",
                title=f"{PODS} pods exist when the listener starts",
                heats=alone(*_alone(quick)),
                measure=partial(start_up, count=PODS),
                seconds=1.5,
                rounds=rounds(START_ROUNDS),
                warm_up=False,
            ),
            Experiment(
                name="discovery-85",
                title=f"{PODS} pods appear while two listeners run",
                heats=PAIRS,
                measure=discovery,
                seconds=2.0,
                rounds=rounds(PAIR_ROUNDS),
                warm_up=False,
                quick=False,
            ),
            Experiment(
                name="transitions",
                title=f"{WORKFLOWS} workflows with {TASKS} pods run to their end",
                heats=PAIRS,
                measure=transitions,
                seconds=4.0,
                rounds=rounds(PAIR_ROUNDS),
                warm_up=False,
                quick=False,
            ),
            Experiment(
                name="discovery-10k",
                title=f"{MANY_PODS} pods exist when one listener, or two, start",
                heats=(*alone("go", "go-tuned", OURS, OTHER), *MANY_PAIRS),
                measure=partial(start_up, count=MANY_PODS),
                seconds=10.0,
                rounds=rounds(MANY_ROUNDS),
                warm_up=False,
                quick=False,
            ),
        ),
        rows=(
            *_start_rows(quick),
            *_pair_rows(
                "K2", "discovery-85", PAIRS, f"{PODS} pods", SHARE, {"go": "85 of 85, by 2,103 ms"}
            ),
            *_pair_rows(
                "K3", "transitions", PAIRS, "status changes", SHARE, {"go": "55 of 55, by 24 ms"}
            ),
            *_pair_rows("K2 10k", "discovery-10k", MANY_PAIRS, f"{MANY_PODS} pods", 1.0, {}),
            *_many_rows(),
        ),
        notes=(
            f"The cluster is {where}, with pods of 14 kB. Services that acknowledge at once run"
            " before the listeners are started; a time from the start of the process includes that"
            " of its interpreter or runtime.",
            "K1: reports that arrive together count as received at once. Ours of one page of the"
            " list come in one frame, so nothing lies between them; client-go's are sent one by"
            " one.",
            "K2 with 85 pods and K3: both listeners have reported one pod before anything else"
            " happens, and see the same changes. Who is started first alternates.",
        ),
    )


def _rounds(quick: bool, most: int) -> int:
    return 1 if quick else most


def _alone(quick: bool) -> tuple[str, ...]:
    """In a quick run without the slowest to start."""
    return ALONE[1:] if quick else ALONE


def _start_rows(quick: bool) -> list[Row]:
    free = dict.fromkeys(each for each in _alone(quick) if not each.startswith("osmo"))
    row = partial(Row, experiment="startup-85", unit="ms", better="lower")
    return [
        row(
            id="K1 gap",
            title="Mean gap between consecutive reports at the receiver",
            short=f"Gap between {PODS} reports",
            figure="gap_mean_ms",
            ours=OURS,
            limits=free | {"go": 0.5},
            published={"legacy": "13.38 ms", "go": "0.09 ms"},
        ),
        row(
            id="K1 first to last",
            title=f"From the first report to the last of {PODS}",
            short=f"First to last of {PODS}",
            figure="first_to_last_ms",
            ours=OURS,
            limits=free | {"go": 0.5},
            published={"legacy": "1,124.19 ms", "go": "7.77 ms"},
        ),
        row(
            id="K1 first",
            title="From the start of the process to the first report",
            figure="first_report_ms",
            ours=OURS,
            limits=free,
            no_target="all of them are there in the same moment: the row of all has one",
        ),
        *(
            row(
                id="K1 all" if ours == OURS else "K1 all grpc",
                title="From the start of the process to the last acknowledgement",
                short=f"Start-up, {PODS} pods" + ("" if ours == OURS else ", gRPC"),
                figure="last_ack_ms",
                ours=ours,
                limits=free | ({"go": 2.8, OTHER: None} if ours == OURS else {}),
                no_target="" if ours == OURS else "the row over WebSocket has one",
            )
            for ours in (OURS, "osmo-grpc")
        ),
    ]


def _pair_rows(
    name: str,
    experiment: str,
    pairs: Sequence[tuple[str, str]],
    what: str,
    aim: float,
    published: dict[str, str],
) -> list[Row]:
    rows = []
    for peer, _ in pairs:
        row = partial(
            Row,
            experiment=experiment,
            ours=OURS,
            heat=f"{peer}+{OURS}",
            limits={peer: None},
            published=published if peer == "go" else {},
        )
        rows.append(
            row(
                id=f"{name} {peer}",
                title=f"Share of {what} that is reported first, beside {peer}",
                short=f"First at {what}",
                figure="first_share",
                unit="",
                better="higher",
                aim=aim if peer == "go" else None,
                no_target=AIMED if peer != "go" else "",
            )
        )
        rows.append(
            row(
                id=f"{name} {peer} lead",
                title=f"Median difference of {what}, ours less that of {peer}",
                short=f"Lead at {what}",
                figure="median_diff_ms",
                unit="ms",
                better="lower",
                aim=0.0 if peer == "go" else None,
                no_target=AIMED if peer != "go" else "",
            )
        )
    return rows


def _many_rows() -> list[Row]:
    row = partial(
        Row,
        experiment="discovery-10k",
        better="lower",
        ours=OURS,
        limits={"go": None, "go-tuned": None},
    )
    return [
        row(
            id="L1 10k first",
            title=f"From the start of the process to the first report of {MANY_PODS} pods",
            figure="first_report_ms",
            unit="ms",
            no_target="a page of ours beside all of client-go's list: the row of all has one",
        ),
        row(
            id="L1 10k all",
            title=f"From the start of the process to the last acknowledgement of {MANY_PODS}",
            short=f"Start-up, {MANY_PODS:,} pods",
            figure="last_ack_ms",
            unit="ms",
            limits={"go": 0.2, "go-tuned": 0.33, OTHER: None},
        ),
        row(
            id="L4 10k start cpu",
            title="CPU time of the listener for them",
            short=f"CPU, {MANY_PODS:,} pods",
            figure="cpu_s",
            unit="s",
            limits={"go": 0.16, "go-tuned": 0.35, OTHER: None},
        ),
        row(
            id="L4 10k start memory",
            title="Peak resident set of the listener",
            short=f"Memory, {MANY_PODS:,} pods",
            figure="peak_rss_mb",
            unit="MB",
            limits={"go": 0.11, "go-tuned": 0.5, OTHER: None},
        ),
    ]
