"""What the tables of the queue share: their Redis, and how they tell what goes on in it."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any

from osmo_benchmarks.errors import WrongResultError
from osmo_benchmarks.processes import Program
from osmo_benchmarks.shared import Shared
from osmo_transport.testing.redis_server import RedisServer

STREAM = "bench"
"""Of an experiment with one queue; ours takes it as the queue's namespace."""
POLL = 0.01
"""Seconds between two looks at Redis."""
READY_TIMEOUT = 30.0
"""Seconds until every worker waits for work: several start at once, on few cores."""


def address(redis: RedisServer) -> str:
    """HOST:PORT, as programs are told."""
    return f"127.0.0.1:{redis.port}"


@asynccontextmanager
async def one_redis() -> AsyncIterator[RedisServer]:
    """A Redis of one's own."""
    with RedisServer() as redis:
        yield redis


async def empty_redis(shared: Shared) -> RedisServer:
    """The Redis of an experiment, with nothing in it."""
    redis = await shared.get("redis", one_redis)
    redis.flush()
    return redis


def entries(*servers: RedisServer) -> int:
    """How many entries all streams of all servers hold."""
    return sum(
        redis.command("XLEN", name)
        for redis in servers
        for name in redis.command("SCAN", 0, "COUNT", 10_000, "TYPE", "stream")[1]
    )


def waiting_readers(*servers: RedisServer) -> int:
    """How many clients wait until a stream has something for their group."""
    clients = [
        dict(pair.split(b"=", 1) for pair in line.split(b" ") if b"=" in pair)
        for redis in servers
        for line in redis.command("CLIENT", "LIST").splitlines()
    ]
    return sum(each[b"cmd"] == b"xreadgroup" and b"b" in each[b"flags"] for each in clients)


async def eventually(
    condition: Callable[[], bool], failure: str, timeout: float, *programs: Program
) -> None:
    """Wait until `condition` holds.

    Raises:
        WrongResultError: it does not within `timeout` seconds; `failure` says what is wrong then.
        ProgramError: one of `programs` ended meanwhile.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        for each in programs:
            each.check()
        if time.monotonic() > deadline:
            raise WrongResultError(f"after {timeout:g} s {failure}")
        await asyncio.sleep(POLL)


async def together(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Do it all at once.

    Raises: what the first that fails raises; the others are cancelled.
    """
    try:
        async with asyncio.TaskGroup() as tasks:
            for each in work:
                tasks.create_task(each)
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
