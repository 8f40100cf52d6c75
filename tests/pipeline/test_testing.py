"""A cluster and a pipeline in the process of a test: what they show, and how they fail."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from osmo_pipeline.testing.pipeline import Pipeline, Serving
from osmo_pipeline.testing.plugin import Clusters, Pipelines
from osmo_simulator.faults import Fail
from osmo_simulator.lifecycle import FAILURES
from osmo_transport import (
    Ack,
    Delivery,
    Outcome,
    UnknownSchemeError,
    UsageError,
    connect,
    new_message,
    publish,
)
from osmo_transport.testing import make_message, pair
from osmo_transport.testing.plugin import QueueUnderTest, TransportUnderTest
from osmo_worker import WorkerMetrics
from osmo_worker.store import Task, open_store
from osmo_worker.testing import drain
from tests.test_packaging import BLOCK
from tests.transport.test_plugin import run_pytest


async def test_users_see_what_happens(osmo_pipeline: Pipelines) -> None:
    """Of pods, of nodes and of what is noted, and nothing that is not over yet."""
    async with osmo_pipeline.open(nodes=2) as pipeline:
        cluster, store = pipeline.cluster, pipeline.store
        assert [node.available for node in await store.nodes(live_only=True)] == [True, True]
        workflow = cluster.start_workflow(tasks=3)
        waits, runs, fails = workflow.pods
        runs.run("node-1")
        outcome = fails.fail("out-of-memory")
        cluster.node("node-0").cordon()
        await pipeline.settled()
        tasks = await store.tasks(pipeline.backend, workflow=workflow.uuid)
        assert [task.pod for task in tasks] == [pod.full_name for pod in workflow.pods]
        assert [task.status for task in tasks] == ["SCHEDULING", "RUNNING", outcome.status]
        assert [task.exit_code for task in tasks] == [None, None, outcome.exit_code]
        assert [node.available for node in await store.nodes()] == [False, True]
        noted = {event.message for event in await store.pod_events(fails.full_name)}
        assert noted == {"assigned to node-0", "Task ended: out-of-memory"}
        waits.delete()
        cluster.node("node-0").remove()
        await pipeline.settled()
        assert len(await store.tasks(live_only=True)) == 2
        assert [node.node for node in await store.nodes(live_only=True)] == ["node-1"]


async def test_each_end_is_seen_as_it_says(osmo_pipeline: Pipelines) -> None:
    """The outcome that a verb returns is what users see."""
    async with osmo_pipeline.open() as pipeline:
        pods = pipeline.cluster.start_workflow(tasks=len(FAILURES) + 1).pods
        outcomes = {
            pod.full_name: pod.fail(each.name)
            for pod, each in zip(pods[:-1], FAILURES, strict=True)
        }
        outcomes[pods[-1].full_name] = pods[-1].succeed()
        await pipeline.settled()
        tasks = await pipeline.store.tasks()
    assert {task.pod: (task.status, task.exit_code) for task in tasks} == {
        pod: (outcome.status, outcome.exit_code) for pod, outcome in outcomes.items()
    }


async def ended(pipelines: Pipelines, **urls: str) -> Task:
    """The row of a pod that came, ended and went before anybody looked."""
    async with pipelines.open(**urls) as pipeline:  # type: ignore[arg-type]
        (pod,) = pipeline.cluster.start_workflow().pods
        pod.succeed()
        pod.delete()
        await pipeline.settled()
        (task,) = await pipeline.store.tasks()
        return task


async def test_over_each_transport(
    osmo_pipeline: Pipelines, osmo_transport: TransportUnderTest
) -> None:
    """Nothing is missed that was over when it was settled."""
    task = await ended(osmo_pipeline, transport=osmo_transport.url)
    assert task.status == "COMPLETED"
    assert task.deleted_at is not None


async def test_over_each_queue(osmo_pipeline: Pipelines, osmo_queue: QueueUnderTest) -> None:
    """As over each transport."""
    task = await ended(osmo_pipeline, queue=osmo_queue.url)
    assert task.status == "COMPLETED"
    assert task.deleted_at is not None


async def test_what_does_not_settle_says_where_it_stands(osmo_pipeline: Pipelines) -> None:
    """Each listener's position, with what became of its last question."""
    async with osmo_pipeline.open() as pipeline:
        simulator = pipeline.cluster.simulator
        simulator.faults.inject(Fail(verb="watch", code=503, count=1000))
        simulator.disconnect("watch")
        seen = simulator.cluster.version
        pipeline.cluster.start_workflow()
        with pytest.raises(AssertionError) as failure:
            await pipeline.settled(within=0.3)
    text = str(failure.value)
    assert f"waited 0.3 s for the store to show version {seen + 1} of the cluster" in text
    assert f"the workflow listener at {seen} (" in text
    assert "the queue holds 0 entries" in text


async def test_it_settles_behind_the_client_and_the_queue(
    osmo_cluster: Clusters, osmo_queue: QueueUnderTest
) -> None:
    """What nobody acknowledged, or nobody handled, is in no store."""

    async def acknowledge(_: Delivery) -> Outcome:
        return Ack()

    async with (
        osmo_cluster.open() as cluster,
        osmo_queue.open() as queue,
        open_store("memory://") as store,
        pair() as (client, server),
    ):
        serving = Serving(server.url, client, feeds={})
        pipeline = Pipeline(cluster, queue, store, "backend", serving, WorkerMetrics())
        await pipeline.settled()
        await client.epoch_after(0)
        await client.send(make_message())
        with pytest.raises(AssertionError, match=r"reports: 0 acknowledged, 1 sent and not"):
            await pipeline.settled(within=0.1)
        (incoming,) = await server.receive()
        await publish(queue, incoming.messages, backend="backend")
        incoming.acknowledge()
        with pytest.raises(AssertionError, match=r"the queue holds 1 entries that no consumer"):
            await pipeline.settled(within=0.1)
        await drain(queue, acknowledge)
        await pipeline.settled()


async def test_a_dead_letter_is_told(osmo_pipeline: Pipelines) -> None:
    """Unless the test expects it: what it says is in no row."""
    async with osmo_pipeline.open() as pipeline:
        async with connect(pipeline.url, backend="another") as client:
            await client.send(new_message("update_pod", "flow/task/0", b"no body"))
            await client.flush()
        with pytest.raises(AssertionError, match=r"1 dead letters and not 0: .* of pods: "):
            await pipeline.settled()
        await pipeline.settled(dead=1)


async def test_a_test_that_ends_within_is_told_as_it_ended(osmo_pipeline: Pipelines) -> None:
    """Failed, skipped, or out of time; not as a group of errors."""

    async def end(error: BaseException | None) -> None:
        async with osmo_pipeline.open():
            if error is not None:
                raise error
            await asyncio.Event().wait()

    mine = ZeroDivisionError("mine")
    with pytest.raises(ZeroDivisionError) as failed:
        await end(mine)
    assert failed.value is mine
    with pytest.raises(pytest.skip.Exception):
        await end(pytest.skip.Exception("because"))
    osmo_pipeline.patience = 0.1
    with pytest.raises(AssertionError, match=r"0\.1 s for `await asyncio.*the cluster is at ver"):
        await end(None)


async def test_what_cannot_be_opened_is_told_as_it_is(osmo_pipeline: Pipelines) -> None:
    """Found out before the services run, or by one of them."""
    with pytest.raises(UnknownSchemeError, match="pigeon"):
        async with osmo_pipeline.open(transport="pigeon://127.0.0.1:0"):
            pass
    with pytest.raises(UsageError, match="no listener is called 'weather'"):
        async with osmo_pipeline.open(listeners=("weather",)):
            pass


async def test_a_cluster_alone(osmo_cluster: Clusters) -> None:
    """With its kubeconfig, and as long as the test is patient."""

    async def use() -> None:
        async with osmo_cluster.open(nodes=3, namespace="mine") as cluster:
            (pod,) = cluster.start_workflow().pods
            assert pod.object["metadata"]["namespace"] == "mine"
            assert cluster.simulator.url in cluster.kubeconfig.read_text()
            assert len(cluster.state.list("nodes")) == 3
            await asyncio.Event().wait()

    osmo_cluster.patience = 0.1
    with pytest.raises(AssertionError, match=r"waited 0\.1 s for `await asyncio"):
        await use()


UNDER_ANYIO = """
import pytest

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


async def test_a_pipeline(osmo_pipeline):
    async with osmo_pipeline.open() as pipeline:
        (pod,) = pipeline.cluster.start_workflow().pods
        pod.run()
        await pipeline.settled()
        assert [task.status for task in await pipeline.store.tasks()] == ["RUNNING"]


async def test_a_cluster(osmo_cluster):
    async with osmo_cluster.open() as cluster:
        assert cluster.node("node-0").object


async def test_a_limit(osmo_queue):
    osmo_queue.patience = 0.1
    with pytest.raises(AssertionError, match="waited 0.1 s for `await consumer.receive"):
        async with osmo_queue.open() as queue, queue.consumer("workers", "one") as consumer:
            await consumer.receive(1)
"""


def test_they_run_under_anyios_plugin(tmp_path: Path) -> None:
    """Without pytest-asyncio."""
    (tmp_path / "test_mine.py").write_text(UNDER_ANYIO)
    said = run_pytest(tmp_path, "-p", "no:asyncio", "-W", "error", "-k", "not redis")
    assert "3 passed" in said


def test_they_need_nothing_until_they_are_used() -> None:
    """Then what is missing is told with the extra that brings it."""
    code = """
import asyncio
from pathlib import Path
from osmo_pipeline.testing.plugin import Clusters, Pipelines
from osmo_transport import MissingExtraError

async def main():
    for each in (Clusters, Pipelines):
        try:
            async with each(Path()).open():
                pass
        except MissingExtraError as exc:
            print(exc)

asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", BLOCK + code], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 2
    assert "the simulator needs aiohttp: pip install 'osmo-pipeline[simulator]'" in done.stdout
