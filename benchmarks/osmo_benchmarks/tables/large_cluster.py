"""L1 to L4: bursts in a large cluster, and what its listener costs."""

import asyncio
import statistics
import time
from bisect import bisect_left
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

from osmo_benchmarks.clusters import Pod, SimulatedCluster, simulated
from osmo_benchmarks.plan import Context, Experiment, Outcome, Table, alone
from osmo_benchmarks.records import Record
from osmo_benchmarks.run import Row
from osmo_benchmarks.tables._listening import Listening, listening, memory, once
from osmo_benchmarks.tables.startup import PENDING, pods

NODES = 1_000
BURST = 951
"""Pod events, as in the study."""
SIZES = {"cluster-1k": 1_000, "cluster-10k": 10_000}
HUGE = {"cluster-100k": 100_000}
SIZE_ROUNDS = 1
"""At most: it takes the Go peers minutes to read the largest."""
SECONDS = {"cluster-1k": 4.5, "cluster-10k": 12.0, "cluster-100k": 70.0}
BURST_ROUNDS = 3
MEMORY_GB = {"cluster-1k": 0.5, "cluster-10k": 3.0, "cluster-100k": 16.0}
"""The simulated cluster, and the largest of its listeners."""
TIMEOUT = 300.0
"""Seconds until everything is reported: several times what the slowest needs for the largest."""

RATE = 1_000
"""Status changes per second that are followed."""
FOLLOWED, QUICK_FOLLOWED = 3.0, 1.0
"""Seconds for which they are."""
TICK = 0.02
"""Seconds between two portions of changes."""

OURS = "osmo-ws"
SYSTEMS = ("go", "go-tuned", OURS)
PHASES = {PENDING: "Pending", "RUNNING": "Running"}
"""Of the pod, by what is then reported."""
FOLLOWS = (
    f"After the start the listener follows {RATE} status changes per second for {FOLLOWED:g} s,"
    f" in a quick run for {QUICK_FOLLOWED:g} s."
)
WITHOUT_PROTOBUF = (
    "It has no protobuf, so that client-go reads JSON, which costs it several times as much CPU as"
    " what a real API server sends it: the rows of the table of start-up with 10 000 pods show it"
    " there, where there is one."
)
FEW_IN_FLIGHT = (
    "it counts from the report's creation, and client-go makes each so slowly that few are under"
    " way: what a user waits for is the row of the change"
)
SMALL = "the row of ten times as many pods has one"
FIRST = "a page of ours beside all of client-go's list: the row of all has one"
POINTS = 500
"""Of a plot, at most."""


class Filled:
    """A simulated cluster that lasts for all heats, and what its pods' statuses are."""

    def __init__(self, cluster: SimulatedCluster, there: Sequence[Pod]) -> None:
        self.cluster = cluster
        self.pods = there
        self.expected = {each.key: PENDING for each in there}

    async def change(self, some: Sequence[Pod]) -> None:
        """Each of them runs if it was pending, and is pending if it ran."""
        changes = {
            status: [each for each in some if self.expected[each.key] != status]
            for status in PHASES
        }
        for status, changing in changes.items():
            await self.cluster.set_status(changing, {"phase": PHASES[status]})
            self.expected |= {each.key: status for each in changing}


@asynccontextmanager
async def filled(count: int, nodes: int) -> AsyncIterator[Filled]:
    """A cluster with pods of 14 kB."""
    async with simulated() as cluster:
        cluster.create_nodes(nodes)
        there = pods("there", count)
        await cluster.create(there)
        yield Filled(cluster, there)


async def burst(context: Context) -> dict[str, Outcome]:
    """L1 to L3: all pods change at once."""
    there = await context.shared.get("cluster", partial(filled, BURST, NODES))
    async with listening(context, there.cluster.kubeconfig) as found:
        (it,) = found.values()
        await it.until(there.expected, TIMEOUT)
        before = it.received
        await there.change(there.pods)
        # The simulator has changed all before it tells anybody of the first.
        changed = time.time_ns()
        records = once(await it.until(there.expected, TIMEOUT, since=before))
    return {context.system.name: burst_of(records, changed)}


def burst_of(records: Sequence[Record], changed: int) -> Outcome:
    """What a burst was like; `changed`: when the pods had changed, as Unix time in ns."""
    trips = [(each.acked - each.created) / 1e6 for each in records]
    acked = sorted(each.acked for each in records)
    received = sorted(each.at for each in records)
    times, backlog = in_flight(records)
    figures = {
        "change_to_ack_mean_ms": statistics.mean(each - changed for each in acked) / 1e6,
        "change_to_ack_max_ms": (acked[-1] - changed) / 1e6,
        "first_to_last_ack_ms": (acked[-1] - acked[0]) / 1e6,
        "round_trip_mean_ms": statistics.mean(trips),
        "round_trip_median_ms": statistics.median(trips),
        "round_trip_max_ms": max(trips),
        "peak_100ms_per_s": peak(received, 0.1),
        "peak_1s_per_s": peak(received, 1.0),
        "in_flight_max": max(backlog),
    }
    series = {
        "round_trip_ms": trips,
        "acked_ms": [(each - acked[0]) / 1e6 for each in acked],
        "backlog_ms": thinned(times),
        "backlog": thinned(backlog),
    }
    return Outcome(figures, series)


def peak(times: Sequence[int], window: float) -> float:
    """The most that happened within `window` seconds, per second; `times` in ns, sorted."""
    most = max(bisect_left(times, at + window * 1e9) - index for index, at in enumerate(times))
    return most / window


def in_flight(records: Sequence[Record]) -> tuple[list[float], list[float]]:
    """Milliseconds since the first report was made, and how many were then made and not yet
    acknowledged."""
    steps = sorted([(each.created, 1) for each in records] + [(each.acked, -1) for each in records])
    times, counts = [], []
    count = 0
    for at, step in steps:
        count += step
        times.append((at - steps[0][0]) / 1e6)
        counts.append(float(count))
    return times, counts


def thinned(values: Sequence[float]) -> list[float]:
    """Evenly chosen ones, the last among them."""
    step = max(1, -(-len(values) // POINTS))
    return list(values[::-1][::step])[::-1]


async def size(context: Context, count: int, followed: float) -> dict[str, Outcome]:
    """L1 and L4: start in a cluster of that size, and follow what changes in it."""
    there = await context.shared.get("cluster", partial(filled, count, 0))
    async with listening(context, there.cluster.kubeconfig) as found:
        (it,) = found.values()
        async with memory(it) as (times, sizes):
            records = once(list(await it.until(there.expected, TIMEOUT)))
            cpu = it.listener.cpu_seconds()
            figures = {
                "first_report_ms": it.first_report_ms(records),
                "last_ack_ms": it.last_ack_ms(records),
                "cpu_s": cpu,
                "us_per_object": cpu / count * 1e6,
            }
            await follow(there, it, followed)
        figures["follow_cpu_s"] = it.listener.cpu_seconds() - cpu
        figures["follow_rss_mb"] = it.listener.rss_megabytes()
        figures["peak_rss_mb"] = it.listener.peak_rss_megabytes()
    series = {"rss_s": thinned(times), "rss_mb": thinned(sizes)}
    return {context.system.name: Outcome(figures, series)}


async def follow(there: Filled, it: Listening, seconds: float) -> None:
    """Change pods in turn, and wait until all of it is reported."""
    loop = asyncio.get_running_loop()
    started, done = loop.time(), 0
    while (passed := loop.time() - started) < seconds:
        due = round(passed * RATE)
        turn = [there.pods[number % len(there.pods)] for number in range(done, due)]
        await there.change(turn)
        done = due
        await asyncio.sleep(TICK)
    await it.until(there.expected, TIMEOUT)


def table(quick: bool) -> Table:
    """The study's tables of the large cluster."""
    return Table(
        name="large-cluster",
        title="Large cluster: bursts, concurrency, memory and CPU",
        experiments=(
            Experiment(
                name="burst",
                title=f"{NODES} nodes, {BURST} pods that change at once",
                heats=alone(*_burst_peers(quick), OURS, "osmo-grpc"),
                measure=burst,
                seconds=2.0,
                rounds=1 if quick else BURST_ROUNDS,
                warm_up=False,
            ),
            *(_experiment(name, pods, quick) for name, pods in SIZES.items()),
        ),
        rows=(*_burst_rows(quick), *(row for each in SIZES.items() for row in _size_rows(*each))),
        notes=(
            "The cluster is the simulator, whose pods can change at once and fast enough."
            f" {WITHOUT_PROTOBUF}",
            "L2 from the change counts from the moment at which the API server has all changes,"
            " which is before it tells anybody of the first. The round trip counts from when the"
            " report is created, as the study does: a listener that takes longer to make each of"
            " them has fewer under way.",
            FOLLOWS,
        ),
    )


def huge_table(quick: bool) -> Table:
    """The same with ten times as many pods."""
    return Table(
        name="huge-cluster",
        title="Huge cluster: memory and CPU",
        experiments=tuple(_experiment(name, pods, quick) for name, pods in HUGE.items()),
        rows=tuple(row for each in HUGE.items() for row in _size_rows(*each)),
        notes=(
            f"The cluster is the simulator. {WITHOUT_PROTOBUF}",
            FOLLOWS,
        ),
    )


def _experiment(name: str, count: int, quick: bool) -> Experiment:
    return Experiment(
        name=name,
        title=f"{count} pods of 14 kB",
        heats=alone(*SYSTEMS),
        measure=partial(size, count=count, followed=QUICK_FOLLOWED if quick else FOLLOWED),
        seconds=SECONDS[name],
        timeout=TIMEOUT + FOLLOWED,
        rounds=SIZE_ROUNDS,
        warm_up=False,
        quick=name == "cluster-1k",
        memory_gb=MEMORY_GB[name],
    )


def _burst_peers(quick: bool) -> tuple[str, ...]:
    return ("go", "go-tuned") if quick else ("legacy", "go", "go-tuned")


def _burst_rows(quick: bool) -> list[Row]:
    free: dict[str, float | None] = dict.fromkeys(_burst_peers(quick))
    row = partial(Row, experiment="burst", unit="ms", better="lower", ours=OURS)
    return [
        row(
            id="L1 burst",
            title=f"From the first acknowledgement to the last of {BURST}",
            short=f"Burst of {BURST} changes",
            figure="first_to_last_ack_ms",
            limits=free | {"go": 0.1},
            published={"legacy": "16.23 s", "go": "<1 s"},
        ),
        *(
            row(
                id=f"L2 change {short}",
                title="From the change at the API server to the acknowledgement of its report,"
                f" {word}",
                short=f"Burst: {short} to ack",
                figure=f"change_to_ack_{short}_ms",
                limits=free | {"go": 0.2},
            )
            for short, word in (("mean", "mean"), ("max", "longest"))
        ),
        row(
            id="L2 mean",
            title="Round trip in the burst, mean",
            short="Burst: mean round trip",
            figure="round_trip_mean_ms",
            limits=free,
            no_target=FEW_IN_FLIGHT,
            published={"legacy": "16.356 ms", "go": "7.224 ms"},
        ),
        row(
            id="L2 median",
            title="Round trip in the burst, median",
            figure="round_trip_median_ms",
            limits=free,
            no_target=FEW_IN_FLIGHT,
            published={"legacy": "15.190 ms", "go": "7.157 ms"},
        ),
        row(
            id="L2 max",
            title="Round trip in the burst, longest",
            short="Burst: max round trip",
            figure="round_trip_max_ms",
            limits=free | {"go": 1.0},
            published={"legacy": "89.670 ms", "go": "10.454 ms"},
        ),
        row(
            id="L3 100 ms",
            title="Most reports received within 100 ms, per second",
            short="Burst: peak rate",
            figure="peak_100ms_per_s",
            unit="/s",
            better="higher",
            limits=free | {"go": 3.0},
            published={"legacy": "90 /s", "go": "9,510 /s"},
        ),
        row(
            id="L3 1 s",
            title="Most reports received within a second",
            figure="peak_1s_per_s",
            unit="/s",
            better="higher",
            limits=free,
            no_target=f"there are {BURST} in all, and both report most of them within a second",
            published={"legacy": "77 /s", "go": "951 /s"},
        ),
        row(
            id="L3 in flight",
            title="Most reports made and not yet acknowledged",
            figure="in_flight_max",
            unit="",
            limits=free,
            no_target="neither few nor many are better by themselves",
            published={"legacy": "3", "go": "951"},
        ),
    ]


def _size_rows(name: str, count: int) -> list[Row]:
    short = name.removeprefix("cluster-")
    free: dict[str, float | None] = {"go": None, "go-tuned": None}
    large = name != "cluster-1k"
    row = partial(Row, experiment=name, better="lower", ours=OURS, no_target="" if large else SMALL)
    return [
        row(
            id=f"L1 {short} sim first",
            title=f"From the start of the process to the first report of {count} pods",
            figure="first_report_ms",
            unit="ms",
            limits=free,
            no_target=FIRST,
        ),
        row(
            id=f"L1 {short} sim all",
            title=f"From the start of the process to the last acknowledgement of {count}",
            short=f"Start-up, {count:,} pods" if large else "",
            figure="last_ack_ms",
            unit="ms",
            limits={"go": 0.2, "go-tuned": 0.33} if large else free,
        ),
        row(
            id=f"L1 {short} per object",
            title=f"CPU time of the start for one of {count} objects",
            short=f"CPU for each of {count:,}" if large else "",
            figure="us_per_object",
            unit="µs",
            limits={"go": 0.1, "go-tuned": 0.35} if large else free,
        ),
        row(
            id=f"L4 {short} follow cpu",
            title=f"CPU time to follow {RATE} changes per second for some seconds",
            short=f"CPU at {RATE:,} changes/s" if large else "",
            figure="follow_cpu_s",
            unit="s",
            limits={"go": 0.1, "go-tuned": 1.0} if large else free,
        ),
        row(
            id=f"L4 {short} memory",
            title=f"Peak resident set of the listener of {count} pods",
            short=f"Memory, {count:,} pods" if large else "",
            figure="peak_rss_mb",
            unit="MB",
            limits={"go": 0.11, "go-tuned": 0.5} if large else free,
        ),
    ]
