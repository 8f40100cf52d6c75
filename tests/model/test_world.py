"""Random clusters and faults, for a short time; `python -m tests.model` looks longer."""

import random

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from osmo_worker.store import Task
from tests.model.machine import WorldMachine
from tests.model.processes import BACKEND
from tests.model.virtual import VirtualLoop
from tests.model.world import World


def test_the_store_equals_the_cluster_in_the_end() -> None:
    """Of each run, whatever happened in it."""
    run_state_machine_as_test(
        WorldMachine, settings=settings(max_examples=12, stateful_step_count=40)
    )


async def some_faults(world: World) -> list[Task]:
    """A pod that runs on a node that is lost, and one that was taken back, told with faults."""
    await world.start()
    world.disorder.likely = 0.5
    world.set_pod(0, "running", 0)
    await world.pass_time(5.0)
    world.set_pod(1, "running", 1)
    await world.end_listener("pods", 0, kill=True)
    world.start_listener("pods")
    await world.pass_time(5.0)
    world.restore("pods", 0)
    world.set_pod(2, "running", 2)
    world.delete_node(2)
    await world.restart_operator(kill=True, away=1.0)
    world.flush_queue()
    await world.settle()
    rows = await world.store.tasks(BACKEND)
    await world.close()
    return rows


def play() -> list[Task]:
    """The rows after some faults."""
    random.seed(7)
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(some_faults(World(7)))
    finally:
        loop.close()


def test_a_run_repeats_itself() -> None:
    """The same choices give the same rows, epochs and times included."""
    rows = play()
    assert [row.deleted_at is None for row in rows] == [False, False, True]
    assert rows[2].status == "FAILED_BACKEND_ERROR"
    assert play() == rows


def test_what_is_wrong_in_the_end_is_told() -> None:
    """A store that does not hold what the cluster shows fails the run."""

    async def with_a_lie() -> None:
        world = World(7)
        await world.start()
        world.set_pod(0, "running", 0)
        await world.pass_time(30.0)
        world.pods.objects.clear()  # behind the back of every reader
        try:
            await world.settle()
        finally:
            await world.close()

    loop = VirtualLoop()
    try:
        with pytest.raises(AssertionError, match="is gone, and not in"):
            loop.run_until_complete(with_a_lie())
    finally:
        loop.close()
