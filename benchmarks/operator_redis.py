"""Reports through the operator into Redis, appended idempotently and then acknowledged.

python -m benchmarks.operator_redis [--rounds N] [--scheme ws|grpc]

Redis, the operator and the client are three processes. The rate per core is what the operator
reaches while one core is its own: messages by its CPU seconds.
"""

import argparse
import asyncio
from contextlib import ExitStack

import uvloop

from benchmarks.common import Stopwatch, body, cpu_seconds, program, read_url, report, spread
from osmo_transport import connect
from osmo_transport.testing.redis_server import RedisServer

MESSAGES = 200_000


async def one_round(url: str, operator: int) -> tuple[float, float]:
    """Messages per second by the clock, and by the operator's CPU."""
    async with connect(url, backend="benchmark") as client:
        await client.epoch_after(0)
        bodies = [body(number) for number in range(MESSAGES)]
        cpu = cpu_seconds(operator)
        watch = Stopwatch()
        for each in bodies:
            await client.send(report(each))
        await client.flush()
        seconds = watch.seconds()
        if client.stats.acknowledged != MESSAGES:
            raise RuntimeError(f"the ledger does not balance: {client.stats}")
    return MESSAGES / seconds, MESSAGES / (cpu_seconds(operator) - cpu)


async def measure(scheme: str, rounds: int, stack: ExitStack) -> None:
    """`rounds` rounds, each into an empty Redis."""
    rates, per_core = [], []
    for _ in range(rounds):
        redis = stack.enter_context(RedisServer())
        arguments = ("--listen", f"{scheme}://127.0.0.1:0", "--queue", redis.url)
        with program("osmo_operator", *arguments) as operator:
            url = await asyncio.to_thread(read_url, operator)
            rate, core = await one_round(url, operator.pid)
        stored = redis.command("XLEN", "{osmo}:stream:pods")
        if stored != MESSAGES:
            raise RuntimeError(f"Redis holds {stored} entries of {MESSAGES}")
        redis.stop()
        rates.append(rate)
        per_core.append(core)
    print(f"{scheme} into Redis {spread(rates)} messages/s, per operator core {spread(per_core)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scheme", default="ws")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with ExitStack() as everything:
        uvloop.run(measure(options.scheme, options.rounds, everything))
