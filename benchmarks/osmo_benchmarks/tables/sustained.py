"""Q4: what passes through the operator into Redis, and through the worker into the state store."""

import sqlite3
import time
from contextlib import closing
from functools import partial

from osmo_benchmarks.errors import WrongResultError
from osmo_benchmarks.plan import Context, Experiment, Outcome, Table, alone
from osmo_benchmarks.processes import module
from osmo_benchmarks.programs.client import Result
from osmo_benchmarks.run import Row
from osmo_benchmarks.systems import TRANSPORTS, Command
from osmo_benchmarks.tables._programs import measured, running, serving
from osmo_benchmarks.tables._queue import (
    READY_TIMEOUT,
    STREAM,
    address,
    empty_redis,
    entries,
    eventually,
    waiting_readers,
)
from osmo_transport.testing.redis_server import RedisServer

APPENDED, QUICK_APPENDED = 30_000, 10_000
STORED, QUICK_STORED = 60_000, 20_000
"""Messages."""
STORE_ROUNDS = 3
"""At most: nobody else does this, so that there is no ratio."""
WINDOW = 10_000
RATE_LIMITS = {"osmo-ws": 6.0}
TIMEOUT = 60.0
"""Seconds: ten times what the slowest needs."""


async def fill(context: Context, redis: RedisServer, messages: int) -> tuple[Result, float]:
    """Send messages through the system's operator; what the client measured, and the CPU seconds
    that the operator took.

    Raises:
        ProgramError: a program failed.
        WrongResultError: Redis does not hold each message once.
    """
    system = context.system
    command = system.operator(address(redis), STREAM)
    async with serving(context, "operator", command) as operator:
        before = operator.cpu_seconds()
        client = system.client(operator.url, messages, 0, WINDOW)
        result = await measured(context, "client", client, messages, TIMEOUT)
        cpu = operator.cpu_seconds() - before
    if (stored := entries(redis)) != messages:
        raise WrongResultError(f"Redis holds {stored} entries of {messages}")
    return result, cpu


async def through_operator(context: Context, messages: int) -> dict[str, Outcome]:
    """From typed bodies to acknowledged ones in Redis."""
    redis = await empty_redis(context.shared)
    result, cpu = await fill(context, redis, messages)
    figures = {"rate_per_s": result.rate, "cpu_us_per_message": cpu / messages * 1e6}
    return {context.system.name: Outcome(figures)}


async def into_sqlite(context: Context, messages: int) -> dict[str, Outcome]:
    """From Redis into rows of a file."""
    redis = await empty_redis(context.shared)
    database = context.folder / "state.db"
    queue = f"{redis.url}?namespace={STREAM}"
    arguments = ("--queue", queue, "--store", f"sqlite:///{database}")
    command = Command((*module("osmo_worker"), *arguments))
    async with running(context, "worker", command) as worker:
        waits = partial(_waits, redis)
        await eventually(waits, "the worker does not wait for work", READY_TIMEOUT, worker)
        with worker.suspended():
            await fill(context, redis, messages)
            began, cpu = time.perf_counter(), worker.cpu_seconds()
        await eventually(partial(_empty, redis), "the queue is not empty", TIMEOUT, worker)
        seconds, cpu = time.perf_counter() - began, worker.cpu_seconds() - cpu
    with closing(sqlite3.connect(database)) as connection:
        (rows,) = connection.execute("SELECT count(*) FROM tasks").fetchone()
    if rows != messages:
        raise WrongResultError(f"the store has {rows} rows of {messages}")
    figures = {"rate_per_s": messages / seconds, "cpu_us_per_message": cpu / messages * 1e6}
    return {context.system.name: Outcome(figures)}


def _waits(redis: RedisServer) -> bool:
    return waiting_readers(redis) > 0


def _empty(redis: RedisServer) -> bool:
    return entries(redis) == 0


def table(quick: bool) -> Table:
    """What the study does not measure: the queue under a load that does not end."""
    appended = QUICK_APPENDED if quick else APPENDED
    stored = QUICK_STORED if quick else STORED
    return Table(
        name="sustained",
        title="Sustained load, with Redis",
        experiments=(
            Experiment(
                name="operator-redis",
                title=f"{appended} messages through the operator into Redis",
                heats=alone("go", "go-tuned", "osmo-ws", "osmo-grpc"),
                measure=partial(through_operator, messages=appended),
                seconds=1.0 if quick else 1.5,
                rounds=1 if quick else None,
                warm_up=False,
                needs=frozenset({"redis"}),
            ),
            Experiment(
                name="worker-sqlite",
                title=f"{stored} messages of as many tasks from Redis into a SQLite file",
                heats=alone("osmo-ws"),
                measure=partial(into_sqlite, messages=stored),
                seconds=2.5 if quick else 4.5,
                rounds=1 if quick else STORE_ROUNDS,
                warm_up=False,
                needs=frozenset({"redis"}),
            ),
        ),
        rows=(
            _rate("Q4 ws", "osmo-ws"),
            _rate("Q4 grpc", "osmo-grpc"),
            Row(
                id="Q4 cpu",
                title="CPU time of the operator for one message into Redis",
                short="CPU of the operator",
                experiment="operator-redis",
                figure="cpu_us_per_message",
                unit="µs",
                better="lower",
                ours="osmo-ws",
                limits={"go": None, "go-tuned": None},
            ),
            Row(
                id="Q4 sqlite",
                title="Updates per second from Redis through one worker into SQLite",
                experiment="worker-sqlite",
                figure="rate_per_s",
                unit="/s",
                better="higher",
                ours="osmo-ws",
                aim=40_000.0,
            ),
        ),
        notes=(
            f"A client with {WINDOW} unacknowledged messages at most, the operator and Redis are"
            " processes of their own; Redis writes nothing to disk. A message is acknowledged when"
            " Redis holds it: go appends with one XADD for each, and every stream is counted"
            " afterwards.",
            "The worker is suspended while the queue is filled: its time starts when it goes on,"
            " and ends when the queue is empty; then each task has its row.",
        ),
    )


def _rate(name: str, ours: str) -> Row:
    return Row(
        id=name,
        title="Messages per second through the operator into Redis",
        short=f"Into Redis, {TRANSPORTS[ours]}",
        experiment="operator-redis",
        figure="rate_per_s",
        unit="/s",
        better="higher",
        ours=ours,
        limits={"go": 6.0, "go-tuned": None}
        if ours == "osmo-ws"
        else dict.fromkeys(("go", "go-tuned")),
    )
