"""The same reports of nodes, inventories and tasks give the same rows, in whatever order they come.

Nodes and pods are told by two producers, whose versions have nothing to do with each other. A live
task that has not ended has failed if the newest that is known of its node says that it is gone, and
in no other case.

Of a pod that is gone itself, the row may say what was learned first, and is told apart here. And a
worker does not apply what a newer report of the same key makes needless.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from osmo_transport import Message
from osmo_worker import Worker
from osmo_worker.store import StateStore, open_store
from tests.worker.harness import (
    CONFIG,
    STORE,
    append,
    delivery,
    filled_queue,
    has_ended,
    inventory,
    node_report,
    report,
    settled,
    until,
    working,
)

NODES = ("a", "b")
LOST = "FAILED_BACKEND_ERROR"

_backends = (f"nodes-{number}" for number in itertools.count())

Number = tuple[int, int]


class NodeFact(NamedTuple):
    """A report about a node."""

    node: str
    version: Number
    deleted: bool

    @property
    def message(self) -> Message:
        host = f"host-{self.node}"
        return node_report(self.node, hostname=host, version=self.version, deleted=self.deleted)


class InventoryFact(NamedTuple):
    """A list of nodes."""

    version: Number
    nodes: frozenset[str]

    @property
    def message(self) -> Message:
        return inventory(*sorted(self.nodes), version=self.version)


class TaskFact(NamedTuple):
    """A report about a task, which is called as the node on which it is."""

    task: str
    version: Number
    status: str
    deleted: bool

    @property
    def node(self) -> str:
        """The name of its node, for tasks of odd numbers the hostname."""
        name, _, number = self.task.partition("-")
        return f"host-{name}" if int(number) % 2 else name

    @property
    def message(self) -> Message:
        return report(
            self.task,
            version=self.version,
            status=self.status,
            deleted=self.deleted,
            node=self.node if self.status != "SCHEDULING" else "",
        )


Fact = NodeFact | InventoryFact | TaskFact


class Shown(NamedTuple):
    """What is compared of a task's row."""

    status: str
    status_version: Number
    version: Number
    deleted: bool


def live_nodes(facts: Sequence[Fact]) -> dict[str, tuple[Number, bool]]:
    """By node: the version of its row, and whether it is live."""
    newest = max(
        (fact for fact in facts if isinstance(fact, InventoryFact)),
        default=InventoryFact((0, 0), frozenset()),
    )
    rows = {}
    for node in NODES:
        reports = [fact for fact in facts if isinstance(fact, NodeFact) and fact.node == node]
        if reports:
            last = max(reports, key=lambda fact: (fact.version, fact.deleted))
            left_out = last.version < newest.version and node not in newest.nodes
            rows[node] = (last.version, not (last.deleted or left_out))
    return rows


def task_rows(facts: Sequence[Fact]) -> dict[str, Shown]:
    """What the row of each task shows if no conclusion is drawn."""
    rows = {}
    tasks = [fact for fact in facts if isinstance(fact, TaskFact)]
    for task in {fact.task for fact in tasks}:
        reports = [fact for fact in tasks if fact.task == task]
        last = max(reports, key=lambda fact: fact.version)
        rows[task] = Shown(last.status, last.version, last.version, last.deleted)
    return rows


def surely_failed(facts: Sequence[Fact]) -> set[str]:
    """The tasks that have failed for their nodes, whatever the order was."""
    gone = {node for node, (_, live) in live_nodes(facts).items() if not live}
    return {
        task
        for task, shown in task_rows(facts).items()
        if task.partition("-")[0] in gone
        and not shown.deleted
        and not has_ended(shown.status)
        and shown.status != "SCHEDULING"
    }


def may_have_failed(facts: Sequence[Fact]) -> set[str]:
    """Those of the others that may have failed before their pods were gone."""
    return {
        task
        for task, shown in task_rows(facts).items()
        if shown.deleted and not has_ended(shown.status)
    }


def compacted(facts: Sequence[Fact]) -> list[Fact]:
    """What is left when each report is left out that a newer one makes needless."""

    def superseded(fact: Fact) -> bool:
        return any(
            other is not fact
            and other.message.key == fact.message.key
            and other.message.kind == fact.message.kind
            and other.message.supersedes(fact.message)
            for other in facts
        )

    return [fact for fact in facts if not superseded(fact)]


async def check_rows(store: StateStore, backend: str, facts: Sequence[Fact]) -> None:
    """Fail unless the rows are those of the model."""
    rows = await store.nodes(backend)
    assert {
        row.node: ((row.epoch, row.resource_version), row.deleted_at is None) for row in rows
    } == live_nodes(facts)
    tasks = {task.task_uuid: task for task in await store.tasks(backend)}
    concluded = {task for task, row in tasks.items() if row.concluded}
    event(f"a task failed: {bool(concluded)}")
    assert surely_failed(facts) == concluded - may_have_failed(facts)
    assert {
        task: Shown(
            row.status,
            (row.status_epoch, row.status_resource_version),
            (row.epoch, row.resource_version),
            row.deleted_at is not None,
        )
        for task, row in tasks.items()
    } == {
        task: shown._replace(status=LOST) if task in concluded else shown
        for task, shown in task_rows(facts).items()
    }


versions = st.tuples(st.integers(1, 2), st.integers(1, 8))


@st.composite
def histories(draw: st.DrawFn) -> list[Fact]:
    """Facts as a cluster makes them: one content per key and version. A pod has its node from its
    second report on, and ends no more than once."""
    facts: list[Fact] = []
    for node in NODES:
        reported = draw(st.sets(versions, max_size=4))
        facts += [NodeFact(node, version, draw(st.booleans())) for version in reported]
    listed = draw(st.sets(versions, max_size=3))
    nodes = st.frozensets(st.sampled_from(NODES))
    facts += [InventoryFact(version, draw(nodes)) for version in listed]
    for node, number in itertools.product(NODES, range(2)):
        task = f"{node}-{number}"
        for place, version in enumerate(sorted(draw(st.sets(versions, max_size=4)))):
            later = st.sampled_from(["RUNNING", "RUNNING", "RUNNING", "COMPLETED"])
            status = draw(later) if place else "SCHEDULING"
            facts.append(TaskFact(task, version, status, draw(st.integers(0, 9)) == 0))
    return facts


@st.composite
def arrivals(draw: st.DrawFn) -> tuple[list[Fact], list[Fact], int]:
    """A history, the same shuffled and with repetitions, and the size of batches."""
    history = draw(histories())
    again = draw(st.lists(st.sampled_from(history), max_size=5)) if history else []
    return history, draw(st.permutations(history + again)), draw(st.integers(1, 7))


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(arrivals())
async def test_any_order_and_duplication_gives_the_models_rows(
    store: StateStore, arrived: tuple[list[Fact], list[Fact], int]
) -> None:
    """Nodes, tasks, and which of them failed."""
    history, shuffled, size = arrived
    backend = next(_backends)
    deliveries = [delivery(fact.message, backend=backend) for fact in shuffled]
    for start in range(0, len(deliveries), size):
        await store.handle_batch(deliveries[start : start + size])
    await check_rows(store, backend, history)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(arrivals(), st.booleans())
async def test_two_workers_and_a_queue_give_the_models_rows(
    arrived: tuple[list[Fact], list[Fact], int], pausing: bool
) -> None:
    """Also with compaction and two workers in between."""
    history, shuffled, size = arrived
    backend = next(_backends)
    async with filled_queue() as queue, open_store("memory://", STORE) as store:
        workers = [Worker(queue.consumer("w", name), store, CONFIG) for name in ("one", "two")]
        async with working(workers[0]), working(workers[1]):
            for start in range(0, len(shuffled), size):
                await append(queue, [fact.message for fact in shuffled[start:][:size]], backend)
                if pausing:
                    await until(lambda: settled(queue))
            await until(lambda: settled(queue))
        await check_rows(store, backend, compacted(history))
