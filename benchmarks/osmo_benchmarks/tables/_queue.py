"""What the tables of the queue share: their Redis, and how they tell what goes on in it."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
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
PAGE = 10_000
"""Entries that are read of a stream at a time."""

NUMBER = re.compile(rb"0{16}[0-9a-f]{16}")
"""In whatever an entry holds: the task of a client's report is named by the report's number, in
every system's way to write it down."""


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
    return sum(redis.command("XLEN", name) for redis in servers for name in _streams(redis))


def check_stored(redis: RedisServer, messages: int) -> None:
    """That Redis holds each report of a client once, from its first to the last of `messages`, and
    nothing else.

    Raises:
        WrongResultError: it does not.
    """
    if (stored := entries(redis)) != messages:
        raise WrongResultError(f"Redis holds {stored} entries of {messages}")
    held = Counter(map(_number, _contents(redis)))
    if wrong := [number for number in range(messages) if held[number] != 1]:
        raise WrongResultError(f"Redis holds report {wrong[0]} {held[wrong[0]]} times")


def _contents(redis: RedisServer) -> Iterator[bytes]:
    for name in _streams(redis):
        start = b"-"
        while found := redis.command("XRANGE", name, start, "+", "COUNT", PAGE):
            yield from (b" ".join(fields) for _, fields in found)
            start = b"(" + found[-1][0]


def _number(content: bytes) -> int:
    found = NUMBER.search(content)
    return int(found[0], 16) if found else -1


def _streams(redis: RedisServer) -> list[bytes]:
    names: list[bytes] = redis.command("SCAN", 0, "COUNT", 10_000, "TYPE", "stream")[1]
    return names


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
