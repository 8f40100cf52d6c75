"""Semantics 3.3: a node that is gone fails the tasks on it, whatever is learned first."""

import asyncio
import itertools
import random
from dataclasses import replace

import pytest

from osmo_reports.bodies import Condition, UpdatePod, encode_body
from osmo_transport import Ack, Message, Version, new_message
from osmo_worker.store import StateStore, Task, open_store
from tests.worker.harness import (
    BACKEND,
    STORE,
    apply,
    apply_in_every_order,
    delivery,
    existence,
    inventory,
    node_report,
    report,
    snapshot_end,
)

LOST = ("FAILED_BACKEND_ERROR", 3001, "Node got removed from the cluster while the pod was on it")


def _told(task: Task) -> tuple[str, int | None, str]:
    return task.status, task.exit_code, task.message


async def _only(store: StateStore) -> Task:
    (task,) = await store.tasks()
    return task


REMOVED = {
    "by its report": [node_report("n", version=(1, 7), deleted=True)],
    "by its report, known before": [
        node_report("n", version=(1, 3)),
        node_report("n", version=(1, 7), deleted=True),
    ],
    "by an inventory": [node_report("n", version=(1, 3)), inventory("m", version=(1, 7))],
    "by its hostname": [node_report("m", hostname="n", version=(1, 7), deleted=True)],
    "by its hostname and an inventory": [
        node_report("m", hostname="n", version=(1, 3)),
        inventory("o", version=(1, 7)),
    ],
}


@pytest.mark.parametrize("removed", REMOVED.values(), ids=REMOVED)
async def test_a_task_on_a_removed_node_fails(store: StateStore, removed: list[Message]) -> None:
    """In every order of the messages, each in a batch of its own or all in one."""
    pod = report(version=(1, 5), node="n", message="all is well", pod_ip="10.0.0.1")
    for number, order in enumerate(itertools.permutations([pod, *removed])):
        for batches in (1, len(order)):
            backend = f"{number}-{batches}"
            deliveries = [delivery(message, backend=backend) for message in order]
            size = len(order) // batches
            for start in range(0, len(deliveries), size):
                await store.handle_batch(deliveries[start : start + size])
            (task,) = await store.tasks(backend)
            assert _told(task) == LOST
            assert task.terminal
            assert task.concluded
            assert (task.node, task.pod_ip) == ("n", "10.0.0.1")
            assert (task.status_resource_version, task.deleted_at) == (5, None)


@pytest.mark.parametrize(
    ("pod", "removed"),
    [
        (report(version=(1, 5), node="other"), REMOVED["by its report"]),
        (report(version=(1, 5), node=""), REMOVED["by its report"]),
        (
            report(version=(1, 5), node="n"),
            [*REMOVED["by its report"], node_report("n", version=(1, 8))],
        ),
        (
            report(version=(1, 5), node="n"),
            [*REMOVED["by an inventory"], inventory("n", version=(1, 8))],
        ),
        (report(version=(1, 5), node="m"), REMOVED["by an inventory"]),
        (
            report(version=(1, 5), node="n"),
            [*REMOVED["by its hostname"], node_report("k", hostname="n", version=(1, 3))],
        ),
        (report(version=(1, 5), node="n"), [node_report("n", version=(1, 7))]),
        (report(version=(1, 5), node="n"), [inventory(version=(1, 7))]),
        (
            report(version=(1, 5), node="n"),
            [node_report("n", version=(1, 9)), inventory(version=(1, 7))],
        ),
        (report(version=(1, 5), node="-"), [node_report("n", hostname="-", deleted=True)]),
    ],
    ids=[
        "another node",
        "no node yet",
        "the node came back",
        "a newer inventory lists it",
        "listed",
        "another node has its hostname now",
        "not removed",
        "a node that nobody reported",
        "a node that is newer than the inventory",
        "a hostname that stands for none",
    ],
)
async def test_other_tasks_do_not_fail(
    store: StateStore, pod: Message, removed: list[Message]
) -> None:
    """3.3 concerns the tasks of nodes that are gone, and those alone."""
    for backend in await apply_in_every_order(store, [pod, *removed]):
        (task,) = await store.tasks(backend)
        assert _told(task) == ("RUNNING", None, "")
        assert not task.concluded


async def test_another_backends_task_does_not_fail(store: StateStore) -> None:
    """Nodes of two clusters may have one name."""
    await store.handle_batch([delivery(report(version=(1, 5), node="n"), backend="another")])
    await apply(store, report(version=(1, 5), node="n"))
    await apply(store, node_report("n", version=(1, 7), deleted=True))
    assert [task.status for task in await store.tasks()] == ["RUNNING", "FAILED_BACKEND_ERROR"]


@pytest.mark.parametrize("version", [(1, 9), (900, 9), (0, 1)])
async def test_the_numbers_of_nodes_and_pods_are_not_compared(
    store: StateStore, version: tuple[int, int]
) -> None:
    """Their listeners may be two processes, started in any order, and their objects may live in two
    databases of the cluster."""
    messages = [
        report(version=version, node="n", message="up"),
        node_report("n", version=(5, 7), deleted=True),
    ]
    for backend in await apply_in_every_order(store, messages):
        (task,) = await store.tasks(backend)
        assert _told(task) == LOST
    await store.handle_batch(
        [
            delivery(node_report("n", version=(5, 8)), backend=name)
            for name in ("order-0", "order-1")
        ]
    )
    for backend in ("order-0", "order-1"):
        (task,) = await store.tasks(backend)
        assert _told(task) == ("RUNNING", None, "up")
        assert not task.terminal


async def test_a_later_report_of_the_pod_is_shown(store: StateStore) -> None:
    """That it failed with its node is told as long as the node is gone; where it moved to another
    one it runs."""
    lost = [report(version=(1, 5), node="n"), node_report("n", version=(1, 7), deleted=True)]
    there = report(version=(1, 9), node="n", status="SCHEDULING", pod_ip="10.0.0.2")
    for backend in await apply_in_every_order(store, [*lost, there]):
        (task,) = await store.tasks(backend)
        assert _told(task) == LOST
        assert (task.pod_ip, task.status_resource_version) == ("10.0.0.2", 9)
    await apply(store, *lost)
    await apply(store, report(version=(1, 9), node="m"))
    tasks = await store.tasks(BACKEND)
    assert [_told(task) for task in tasks] == [("RUNNING", None, "")]


async def test_the_pods_own_end_replaces_it(store: StateStore) -> None:
    """It knows more."""
    messages = [
        report(version=(1, 5), node="n"),
        node_report("n", version=(1, 7), deleted=True),
        report(version=(1, 9), node="n", status="FAILED_EVICTED", exit_code=3004, message="why"),
    ]
    for backend in await apply_in_every_order(store, messages):
        (task,) = await store.tasks(backend)
        assert _told(task) == ("FAILED_EVICTED", 3004, "why")
        assert task.terminal
        assert not task.concluded


async def test_a_pod_that_is_gone_does_not_fail(store: StateStore) -> None:
    """Its row says what it said: nobody waits for its end."""
    await apply(store, report(version=(1, 5), node="n"))
    await apply(store, report(version=(1, 6), node="n", deleted=True))
    await apply(store, report("left out", version=(1, 5), node="n"))
    await apply(store, report("known", version=(2, 5), node="m"), snapshot_end(1, version=(2, 6)))
    await apply(store, node_report("n", version=(2, 7), deleted=True))
    assert {task.status for task in await store.tasks()} == {"RUNNING"}


async def test_a_failed_task_whose_pod_goes_keeps_its_end(store: StateStore) -> None:
    """However its going is reported."""
    await apply(store, report("a", version=(1, 5), node="n"), report("b", version=(1, 5), node="n"))
    await apply(store, report("c", version=(1, 5), node="n"))
    await apply(store, node_report("n", version=(1, 7), deleted=True))
    await apply(
        store,
        report("a", version=(1, 8), node="n", deleted=True),
        existence("b", version=(1, 8), deleted=True),
        snapshot_end(0, version=(2, 9)),
    )
    tasks = await store.tasks()
    assert [_told(task) for task in tasks] == [LOST] * 3
    assert None not in [task.deleted_at for task in tasks]


async def test_a_loss_that_is_reported_again_changes_nothing(store_url: str) -> None:
    """A row tells when it failed, and not when that was last heard."""
    now = 1_000_000.0
    async with open_store(store_url, STORE, clock=lambda: now) as store:
        await apply(store, report(version=(1, 5), node="n"))
        now += 10
        removed = node_report("n", version=(1, 7), deleted=True)
        await apply(store, removed)
        before = await _only(store)
        assert before.updated_at.timestamp() == before.status_since.timestamp() == now
        now += 10
        await apply(store, removed, report(version=(1, 5), node="n"))
        assert await _only(store) == before


async def test_many_tasks_on_many_nodes(store: StateStore) -> None:
    """More than a statement takes parameters; those on the nodes that are left go on."""
    nodes = [f"node-{number:04d}" for number in range(1200)]
    pods = [report(node, version=(1, 5), node=node) for node in nodes]
    removed = [node_report(node, version=(1, 7), deleted=True) for node in nodes[100:]]
    await apply(store, *pods)
    await apply(store, *removed)
    assert await store.counts() == {"FAILED_BACKEND_ERROR": 1100, "RUNNING": 100}
    late = [report(f"late {node}", version=(1, 6), node=node) for node in nodes]
    await apply(store, *late)
    assert await store.counts() == {"FAILED_BACKEND_ERROR": 2200, "RUNNING": 200}


@pytest.mark.parametrize("lost", [(1, 7), (2, 1)])
async def test_the_epoch_decides_first(store: StateStore, lost: tuple[int, int]) -> None:
    """Whether a pod was on its node before: a listener that restarted reports the pod again."""
    messages = [
        report(version=(1, 5), node="n"),
        report(version=(2, 5), node="n"),
        node_report("n", version=lost, deleted=True),
    ]
    for backend in await apply_in_every_order(store, messages):
        (task,) = await store.tasks(backend)
        assert _told(task) == LOST


@pytest.mark.parametrize("back", [False, True])
async def test_a_pod_that_is_there_again_is_judged_by_its_node(
    store: StateStore, back: bool
) -> None:
    """Also where only its existence is reported: while its row was deleted nobody looked at it."""
    lost, came = node_report("n", version=(1, 7), deleted=True), node_report("n", version=(1, 8))
    pod = report(version=(1, 5), node="n")
    await apply(store, *([lost] if back else []), pod)
    await apply(store, snapshot_end(0, version=(2, 1)))
    await apply(store, came if back else lost)
    await apply(store, existence(version=(2, 2)))
    task = await _only(store)
    assert task.deleted_at is None
    assert (task.status == "RUNNING") == back


async def test_a_node_of_which_nobody_knows_any_more_takes_nothing_back(store_url: str) -> None:
    """Its row was removed when its time was over."""
    now = 1_000_000.0
    config = replace(STORE, node_retention=60.0)
    async with open_store(store_url, config, clock=lambda: now) as store:
        await apply(store, report(version=(1, 5), node="n"))
        await apply(store, node_report("n", version=(1, 7), deleted=True))
        now += 120
        await store.sweep()
        assert await store.nodes() == []
        await apply(store, inventory("m", version=(1, 9)))
        assert _told(await _only(store)) == LOST


async def test_a_name_that_no_database_takes_is_a_name(store: StateStore) -> None:
    """Whatever is learned first."""
    pod = report(version=(1, 5), node="n\0")
    for backend in await apply_in_every_order(store, [pod, node_report("n\0", deleted=True)]):
        (task,) = await store.tasks(backend)
        assert _told(task) == LOST


@pytest.mark.postgres
async def test_two_workers_miss_no_pair(postgres: str) -> None:
    """One applies the tasks' reports while the other applies the removals of their nodes."""
    draw = random.Random(3)
    names = [f"n{number}" for number in range(60)]
    pods = [report(f"{name}-{n}", version=(1, 5), node=name) for name in names for n in range(5)]
    removed = [node_report(name, version=(1, 7), deleted=True) for name in names]

    async def write(store: StateStore, messages: list[Message]) -> None:
        draw.shuffle(messages)
        for start in range(0, len(messages), 7):
            assert set(await apply(store, *messages[start : start + 7])) == {Ack()}

    async with open_store(postgres) as one, open_store(postgres) as two:
        await one.check()
        await asyncio.gather(write(one, pods), write(two, removed))
        assert await one.counts(BACKEND) == {"FAILED_BACKEND_ERROR": len(pods)}


async def test_conditions_are_left_as_they_were(store: StateStore) -> None:
    """What the worker concludes is status, exit code and message alone."""
    condition = Condition("PodScheduled", True)
    body = UpdatePod("flow", "task", 0, "RUNNING", node="n", conditions=(condition,), pod="o/p")
    await apply(store, new_message("update_pod", "k", encode_body(body), version=Version(1, 5)))
    await apply(store, node_report("n", version=(1, 7), deleted=True))
    task = await _only(store)
    assert (task.conditions, task.pod, task.node) == ((condition,), "o/p", "n")
