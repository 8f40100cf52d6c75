"""T1 and T2: how fast reports are acknowledged, one at a time and in a window, and one at a time
when they are stored."""

import statistics
from collections.abc import Sequence
from functools import partial

from osmo_benchmarks.errors import WrongResultError
from osmo_benchmarks.plan import Context, Experiment, Outcome, Table, alone
from osmo_benchmarks.programs.client import Result
from osmo_benchmarks.run import Row
from osmo_benchmarks.systems import OTHER, TRANSPORTS
from osmo_benchmarks.tables._programs import measured, serving
from osmo_benchmarks.tables._queue import empty_redis
from osmo_benchmarks.tables.sustained import fill

COUNTS = (50, 100, 500)
"""Messages, as in the study."""
WARM_UP = 500
"""Messages of the same client before these: the study measures no start of an interpreter."""
MESSAGES, QUICK_MESSAGES = 200_000, 20_000
WINDOW = 10_000
LEGACY_SHARE = 20
"""The study's Python design does so much less of the same in the same time."""
TIMEOUT = 60.0
"""Seconds for a client: twenty times what the slowest needs."""

SYSTEMS = ("legacy", "go", "osmo-ws", OTHER, "osmo-grpc", "osmo-memory")
LATENCY_LIMITS = {"osmo-ws": 0.6, "osmo-grpc": 2.4, "osmo-memory": 0.12}
RATE_LIMITS = {"osmo-ws": 2.3, "osmo-grpc": 1.5, "osmo-memory": None}
STORED_SYSTEMS = ("go", "go-tuned", "osmo-ws", "osmo-grpc")
STORED_LIMITS = {"osmo-ws": 0.7, "osmo-grpc": None}
STORED_COUNT = 300
STORED_ROUNDS = 3
"""At most: each starts an operator."""
DETAIL = "a detail of the row of the average"
PUBLISHED = {
    50: {"legacy": "1.29 ms", "go": "308.60 µs"},
    100: {"legacy": "1.48 ms", "go": "292.65 µs"},
    500: {"legacy": "1.55 ms", "go": "297.40 µs"},
}
"""Average latency by number of messages."""
EXTREMES = {
    "min": {"legacy": "921.82 µs", "go": "160.89 µs"},
    "max": {"legacy": "2.97 ms", "go": "1.34 ms"},
}
"""Of 500 messages."""


async def run_client(context: Context, messages: int, warm_up: int, window: int) -> Result:
    """Send that many to the system's acknowledging service, which serves all rounds."""
    system = context.system
    url = ""
    if (command := system.service()) is not None:
        serve = partial(serving, context, "service", command)
        service = await context.shared.get(f"service of {system.name}", serve)
        service.check()
        url = service.url
    client = system.client(url, messages, warm_up, window)
    return await measured(context, "client", client, messages, TIMEOUT)


async def one_at_a_time(context: Context, counts: Sequence[int]) -> dict[str, Outcome]:
    """T1, for the first messages of one run, as many as each of `counts` says."""
    result = await run_client(context, max(counts), WARM_UP, 1)
    trips = [each / 1e3 for each in _complete(result, max(counts))]
    figures: dict[str, float] = {}
    for count in counts:
        first = trips[:count]
        figures |= {
            f"total_{count}_ms": sum(first) / 1e3,
            f"avg_{count}_us": statistics.mean(first),
            f"min_{count}_us": min(first),
            f"max_{count}_us": max(first),
            f"rate_{count}_per_s": count / sum(first) * 1e6,
        }
    return {context.system.name: Outcome(figures, {"round_trip_us": trips})}


async def stored(context: Context, count: int) -> dict[str, Outcome]:
    """T1 through the operator: a message is acknowledged when Redis has it."""
    redis = await empty_redis(context.shared)
    result, _ = await fill(context, redis, count, WARM_UP, 1)
    trips = [each / 1e3 for each in _complete(result, count)]
    figures = {
        "avg_us": statistics.mean(trips),
        "median_us": statistics.median(trips),
        "max_us": max(trips),
    }
    return {context.system.name: Outcome(figures, {"round_trip_us": trips})}


def _complete(result: Result, count: int) -> list[int]:
    if len(result.round_trips_ns) != count:
        raise WrongResultError(
            f"the client timed {len(result.round_trips_ns)} round trips of {count}"
        )
    return result.round_trips_ns


async def windowed(context: Context, messages: int) -> dict[str, Outcome]:
    """T2."""
    count = messages // LEGACY_SHARE if context.system.name == "legacy" else messages
    result = await run_client(context, count, WARM_UP, WINDOW)
    return {context.system.name: Outcome({"rate_per_s": result.rate})}


def table(quick: bool) -> Table:
    """The study's first table."""
    messages = QUICK_MESSAGES if quick else MESSAGES
    one_by_one = Experiment(
        name="round-trip",
        title=f"{max(COUNTS)} messages, the next when the last is acknowledged",
        heats=alone(*SYSTEMS),
        measure=partial(one_at_a_time, counts=COUNTS),
        seconds=1.5,
        rounds=1 if quick else None,
        warm_up=False,
    )
    throughput = Experiment(
        name="throughput",
        title=f"{messages} messages, {WINDOW} of them unacknowledged at most",
        heats=alone(*SYSTEMS),
        measure=partial(windowed, messages=messages),
        seconds=0.9 if quick else 2.2,
        rounds=1 if quick else None,
        warm_up=False,
    )
    through_redis = Experiment(
        name="round-trip-stored",
        title=f"{STORED_COUNT} messages through the operator, the next when Redis has the last",
        heats=alone(*STORED_SYSTEMS),
        measure=partial(stored, count=STORED_COUNT),
        seconds=1.2,
        rounds=1 if quick else STORED_ROUNDS,
        warm_up=False,
        needs=frozenset({"redis"}),
    )
    return Table(
        name="round-trip",
        title="Round trip and throughput of reports",
        experiments=(one_by_one, throughput, through_redis),
        rows=(*_latencies(), *_stored(), *_rates()),
        notes=(
            "A message is one update_pod of about 520 bytes on the wire. Client and service are two"
            " processes (osmo-memory: one). What is timed begins with the typed body.",
            f"Each client sends {WARM_UP} messages before those that count. {COUNTS[0]} and"
            f" {COUNTS[1]} messages are the first of a run of {COUNTS[-1]}.",
            "Stored: client, operator and Redis are processes of their own, and a message is"
            " acknowledged when Redis has it. go appends it with an XADD, go-tuned with a pipeline"
            " of what has arrived, which here is one. Redis writes nothing to disk.",
            f"In the window, legacy sends 1/{LEGACY_SHARE} of the messages. The study publishes"
            " the rate of messages sent one at a time only.",
        ),
    )


def _latencies() -> list[Row]:
    rows = []
    for count in COUNTS:
        for ours, limit in LATENCY_LIMITS.items():
            transport = ours.removeprefix("osmo-")
            row = partial(
                Row,
                experiment="round-trip",
                unit="µs",
                better="lower",
                ours=ours,
                published=PUBLISHED[count],
            )
            rows.append(
                row(
                    id=f"T1 {transport} {count}",
                    title=f"Average round trip of {count} messages, one at a time",
                    short=f"{TRANSPORTS[ours]}, {count} in turn",
                    figure=f"avg_{count}_us",
                    limits={"go": limit, "legacy": None} | _beside(ours),
                )
            )
    for figure, title in (("min", "Shortest"), ("max", "Longest")):
        rows.append(
            Row(
                id=f"T1 ws {figure}",
                title=f"{title} round trip of {COUNTS[-1]} messages",
                experiment="round-trip",
                figure=f"{figure}_{COUNTS[-1]}_us",
                unit="µs",
                better="lower",
                ours="osmo-ws",
                limits={"go": None, "legacy": None},
                published=EXTREMES[figure],
                no_target=DETAIL,
            )
        )
    return rows


def _beside(ours: str) -> dict[str, float | None]:
    """The other installation, where it does the same."""
    return {OTHER: None} if ours == "osmo-ws" else {}


def _stored() -> list[Row]:
    rows = []
    for ours, limit in STORED_LIMITS.items():
        transport = ours.removeprefix("osmo-")
        row = partial(
            Row,
            experiment="round-trip-stored",
            unit="µs",
            better="lower",
            ours=ours,
            limits={"go": None, "go-tuned": None},
            no_target=DETAIL,
        )
        rows += [
            row(
                id=f"T1 stored {transport}",
                title="Average round trip through the operator into Redis, one at a time",
                short=f"{TRANSPORTS[ours]}, stored in Redis",
                figure="avg_us",
                limits={"go": limit, "go-tuned": None},
                no_target="" if limit else "the row of the link by itself has one",
            ),
            row(id=f"T1 stored {transport} max", title="Longest of these", figure="max_us"),
        ]
    return rows


def _rates() -> list[Row]:
    return [
        Row(
            id=f"T2 {ours.removeprefix('osmo-')}",
            title="Messages per second in a window",
            short=f"{TRANSPORTS[ours]}, many at once",
            experiment="throughput",
            figure="rate_per_s",
            unit="/s",
            better="higher",
            ours=ours,
            limits={"go": limit, "legacy": None} | _beside(ours),
            published={"legacy": "290-564 /s", "go": "687-2557 /s"},
            no_target="" if limit else "within one process, where the peers have none",
        )
        for ours, limit in RATE_LIMITS.items()
    ]
