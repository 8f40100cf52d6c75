"""Q4: what passes through the operator into Redis, and through the worker into the state store."""

import asyncio
import time
from collections.abc import Sequence
from functools import partial

from osmo_benchmarks.databases import BATCH, Database, Rows, Sqlite, postgres_server
from osmo_benchmarks.errors import WrongResultError
from osmo_benchmarks.plan import Context, Experiment, Outcome, Table, alone
from osmo_benchmarks.processes import module
from osmo_benchmarks.programs.client import Result, body
from osmo_benchmarks.run import Row
from osmo_benchmarks.systems import TRANSPORTS, Command
from osmo_benchmarks.tables._programs import measured, running, serving
from osmo_benchmarks.tables._queue import (
    READY_TIMEOUT,
    STREAM,
    address,
    check_stored,
    empty_redis,
    entries,
    eventually,
    waiting_readers,
)
from osmo_transport.testing.redis_server import RedisServer
from osmo_worker.store.merge import ROWS

APPENDED, QUICK_APPENDED = 30_000, 10_000
STORED, QUICK_STORED = 60_000, 20_000
"""Messages."""
STORE_ROUNDS = 3
"""At most: nobody else does this, so that there is no ratio."""
WINDOW = 10_000
RATE_LIMITS: dict[str, float | None] = {"go": 12.0, "go-tuned": 2.2}
SHARE_AIM = 0.55
STATEMENT_AIM = 2.0
TIMEOUT = 60.0
"""Seconds: ten times what the slowest needs."""
ROW_BY_ROW = 10_000
"""Rows that are also written by a statement for each, in two ways: enough to tell how fast that
is."""
COMPARED = (
    *("workflow_uuid", "task_uuid", "retry_id", "status", "node", "container", "pod_ip"),
    *("message", "pod"),
)
"""What a row has of its report as it is."""


async def fill(
    context: Context, redis: RedisServer, messages: int, warm_up: int = 0, window: int = WINDOW
) -> tuple[Result, float]:
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
        client = system.client(operator.url, messages, warm_up, window)
        result = await measured(context, "client", client, messages, TIMEOUT)
        cpu = operator.cpu_seconds() - before
    check_stored(redis, warm_up + messages)
    return result, cpu


async def through_operator(context: Context, messages: int) -> dict[str, Outcome]:
    """From typed bodies to acknowledged ones in Redis."""
    redis = await empty_redis(context.shared)
    result, cpu = await fill(context, redis, messages)
    figures = {"rate_per_s": result.rate, "cpu_us_per_message": cpu / messages * 1e6}
    return {context.system.name: Outcome(figures)}


async def into_sqlite(context: Context, messages: int) -> dict[str, Outcome]:
    """From Redis into rows of a file."""
    figures, _ = await into(context, Sqlite(context.folder / "state.db"), messages)
    return {context.system.name: Outcome(figures)}


async def into_postgres(context: Context, messages: int) -> dict[str, Outcome]:
    """From Redis into rows of a server."""
    server = await context.shared.get("postgresql", postgres_server)
    database = server.another(f"round-{context.round}")
    figures, (columns, rows) = await into(context, database, messages)
    some = rows[:ROW_BY_ROW]
    single = await asyncio.to_thread(database.take_one_by_one, columns, some)
    awaited = await asyncio.to_thread(database.take_awaited, columns, some)
    figures["times_one_by_one"] = figures["rate_per_s"] / single
    figures["times_awaited"] = figures["rate_per_s"] / awaited
    return {context.system.name: Outcome(figures)}


async def into(
    context: Context, database: Database, messages: int
) -> tuple[dict[str, float], tuple[Sequence[str], Rows]]:
    """From Redis into a database, and then the same rows into the same table without a worker; the
    figures, and columns and rows.

    Raises:
        ProgramError: a program failed.
        WrongResultError: a report was lost, or its row is wrong.
    """
    redis = await empty_redis(context.shared)
    queue = f"{redis.url}?namespace={STREAM}"
    command = Command((*module("osmo_worker"), "--queue", queue, "--store", database.url))
    async with running(context, "worker", command) as worker:
        waits = partial(_waits, redis)
        await eventually(waits, "the worker does not wait for work", READY_TIMEOUT, worker)
        with worker.suspended():
            await fill(context, redis, messages)
            began, cpu = time.perf_counter(), worker.cpu_seconds()
        await eventually(partial(_empty, redis), "the queue is not empty", TIMEOUT, worker)
        seconds, cpu = time.perf_counter() - began, worker.cpu_seconds() - cpu
    columns, rows = await asyncio.to_thread(database.rows)
    check_rows(columns, rows, messages)
    rate, alone = messages / seconds, await asyncio.to_thread(database.take, columns, rows)
    figures = {
        "rate_per_s": rate,
        "cpu_us_per_message": cpu / messages * 1e6,
        "alone_per_s": alone,
        "share": rate / alone,
    }
    return figures, (columns, rows)


def check_rows(columns: Sequence[str], rows: Rows, messages: int) -> None:
    """That there is a row for each report of a client, and that it says what was reported.

    Raises:
        WrongResultError: there is not, or it does not.
    """
    if len(rows) != messages:
        raise WrongResultError(f"the store has {len(rows)} rows of {messages}")
    for number, row in enumerate(rows):
        held, said = dict(zip(columns, row, strict=True)), body(number)
        if wrong := [name for name in COMPARED if str(held[name]) != str(getattr(said, name))]:
            raise WrongResultError(
                f"the row of report {number} has {wrong[0]} {held[wrong[0]]!r},"
                f" which is {getattr(said, wrong[0])!r}"
            )


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
            Experiment(
                name="worker-postgresql",
                title=f"{stored} messages of as many tasks from Redis into PostgreSQL",
                heats=alone("osmo-ws"),
                measure=partial(into_postgres, messages=stored),
                seconds=4.0 if quick else 7.0,
                rounds=1 if quick else STORE_ROUNDS,
                warm_up=False,
                needs=frozenset({"redis", "postgresql"}),
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
                no_target="what it does to the rate is the row of the rate",
            ),
            *_store_rows("sqlite", "SQLite"),
            *_store_rows("postgresql", "PostgreSQL"),
            Row(
                id="Q4 postgresql statement",
                title="That rate beside what PostgreSQL takes by itself, a statement for each row",
                experiment="worker-postgresql",
                figure="times_one_by_one",
                unit="times",
                better="higher",
                ours="osmo-ws",
                aim=STATEMENT_AIM,
            ),
            Row(
                id="Q4 postgresql awaited",
                title="Likewise, where the answer to each statement is awaited",
                experiment="worker-postgresql",
                figure="times_awaited",
                unit="times",
                better="higher",
                ours="osmo-ws",
                no_target="it is the easier of two: what is sent without waiting has one",
            ),
        ),
        notes=(
            f"A client with {WINDOW} unacknowledged messages at most, the operator and Redis are"
            " processes of their own; Redis writes nothing to disk. A message is acknowledged when"
            " Redis holds it: go appends with one XADD for each, and every stream is counted"
            " afterwards.",
            "The worker is suspended while the queue is filled: its time starts when it goes on,"
            " and ends when the queue is empty. Then each task has its row, which says what was"
            " reported.",
            "By itself: the same rows in the same table, emptied before, with its indexes, in"
            f" transactions of {BATCH}, and so that a newer row would take the place of an older"
            f" one. SQLite gets {ROWS} rows in a statement, with the worker's cache and log;"
            " PostgreSQL copies into a temporary table and joins from there. Nothing reads Redis"
            " then, and nobody decodes reports: a share of 1 would mean that a worker costs"
            " nothing. Worker, Redis and database share the cores, and the database by itself has"
            " one: a busy machine takes from the former alone. PostgreSQL does not wait for its"
            " disk.",
            "Statements for each row are sent without waiting for their answers, over a socket in"
            " the file system: over TCP one transaction of some ten waits for 200 ms. A worker that"
            " handles one report after the other has to wait for each.",
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
        limits=RATE_LIMITS if ours == "osmo-ws" else dict.fromkeys(RATE_LIMITS),
        no_target="" if ours == "osmo-ws" else "the row over WebSocket has one",
    )


def _store_rows(name: str, title: str) -> list[Row]:
    row = partial(Row, experiment=f"worker-{name}", ours="osmo-ws")
    return [
        row(
            id=f"Q4 {name}",
            title=f"New tasks per second from Redis through one worker into {title}",
            figure="rate_per_s",
            unit="/s",
            better="higher",
            no_target="a rate is that of the machine: its share of what the database takes has one",
        ),
        row(
            id=f"Q4 {name} alone",
            title=f"Rows per second that {title} takes of the same by itself",
            figure="alone_per_s",
            unit="/s",
            better="higher",
            no_target="it is what the share is of",
        ),
        row(
            id=f"Q4 {name} cpu",
            title=f"CPU time of the worker for one report into {title}",
            figure="cpu_us_per_message",
            unit="µs",
            better="lower",
            no_target="what it does to the rate is the row of the rate",
        ),
        row(
            id=f"Q4 {name} share",
            title=f"That rate as a share of what {title} takes of the same rows by itself",
            figure="share",
            unit="",
            better="higher",
            aim=SHARE_AIM,
        ),
    ]
