"""A queue in Redis in our own layout and in the deployed one, in turns.

python -m osmo_benchmarks.parts.queue_layouts [--rounds N]

This process is the operator, and then the worker: it appends batches, and reads and settles them.
The rate per core is by its own CPU seconds, Redis being a process of its own.
"""

import argparse
import time
from collections.abc import Awaitable
from contextlib import ExitStack

import uvloop

from osmo_benchmarks.parts.common import Stopwatch, spread
from osmo_benchmarks.programs.client import report
from osmo_transport import Ack, Message, Queue, open_queue
from osmo_transport.factory import QueueLayout, queue_url
from osmo_transport.queues.abc import AppendOutcome
from osmo_transport.testing.feeder import Feeder
from osmo_transport.testing.redis_server import RedisServer

MESSAGES = 50_000
BATCH = 100
"""Messages of a batch, ten of which make an append."""
READ = 1000

LAYOUTS: tuple[QueueLayout, ...] = ("own", "osmo")
Rates = dict[str, list[float]]


async def append(queue: Queue, messages: list[Message]) -> None:
    """Append everything, ten batches at a time."""
    feeder = Feeder(queue, "benchmark")
    await feeder.open()
    batches = [
        feeder.batch(*messages[start : start + BATCH], first=start + 1)
        for start in range(0, MESSAGES, BATCH)
    ]
    for start in range(0, len(batches), 10):
        outcomes = await queue.append(batches[start : start + 10])
        if set(outcomes) != {AppendOutcome.STORED}:
            raise RuntimeError(f"the queue answered {outcomes}")


async def read(queue: Queue, messages: list[Message]) -> None:
    """Read and settle everything, and see that each message came once."""
    ids: set[str] = set()
    async with queue.consumer("workers", "benchmark") as consumer:
        while len(ids) < MESSAGES:
            taken = await consumer.receive(READ)
            ids.update(delivery.message.id for delivery in taken)
            await consumer.settle([(delivery, Ack()) for delivery in taken])
    status = await queue.status()
    if ids != {message.id for message in messages} or any(status.waiting.values()):
        raise RuntimeError("not every message came")


async def timed(step: Awaitable[None]) -> tuple[float, float]:
    """Messages per second by the clock, and by this process's CPU."""
    watch, cpu = Stopwatch(), time.process_time()
    await step
    return MESSAGES / watch.seconds(), MESSAGES / (time.process_time() - cpu)


async def measure(rounds: int, stack: ExitStack) -> None:
    """`rounds` rounds of both layouts, each into an empty Redis."""
    rates: Rates = {}
    redis = stack.enter_context(RedisServer())
    messages = [report(number) for number in range(MESSAGES)]
    for _ in range(rounds):
        for layout in LAYOUTS:
            redis.flush()
            async with await open_queue(queue_url(redis.url, layout)) as queue:
                for name, step in (("append", append), ("read", read)):
                    rate, core = await timed(step(queue, messages))
                    rates.setdefault(f"{name} {layout}", []).append(rate)
                    rates.setdefault(f"{name} {layout} core", []).append(core)
    for name in ("append", "read"):
        for layout in LAYOUTS:
            key = f"{name} {layout}"
            found, per_core = spread(rates[key]), spread(rates[f"{key} core"])
            print(f"{key:12} {found} messages/s, per core {per_core}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with ExitStack() as everything:
        uvloop.run(measure(options.rounds, everything))
