"""What one backend's flood, and a crowd that says nothing, cost another backend and the operator.

python -m osmo_benchmarks.parts.flood [--quota N] [--seconds S] [--rounds R] [--silent N]

An operator with a Redis of its own; a neighbour reports once in 20 ms and waits for each report's
acknowledgement. In turns, each with a fresh operator: quiet; beside a backend that sends what its
quota is, which is load by itself; beside one that offers ten times the quota, without and with it,
and has spent by then what it may send at once; and beside connections that stop half-way, to every
port.
"""

import argparse
import asyncio
import math
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import uvloop

from osmo_benchmarks.parts.common import cpu_seconds, peak_rss_megabytes, program, read_url, spread
from osmo_benchmarks.programs.client import report
from osmo_runtime.startup import allow_connections
from osmo_transport import connect, open_queue
from osmo_transport.testing.ports import free_port
from osmo_transport.testing.redis_server import RedisServer

QUIET, BUSY, SILENT = "quiet", "at its quota", "silent crowd"
FLOOD, QUOTA = "flood without a quota", "flood with a quota"
EVERY = 0.02
"""Seconds between two reports of the neighbour."""
TIMES = 10
"""What a flood offers, in quotas."""
BURST = 1.0
"""Seconds of its quota that the flood may send at once."""
SPENT = 2.5
"""Seconds of the flood after which it has done so."""
YIELDS = 19
"""By what the flood's process is nicer than the others."""
CONNECTED = 0.5
"""Seconds that it takes to connect, where that port does not make one wait."""
HALF = b"GET /osmo/v1 HTTP/1.1\r\nX: "

Figures = dict[str, list[tuple[float, ...]]]


async def flood(url: str, rate: int, seconds: float) -> None:
    """Offer so many reports a second for so long; says how many were sent and acknowledged."""
    os.nice(YIELDS)  # it would have a machine of its own
    loop = asyncio.get_running_loop()
    async with connect(url, backend="flood") as client:
        await client.epoch_after(0)
        began, sent = loop.time(), 0
        while (passed := loop.time() - began) < seconds:
            while sent < passed * rate and loop.time() - began < seconds:
                await client.send(report(sent))
                sent += 1
            await asyncio.sleep(0.001)
        await client.flush()
        stats = client.stats
        print(sent, stats.acknowledged, stats.dropped, stats.connects, flush=True)


async def neighbour(url: str, seconds: float) -> list[float]:
    """How long each report took, until it was acknowledged."""
    loop = asyncio.get_running_loop()
    took: list[float] = []
    async with connect(url, backend="neighbour") as client:
        await client.epoch_after(0)
        end = loop.time() + seconds
        while loop.time() < end:
            began = time.perf_counter()
            await client.send(report(len(took)))
            await client.flush()
            took.append(time.perf_counter() - began)
            await asyncio.sleep(EVERY)
        if client.stats.acknowledged != len(took):
            raise RuntimeError(f"{client.stats} of {len(took)} reports of the neighbour")
    return took


def p99(took: list[float]) -> float:
    """The time that one in a hundred exceeds."""
    return sorted(took)[math.ceil(len(took) * 0.99) - 1]


@contextmanager
def crowd(urls: list[str], many: int) -> Iterator[None]:
    """So many connections to each, which stop within a request, or say nothing."""
    allow_connections(len(urls) * many)
    with ExitStack() as stack:
        silent = []
        for url in urls:
            parts = urlsplit(url)
            for _ in range(many):
                each = stack.enter_context(socket.socket())
                each.setblocking(False)
                each.connect_ex((parts.hostname, parts.port))
                silent.append(each)
        time.sleep(CONNECTED)
        for each in silent[::2]:
            with suppress(OSError):
                each.sendall(HALF)
        yield


def descriptors(pid: int) -> int:
    """Files that a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


async def one_round(what: str, quota: int, seconds: float, many: int) -> tuple[float, ...]:
    """The neighbour's median and p99, the operator's peak in megabytes, its CPU seconds, reports of
    the flood per second, and the most descriptors."""
    with RedisServer() as redis:
        operations = f"127.0.0.1:{free_port()}"
        arguments = ["--queue", redis.url, "--operations", operations]
        arguments += ["--listen", "ws://127.0.0.1:0", "--listen", "grpc://127.0.0.1:0"]
        if what in (BUSY, QUOTA):
            arguments += ["--server-quota-messages", str(quota), "--server-quota-burst", str(BURST)]
        with ExitStack() as stack:
            operator = stack.enter_context(program("osmo_operator", *arguments))
            assert operator.stdout is not None
            operator.stdout.readline()  # where its operations port is
            url, grpc_url = read_url(operator), read_url(operator)
            flooding = None
            if what in (BUSY, FLOOD, QUOTA):
                rate = quota if what == BUSY else TIMES * quota
                options = ["--flood", url, "--quota", str(rate), "--seconds", str(SPENT + seconds)]
                flooding = stack.enter_context(program(__spec__.name, *options))
                await asyncio.sleep(SPENT)
            if what == SILENT:
                stack.enter_context(crowd([url, grpc_url, f"http://{operations}"], many))
            most = descriptors(operator.pid)
            took = await neighbour(url, seconds)
            sent = 0
            if flooding is not None and flooding.stdout is not None:
                line = await asyncio.to_thread(flooding.stdout.readline)
                sent, acknowledged, dropped, connects = map(int, line.split())
                if (acknowledged, dropped, connects) != (sent, 0, 1):
                    raise RuntimeError(f"of {sent} reports of the flood: {line}")
            async with await open_queue(redis.url) as queue:
                stored = sum((await queue.status()).waiting.values())
            if stored != sent + len(took):
                raise RuntimeError(f"{stored} stored, and {sent} + {len(took)} acknowledged")
            memory, cpu = peak_rss_megabytes(operator.pid), cpu_seconds(operator.pid)
        return sorted(took)[len(took) // 2], p99(took), memory, cpu, sent / (SPENT + seconds), most


async def measure(quota: int, seconds: float, rounds: int, many: int) -> None:
    """`rounds` of each, in turns."""
    results: Figures = {what: [] for what in (QUIET, BUSY, FLOOD, QUOTA, SILENT)}
    for _ in range(rounds):
        for what, figures in results.items():
            figures.append(await one_round(what, quota, seconds, many))
    for what, figures in results.items():
        median, late, memory, cpu, rate, most = zip(*figures, strict=True)
        print(
            f"{what}: the neighbour's median {spread(median, 1e6)} us, p99 {spread(late, 1e6)} us;"
            f" operator {spread(memory)} MB, CPU {spread(cpu, 1e3)} ms, {max(most)} descriptors;"
            f" the other {spread(rate)} reports offered per second, each stored once"
        )
        ratios = [each[1] / quiet[1] for each, quiet in zip(figures, results[QUIET], strict=True)]
        print(f"  p99, in percent of quiet: {spread(ratios, 100)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quota", type=int, default=1_000, help="messages per second")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--silent", type=int, default=700, help="connections to each of 3 ports")
    parser.add_argument("--flood", metavar="URL", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.flood:
        sys.exit(uvloop.run(flood(given.flood, given.quota, given.seconds)))
    uvloop.run(measure(given.quota, given.seconds, given.rounds, given.silent))
