"""The same reports give the same rows, in whatever order and however often they come."""

import asyncio
import itertools
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from osmo_transport import Message
from osmo_worker import Worker
from osmo_worker.store import StateStore, open_store
from tests.worker.harness import (
    BACKEND,
    CONFIG,
    STORE,
    append,
    delivery,
    existence,
    filled_queue,
    report,
    settled,
    snapshot_end,
    until,
    working,
)

STATUSES = ["SCHEDULING", "RUNNING", "COMPLETED", "FAILED_EVICTED", ""]
"""Empty: a report of existence alone."""

_backends = (f"convergence-{number}" for number in itertools.count())


class Fact(NamedTuple):
    """A report about a task, of its existence alone where there is no status, or, where `task` is
    None, a snapshot's end."""

    task: str | None
    version: tuple[int, int]
    status: str
    deleted: bool

    @property
    def message(self) -> Message:
        if self.task is None:
            return snapshot_end(0, version=self.version)
        if not self.status:
            return existence(self.task, version=self.version, deleted=self.deleted)
        return report(self.task, version=self.version, status=self.status, deleted=self.deleted)


class Shown(NamedTuple):
    """What is compared of a row."""

    status: str
    status_version: tuple[int, int]
    version: tuple[int, int]
    deleted: bool


def model(facts: Sequence[Fact]) -> dict[str, Shown]:
    """The rows that these facts mean, without any order among them."""
    snapshot = max((fact.version[0] for fact in facts if fact.task is None), default=0)
    rows = {}
    for task in {fact.task for fact in facts if fact.task is not None}:
        reports = [fact for fact in facts if fact.task == task]
        known = [fact for fact in reports if fact.status]
        if not known:
            continue
        shown = max(known, key=lambda fact: fact.version)
        newest = max(reports, key=lambda fact: (fact.version, fact.deleted))
        rows[task] = Shown(
            shown.status,
            shown.version,
            newest.version,
            newest.deleted or newest.version[0] < snapshot,
        )
    return rows


async def stored(store: StateStore, backend: str) -> dict[str, Shown]:
    """The rows that the store holds."""
    return {
        task.task_uuid: Shown(
            task.status,
            (task.status_epoch, task.status_resource_version),
            (task.epoch, task.resource_version),
            task.deleted_at is not None,
        )
        for task in await store.tasks(backend)
    }


@st.composite
def histories(draw: st.DrawFn) -> list[Fact]:
    """Facts with one content per task and version, as a cluster makes them: versions rise."""
    facts: list[Fact] = []
    for task in "abc":
        versions = st.tuples(st.integers(1, 3), st.integers(1, 8))
        facts += [
            Fact(task, version, draw(st.sampled_from(STATUSES)), draw(st.booleans()))
            for version in sorted(draw(st.sets(versions, max_size=6)))
        ]
    ends = st.sets(st.tuples(st.integers(1, 4), st.just(9)), max_size=2)
    return facts + [Fact(None, version, "", False) for version in sorted(draw(ends))]


def existence_last(facts: Sequence[Fact]) -> list[Fact]:
    """The same, but a report of existence that comes before every state of its task comes last:
    as long as it finds no row it is retried."""
    known: set[str | None] = {None}
    first: list[Fact] = []
    last: list[Fact] = []
    for fact in facts:
        if fact.status:
            known.add(fact.task)
        (first if fact.task in known else last).append(fact)
    return first + last


@st.composite
def arrivals(draw: st.DrawFn) -> tuple[list[Fact], list[Fact], int]:
    """A history, the same shuffled and with repetitions, and the size of batches."""
    history = draw(histories())
    again = draw(st.lists(st.sampled_from(history), max_size=5)) if history else []
    shuffled = draw(st.permutations(history + again))
    return history, existence_last(shuffled), draw(st.integers(1, 7))


@settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(arrivals())
async def test_any_order_and_duplication_gives_the_models_rows(
    store: StateStore, arrived: tuple[list[Fact], list[Fact], int]
) -> None:
    """Statuses, both versions and deletions equal the model, snapshots included."""
    history, shuffled, size = arrived
    backend = next(_backends)
    deliveries = [
        delivery(fact.message, backend=backend, attempt=STORE.snapshot_attempts)
        for fact in shuffled
    ]
    for start in range(0, len(deliveries), size):
        await store.handle_batch(deliveries[start : start + size])
    assert await stored(store, backend) == model(history)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(arrivals(), st.integers(0, 2**16))
async def test_two_workers_and_a_queue_give_the_models_rows(
    arrived: tuple[list[Fact], list[Fact], int], seed: int
) -> None:
    """Also with compaction, several producers and two workers in between."""
    history, shuffled, size = arrived
    draw = random.Random(seed)
    backend = next(_backends)
    async with filled_queue() as queue, open_store("memory://", STORE) as store:
        workers = [Worker(queue.consumer("w", name), store, CONFIG) for name in ("one", "two")]
        async with working(workers[0]), working(workers[1]):
            for start in range(0, len(shuffled), size):
                await append(queue, [fact.message for fact in shuffled[start:][:size]], backend)
                if draw.random() < 0.5:
                    await until(lambda: settled(queue))
            await until(lambda: settled(queue))
        assert await stored(store, backend) == model(history)


async def test_two_processes_on_one_database_give_the_models_rows(store_url: str) -> None:
    """Two stores that write at the same time, with snapshots among the reports: neither waits for
    the other for ever, and no report that a snapshot left out stays alive."""
    if store_url == "memory://":
        pytest.skip("belongs to one object")
    draw = random.Random(1)
    facts = [
        Fact(f"task-{draw.randrange(40)}", (draw.randint(1, 4), number), "RUNNING", False)
        for number in range(600)
    ]
    facts += [Fact(None, (epoch, 1000), "", False) for epoch in (2, 3, 4)]
    config = replace(STORE, busy_timeout=5.0)

    async def write(store: StateStore) -> None:
        deliveries = [
            delivery(fact.message, attempt=STORE.snapshot_attempts)
            for fact in draw.sample(facts, len(facts))
        ]
        for start in range(0, len(deliveries), 10):
            await store.handle_batch(deliveries[start:][:10])

    async with open_store(store_url, config) as one, open_store(store_url, config) as two:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(write(one))
            tasks.create_task(write(two))
        assert await stored(one, BACKEND) == model(facts)
