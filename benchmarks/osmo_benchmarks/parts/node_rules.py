"""From new condition rules to the last row of a node that they change.

python -m osmo_benchmarks.parts.node_rules [--nodes N] [--rounds N]

The whole pipeline as processes: a simulated cluster, the listener, the operator, Redis, the worker
and a SQLite file. The rules change so that every node becomes unavailable, and available again.
"""

import argparse
import asyncio
import sqlite3
import time
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory

from osmo_benchmarks.parts.common import program, read_url, spread
from osmo_benchmarks.parts.listener_start import Size, cluster
from osmo_reports.directory import open_directory
from osmo_transport.testing.redis_server import RedisServer

BACKEND = "benchmark"
PATIENCE = 60.0
RULES = ({"DiskPressure": "True"}, {"DiskPressure": "False"})
"""By which no node is available, and all are."""


def wait_for(database: Path, available: bool, count: int) -> None:
    """Return when so many rows say so."""
    until = time.monotonic() + PATIENCE
    query = "SELECT count(*) FROM nodes WHERE available = ? AND deleted_at IS NULL"
    while time.monotonic() < until:
        try:
            with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
                (found,) = connection.execute(query, (available,)).fetchone()
        except sqlite3.OperationalError:
            found = None  # the worker has not made it yet
        if found == count:
            return
        time.sleep(0.002)
    raise RuntimeError(f"{found} of {count} nodes after {PATIENCE} s")


async def measure(count: int, rounds: int) -> None:
    """Change the rules `rounds` times two."""
    with TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        database, kubeconfig = folder / "state.db", folder / "kubeconfig"
        redis = stack.enter_context(RedisServer())
        queue = ("--queue", redis.url)
        operator = stack.enter_context(
            program("osmo_operator", "--listen", "ws://127.0.0.1:0", *queue)
        )
        url = await asyncio.to_thread(read_url, operator)
        stack.enter_context(program("osmo_worker", *queue, "--store", f"sqlite:///{database}"))
        async with cluster("simulator", Size(0, count)) as text:
            kubeconfig.write_text(text)
            arguments = ("--connect", url, "--kubeconfig", str(kubeconfig), "--backend", BACKEND)
            stack.enter_context(program("osmo_listener", *arguments, "--listeners=node"))
            await asyncio.to_thread(wait_for, database, True, count)
            times = []
            async with await open_directory(redis.url) as directory:
                for _ in range(rounds):
                    for rules, available in zip(RULES, (False, True), strict=True):
                        started = time.perf_counter()
                        await directory.set_rules(BACKEND, rules)
                        await asyncio.to_thread(wait_for, database, available, count)
                        times.append(time.perf_counter() - started)
    print(f"{count} nodes: from new rules to the last row {spread(times, 1e3)} ms")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    asyncio.run(measure(options.nodes, options.rounds))
