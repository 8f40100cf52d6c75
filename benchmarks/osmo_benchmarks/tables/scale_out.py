"""S1: how the rate grows with partitions, each a queue and a worker of its own."""

import bisect
import os
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

from osmo_benchmarks.errors import WrongResultError
from osmo_benchmarks.plan import Context, Experiment, Outcome, Table, alone
from osmo_benchmarks.records import Records
from osmo_benchmarks.run import Row
from osmo_benchmarks.tables._cluster import NODES, owner, redis_cluster
from osmo_benchmarks.tables._programs import measured, running, serving, stop_all
from osmo_benchmarks.tables._queue import address, empty_redis, entries, eventually, together
from osmo_transport.testing.redis_server import RedisServer

COST_MS = 1.0
"""Of handling one message."""
OURS = "osmo-ws"
PARTITIONS = (1, 2, 4)
MESSAGES = {"go": 1_000, "go-tuned": 10_000, "osmo-ws": 10_000}
"""Of each partition, by system: a second or two of work for its worker."""
WINDOW = 1_000
TIMEOUT = 60.0
"""Seconds: ten times what the slowest needs."""
ROUNDS = 1
"""At most: twelve programs are started for each figure."""
AIM = 0.9
"""Of linear."""
SYSTEMS = {
    "partitions": ("go", "go-tuned", "osmo-ws"),
    "cluster-partitions": ("go", "osmo-ws"),
}

Places = dict[str, RedisServer]
"""By the name of a partition's queue: where it is."""
Place = Callable[[Context, int], Coroutine[Any, Any, Places]]


async def in_one_redis(context: Context, partitions: int) -> Places:
    """All partitions in the same Redis."""
    redis = await empty_redis(context.shared)
    return {f"partition-{number}": redis for number in range(partitions)}


async def in_cluster(context: Context, partitions: int) -> Places:
    """Partitions in turn on the nodes of a Redis Cluster."""
    nodes = await context.shared.get("cluster", redis_cluster)
    for node in nodes:
        node.flush()
    places: Places = {}
    number = 0
    while len(places) < partitions:
        name = f"partition-{number}"
        if (node := owner(nodes, name)) is nodes[len(places) % NODES]:
            places[name] = node
        number += 1
    return places


class Scaling:
    """Measures a number of partitions, and compares it with one in the same round."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._alone: dict[tuple[str, int], float] = {}

    async def measure(self, context: Context, partitions: int) -> dict[str, Outcome]:
        """See `Experiment.measure`."""
        name = context.system.name
        messages = MESSAGES[name]
        places = await self._place(context, partitions)
        await together(fill(context, *each, messages) for each in places.items())
        rate = await work(context, places, messages)
        figures = {"rate_per_s": rate}
        if partitions == 1:
            self._alone[name, context.round] = rate
        elif single := self._alone.get((name, context.round)):
            figures["efficiency"] = rate / (partitions * single)
        return {name: Outcome(figures)}


async def fill(context: Context, name: str, redis: RedisServer, messages: int) -> None:
    system = context.system
    command = system.operator(address(redis), name)
    async with serving(context, f"{name}-operator", command) as operator:
        client = system.client(operator.url, messages, 0, WINDOW)
        await measured(context, f"{name}-client", client, messages, TIMEOUT)


async def work(context: Context, places: Places, messages: int) -> float:
    """Let a worker for each partition do all that is in it; messages per second."""
    servers = set(places.values())
    if (stored := entries(*servers)) != messages * len(places):
        raise WrongResultError(f"Redis holds {stored} entries of {messages * len(places)}")
    records = {name: context.folder / f"{name}.jsonl" for name in places}
    async with AsyncExitStack() as stack:
        workers = []
        for name, redis in places.items():
            command = context.system.worker(address(redis), name, name, COST_MS, records[name])
            workers.append(
                await stack.enter_async_context(running(context, f"{name}-worker", command))
            )
        await eventually(lambda: not entries(*servers), "the queue is not empty", TIMEOUT, *workers)
        await stop_all(workers)
    return common_rate([_handled(path, messages) for path in records.values()])


def _handled(path: Path, messages: int) -> list[int]:
    """When each message was handled, in ns.

    Raises:
        WrongResultError: one is missing, or was handled twice.
    """
    records = Records(path)
    records.read()
    keys = {each.key for each in records.all}
    if not len(records.all) == len(keys) == messages:
        raise WrongResultError(
            f"{len(records.all)} messages of {len(keys)} tasks were handled, and not {messages}"
        )
    return sorted(each.at for each in records.all)


def common_rate(partitions: Sequence[Sequence[int]]) -> float:
    """Messages per second while all partitions were at work; `partitions` has the sorted times of
    each in ns.

    Raises:
        WrongResultError: there is no such time.
    """
    began = max(each[0] for each in partitions)
    ended = min(each[-1] for each in partitions)
    if ended <= began:
        raise WrongResultError("the first worker was through before the last one began")
    handled = sum(
        bisect.bisect_right(each, ended) - bisect.bisect_right(each, began) for each in partitions
    )
    return handled / (ended - began) * 1e9


def table(quick: bool) -> Table:
    """What the study only hints at."""
    cores = len(os.sched_getaffinity(0))
    return Table(
        name="scale-out",
        title="Scale-out over partitions",
        experiments=(
            *_experiments("partitions", "one Redis", Scaling(in_one_redis), quick),
            *_experiments("cluster-partitions", "a Redis Cluster", Scaling(in_cluster), quick),
        ),
        rows=tuple(
            row
            for name in ("partitions", "cluster-partitions")
            for count in PARTITIONS
            for row in _rows(name, count, cores)
        ),
        notes=(
            f"A partition is a queue of its own with one worker; handling a message is an awaited"
            f" wait of {COST_MS:g} ms. All partitions are filled first, through operators, and the"
            " rate is that of the time in which every worker is at work. Messages by partition:"
            f" {', '.join(f'{name} {count}' for name, count in MESSAGES.items())}.",
            "Linear is a rate of N partitions that is N times that of one in the same round. A"
            " worker of ours handles many messages at once and so needs a core to itself: N of"
            f" them and Redis need N + 1 cores, and {AIM:g} of linear is the aim where there are"
            f" so many. Here there are {cores}.",
            f"The Redis Cluster has {NODES} nodes, and a partition's keys share a slot. The URL"
            " of a partition names the node that owns its slot: the queue does not follow"
            " redirects to another one.",
        ),
    )


def _experiments(name: str, where: str, scaling: Scaling, quick: bool) -> list[Experiment]:
    return [
        Experiment(
            name=f"{name}-{count}",
            title=f"Partitions in {where}: {count}",
            heats=alone(*SYSTEMS[name]),
            measure=partial(scaling.measure, partitions=count),
            seconds=1.4 + 0.6 * count + (0.0 if name == "partitions" else 1.0),
            rounds=1 if quick else ROUNDS,
            warm_up=False,
            quick=name == "partitions" and count == 1,
            needs=frozenset({"redis"}),
        )
        for count in PARTITIONS
    ]


def _rows(name: str, partitions: int, cores: int) -> list[Row]:
    where = "one Redis" if name == "partitions" else "a Redis Cluster"
    short = "S1" if name == "partitions" else "S1 cluster"
    row = partial(Row, experiment=f"{name}-{partitions}", better="higher", ours=OURS)
    rate = row(
        id=f"{short} {partitions}",
        title=f"Messages per second, partitions in {where}: {partitions}",
        figure="rate_per_s",
        unit="/s",
        limits={each: None for each in SYSTEMS[name] if each != OURS},
        no_target="how it grows is the row of linear",
    )
    if partitions == 1:
        return [rate]
    efficiency = row(
        id=f"{short} {partitions} of linear",
        title=f"Rate compared with {partitions} times that of one partition",
        figure="efficiency",
        unit="of linear",
        aim=AIM if cores > partitions else None,
        no_target="" if cores > partitions else f"it needs {partitions + 1} cores",
    )
    return [rate, efficiency]
