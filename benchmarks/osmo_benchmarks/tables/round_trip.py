"""T1 and T2: how fast reports are acknowledged, one at a time and in a window."""

import statistics
from functools import partial

from osmo_benchmarks.errors import WrongResultError
from osmo_benchmarks.plan import Context, Experiment, Outcome, Table, alone
from osmo_benchmarks.run import Row
from osmo_benchmarks.tables._programs import Result, measured, serving

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

SYSTEMS = ("legacy", "go", "osmo-ws", "osmo-grpc", "osmo-memory")
LATENCY_LIMITS = {"osmo-ws": 0.9, "osmo-grpc": 1.6, "osmo-memory": 0.2}
RATE_LIMITS = {"osmo-ws": 2.0, "osmo-grpc": 1.3, "osmo-memory": None}
PUBLISHED = {
    50: {"legacy": "1.29 ms", "go": "308.60 µs"},
    100: {"legacy": "1.48 ms", "go": "292.65 µs"},
    500: {"legacy": "1.55 ms", "go": "297.40 µs"},
}
"""Average latency by number of messages."""


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


async def one_at_a_time(context: Context, messages: int) -> dict[str, Outcome]:
    """T1."""
    result = await run_client(context, messages, WARM_UP, 1)
    trips = [each / 1e3 for each in result.round_trips_ns]
    if len(trips) != messages:
        raise WrongResultError(f"the client timed {len(trips)} round trips of {messages}")
    figures = {
        "total_ms": result.seconds * 1e3,
        "avg_us": statistics.mean(trips),
        "min_us": min(trips),
        "max_us": max(trips),
        "rate_per_s": result.rate,
    }
    return {context.system.name: Outcome(figures, {"round_trip_us": trips})}


async def windowed(context: Context, messages: int) -> dict[str, Outcome]:
    """T2."""
    count = messages // LEGACY_SHARE if context.system.name == "legacy" else messages
    result = await run_client(context, count, WARM_UP, WINDOW)
    return {context.system.name: Outcome({"rate_per_s": result.rate})}


def table(quick: bool) -> Table:
    """The study's first table."""
    messages = QUICK_MESSAGES if quick else MESSAGES
    one_by_one = [
        Experiment(
            name=f"round-trip-{count}",
            title=f"{count} messages, the next when the last is acknowledged",
            heats=alone(*SYSTEMS),
            measure=partial(one_at_a_time, messages=count),
            seconds=0.5,
            rounds=1 if quick else None,
            warm_up=False,
            quick=count == max(COUNTS),
        )
        for count in COUNTS
    ]
    throughput = Experiment(
        name="throughput",
        title=f"{messages} messages, {WINDOW} of them unacknowledged at most",
        heats=alone(*SYSTEMS),
        measure=partial(windowed, messages=messages),
        seconds=0.9 if quick else 2.2,
        rounds=1 if quick else None,
        warm_up=False,
    )
    return Table(
        name="round-trip",
        title="Round trip and throughput of reports",
        experiments=(*one_by_one, throughput),
        rows=(*(_latency(count, ours) for count in COUNTS for ours in LATENCY_LIMITS), *_rates()),
        notes=(
            "A message is one update_pod of about 520 bytes on the wire. Client and service are two"
            " processes (osmo-memory: one). What is timed begins with the typed body.",
            f"Each client sends {WARM_UP} messages before those that count.",
            f"In the window, legacy sends 1/{LEGACY_SHARE} of the messages. The study publishes"
            " the rate of messages sent one at a time only.",
        ),
    )


def _latency(count: int, ours: str) -> Row:
    transport = ours.removeprefix("osmo-")
    return Row(
        id=f"T1 {transport} {count}",
        title=f"Average round trip of {count} messages, one at a time",
        experiment=f"round-trip-{count}",
        figure="avg_us",
        unit="µs",
        better="lower",
        ours=ours,
        limits={"go": LATENCY_LIMITS[ours], "legacy": None},
        published=PUBLISHED[count],
    )


def _rates() -> list[Row]:
    return [
        Row(
            id=f"T2 {ours.removeprefix('osmo-')}",
            title="Messages per second in a window",
            experiment="throughput",
            figure="rate_per_s",
            unit="/s",
            better="higher",
            ours=ours,
            limits={"go": limit, "legacy": None},
            published={"legacy": "290-564 /s", "go": "687-2557 /s"},
        )
        for ours, limit in RATE_LIMITS.items()
    ]
