"""Round trip of one report at a time, and windowed throughput, for each transport.

python -m benchmarks.transport [ws|grpc|memory …] [--rounds N]

Two processes (memory: one): the server acknowledges at once. A round trip is from `send` to
`flush`; the throughput is from typed bodies to the last acknowledgement, with the default window.
All messages must be acknowledged, none sent twice, or the run fails.
"""

import argparse
import asyncio
import statistics
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvloop

from benchmarks.common import Stopwatch, body, program, read_url, report, spread
from osmo_transport import Client, Server, connect, listen

WARM_UP = 500
ROUND_TRIPS = 2_000
MESSAGES = 200_000


async def round_trip(client: Client) -> float:
    """The median round trip in seconds."""
    times = []
    for number in range(WARM_UP + ROUND_TRIPS):
        watch = Stopwatch()
        await client.send(report(body(number)))
        await client.flush()
        times.append(watch.seconds())
    return statistics.median(times[WARM_UP:])


async def throughput(client: Client) -> float:
    """Messages per second."""
    bodies = [body(number) for number in range(MESSAGES)]
    before = client.stats.acknowledged
    watch = Stopwatch()
    for each in bodies:
        await client.send(report(each))
    await client.flush()
    seconds = watch.seconds()
    stats = client.stats
    if stats.acknowledged - before != MESSAGES or stats.resent or stats.rejected:
        raise RuntimeError(f"the ledger does not balance: {stats}")
    return MESSAGES / seconds


@asynccontextmanager
async def far_end(scheme: str) -> AsyncIterator[str]:
    """The URL of an acknowledging server."""
    if scheme == "memory":
        async with listen("memory://") as server:
            serving = asyncio.create_task(_acknowledge(server))
            try:
                yield server.url
            finally:
                serving.cancel()
        return
    with program("benchmarks.acknowledger", f"{scheme}://127.0.0.1:0") as process:
        yield await asyncio.to_thread(read_url, process)


async def _acknowledge(server: Server) -> None:
    while incoming := await server.receive():
        for each in incoming:
            each.acknowledge()


async def measure(schemes: list[str], rounds: int) -> None:
    """All of `schemes` in turn, `rounds` times, and a line for each."""
    trips: dict[str, list[float]] = {scheme: [] for scheme in schemes}
    rates: dict[str, list[float]] = {scheme: [] for scheme in schemes}
    for _ in range(rounds):
        for scheme in schemes:
            async with far_end(scheme) as url, connect(url, backend="benchmark") as client:
                await client.epoch_after(0)
                trips[scheme].append(await round_trip(client))
                rates[scheme].append(await throughput(client))
    for scheme in schemes:
        print(
            f"{scheme:7} round trip {spread(trips[scheme], 1e6)} µs,"
            f" throughput {spread(rates[scheme])} messages/s"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("schemes", nargs="*", default=["ws", "grpc", "memory"])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    uvloop.run(measure(options.schemes, options.rounds))
