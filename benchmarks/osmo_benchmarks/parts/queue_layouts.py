"""A queue in Redis in our own layout and in the deployed one, in turns.

python -m osmo_benchmarks.parts.queue_layouts [--rounds N]

This process is the operator, and then the worker: it appends batches, encoded as clients send them,
and reads and settles them. The rate per core is by its own CPU seconds: Redis is another process.
"""

import argparse
import time
from collections.abc import Awaitable
from contextlib import ExitStack

import uvloop

from osmo_benchmarks.parts.common import Stopwatch, spread
from osmo_benchmarks.programs.client import report
from osmo_runtime.queues import QueueLayout, queue_url
from osmo_transport import Ack, Message, ProducerBatch, Queue, open_queue
from osmo_transport.queues.abc import AppendOutcome
from osmo_transport.testing.feeder import Feeder
from osmo_transport.testing.redis_server import RedisServer

MESSAGES = 50_000
BATCH = 100
"""Messages of a batch, ten of which make an append."""
READ = 1000

LAYOUTS: tuple[QueueLayout, ...] = ("own", "osmo")
Rates = dict[str, list[float]]


async def sent(queue: Queue, messages: list[Message]) -> list[ProducerBatch]:
    """The batches that a client's messages arrive in."""
    feeder = Feeder(queue, "benchmark")
    await feeder.open()
    return [
        feeder.batch(*messages[start : start + BATCH], first=start + 1)
        for start in range(0, MESSAGES, BATCH)
    ]


async def append(queue: Queue, batches: list[ProducerBatch]) -> None:
    """Append everything, ten batches at a time."""
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
                batches = await sent(queue, messages)
                for name, step in (
                    ("append", append(queue, batches)),
                    ("read", read(queue, messages)),
                ):
                    rate, core = await timed(step)
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
