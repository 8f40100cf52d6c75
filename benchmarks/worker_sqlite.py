"""Reports from Redis into a SQLite file by one worker, each with a key of its own.

python -m benchmarks.worker_sqlite [--rounds N]

The queue is filled first; then the worker program is started. The time is from its first read until
the queue is empty, nothing is pending, and every row is there.
"""

import argparse
import asyncio
import sqlite3
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.common import Stopwatch, body, cpu_seconds, program, report, spread
from osmo_transport import Producer, ProducerBatch, ProducerState, open_queue
from osmo_transport.testing.redis_server import RedisServer

MESSAGES = 200_000
BATCH = 1_000


async def fill(url: str) -> None:
    """Append `MESSAGES` reports."""
    producer = Producer("benchmark", "listener")
    async with await open_queue(url) as queue:
        state = await queue.open_producer(producer, "one", ProducerState("", 0, 0))
        for start in range(0, MESSAGES, BATCH):
            messages = tuple(report(body(number)) for number in range(start, start + BATCH))
            await queue.append([ProducerBatch(producer, state, start + 1, messages)])


def one_round(folder: Path) -> tuple[float, float]:
    """Messages per second by the clock, and by the worker's CPU."""
    database = folder / "state.db"
    with RedisServer() as redis:
        asyncio.run(fill(redis.url))
        arguments = ("--queue", redis.url, "--store", f"sqlite:///{database}")
        with program("osmo_worker", *arguments) as worker:
            while redis.command("XLEN", "{osmo}:stream:pods") == MESSAGES:
                time.sleep(0.001)
            left = int(redis.command("XLEN", "{osmo}:stream:pods"))
            cpu = cpu_seconds(worker.pid)
            watch = Stopwatch()
            while redis.command("XLEN", "{osmo}:stream:pods"):
                time.sleep(0.005)
            seconds = watch.seconds()
            cpu = cpu_seconds(worker.pid) - cpu
    with sqlite3.connect(database) as connection:
        (rows,) = connection.execute("SELECT count(*) FROM tasks").fetchone()
    if rows != MESSAGES:
        raise RuntimeError(f"{rows} rows of {MESSAGES}")
    return left / seconds, left / cpu


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    rates = []
    for _ in range(options.rounds):
        with TemporaryDirectory() as folder:
            rates.append(one_round(Path(folder)))
    print(
        f"Redis into SQLite {spread([r for r, _ in rates])} updates/s,"
        f" per worker core {spread([c for _, c in rates])}"
    )
