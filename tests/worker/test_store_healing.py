"""What no honest report reaches is taken back, and the next snapshot makes the rows right."""

import time

import pytest

from osmo_transport.message import MAX_EPOCH, Message
from osmo_worker.store import StateStore, walk
from osmo_worker.store.healing import heal
from tests.worker.harness import (
    BACKEND,
    apply,
    delivery,
    existence,
    heartbeat,
    inventory,
    node_report,
    report,
    snapshot_end,
    usage_report,
)

BEFORE = int(time.time() * 1000) - 60_000
AFTER = BEFORE + 30_000
"""The epoch of the honest listener after it began anew."""
FALSE = MAX_EPOCH


def honest(epoch: int) -> list[Message]:
    """What a listener says of a cluster with a pod that runs, one that has ended, and a node."""
    return [
        report("runs", version=(epoch, 5), node="node-1"),
        report("ended", version=(epoch, 6), status="COMPLETED", exit_code=0),
        snapshot_end(2, version=(epoch, 7)),
        node_report("node-1", version=(epoch, 5)),
        inventory("node-1", version=(epoch, 6)),
        usage_report("node-1", version=(epoch, 5)),
        snapshot_end(1, version=(epoch, 7), kind="update_node_usage"),
        heartbeat(version=(epoch, 1)),
    ]


POISON = [
    report("runs", version=(FALSE, 1), status="FAILED", message="false"),
    report("invented", version=(FALSE, 1), status="RUNNING"),
    existence("ended", version=(FALSE, 2), deleted=True),
    snapshot_end(0, version=(FALSE, 9)),
    node_report("node-1", version=(FALSE, 1), deleted=True),
    node_report("invented", version=(FALSE, 1)),
    inventory(version=(FALSE, 9)),
    usage_report("node-1", version=(FALSE, 1)),
    snapshot_end(0, version=(FALSE, 9), kind="update_node_usage"),
    heartbeat(version=(FALSE, 1)),
]


async def shown(store: StateStore) -> object:
    """What users see to be there."""
    return (
        [
            (t.task_uuid, t.status, t.terminal, t.message, t.node)
            for t in await store.tasks()
            if t.deleted_at is None
        ],
        [(n.node, n.available) for n in await store.nodes(live_only=True)],
        [(u.node, u.epoch) for u in await store.node_usage(live_only=True)],
        (await store.epochs())[BACKEND],
    )


async def test_an_honest_snapshot_makes_good_what_was_poisoned(store: StateStore) -> None:
    """Rows, the ends of snapshots, inventories and heartbeats of a future epoch."""
    await apply(store, *honest(BEFORE))
    await apply(store, *honest(AFTER))
    wanted = await shown(store)
    for message in POISON:
        await apply(store, message)
    await apply(store, *honest(AFTER))
    assert await shown(store) != wanted
    assert await store.heal(BACKEND) > 0
    await apply(store, *honest(AFTER))
    assert await shown(store) == wanted
    (invented,) = [t for t in await store.tasks() if t.task_uuid == "invented"]
    assert invented.deleted_at is not None
    await apply(store, report("runs", version=(AFTER, 8), status="COMPLETED", exit_code=0))
    (task,) = [t for t in await store.tasks(live_only=True) if t.task_uuid == "runs"]
    assert (task.status, task.exit_code) == ("COMPLETED", 0)


async def test_what_is_honest_stays(store: StateStore) -> None:
    """Of this backend, and all of others."""
    await apply(store, *honest(BEFORE))
    await store.handle_batch([delivery(each, backend="other") for each in POISON])
    before = [await store.tasks(), await store.nodes(), await store.epochs()]
    assert await store.heal(BACKEND) == 0
    assert [await store.tasks(), await store.nodes(), await store.epochs()] == before


@pytest.mark.parametrize("steps", [2, 5])
async def test_a_heal_that_is_killed_is_begun_again(
    store: StateStore, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """It goes in steps of a few rows, between which a worker applies what the listener says."""
    monkeypatch.setattr(walk, "STEP_ROWS", 2)
    honestly = [report(f"t{number}", version=(AFTER, 5)) for number in range(5)]
    await apply(store, *honestly)
    await apply(store, *honest(AFTER))
    wanted = await shown(store)
    for number in range(5):
        await apply(store, report(f"t{number}", version=(FALSE, 1), status="FAILED"))
    for message in POISON:
        await apply(store, message)
    healing = heal(store._database, BACKEND, int(time.time() * 1000))
    for _ in range(steps):
        await store._database.call(next, healing)
        await apply(store, *honest(AFTER))
    healing.close()
    assert await store.heal(BACKEND) > 0
    assert await store.heal(BACKEND) == 0
    await apply(store, *honestly)
    await apply(store, *honest(AFTER))
    assert await shown(store) == wanted
