"""Scenarios: the same for the same seed, and right about what users must see."""

import asyncio
import json
from collections import Counter
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from osmo_listener.listeners import pod_status
from osmo_listener.listeners.objects import Pod
from osmo_simulator.builders import make_pod
from osmo_simulator.cluster import Cluster, ClusterConfig
from osmo_simulator.lifecycle import FAILURES, SUCCEEDED, Moment, Outcome, creating, running
from osmo_simulator.resources import Object
from osmo_simulator.scenario import Scenario, ScenarioConfig

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
FAST = ScenarioConfig(seed=7, pace=0, padding=0)


class VirtualTime:
    """A clock that sleeping moves."""

    def __init__(self) -> None:
        self.slept = 0.0

    def now(self) -> datetime:
        """The current time."""
        return START + timedelta(seconds=self.slept)

    async def sleep(self, delay: float) -> None:
        """Move the clock."""
        assert delay >= 0
        self.slept += delay


async def played(config: ScenarioConfig, seed: int = 0) -> tuple[Cluster, Scenario, VirtualTime]:
    """A scenario after its end, in virtual time."""
    time = VirtualTime()
    cluster = Cluster(ClusterConfig(seed=seed), clock=time.now)
    scenario = Scenario(cluster, config, sleep=time.sleep)
    assert not scenario.done
    await scenario.run()
    assert scenario.done
    return cluster, scenario, time


def history(cluster: Cluster) -> list[tuple[int, bytes]]:
    """Every change of every resource, in full."""
    return [
        (change.number, b"".join((change.after or change.gone()).parts))
        for plural in ("nodes", "pods", "events")
        for change in cluster.store(plural).history.after(cluster.store(plural).history.compacted)
    ]


async def test_same_seed_same_history() -> None:
    """Two runs with the same seed make the same changes, byte for byte; another seed does not."""
    first, second = [(await played(FAST)) for _ in range(2)]
    assert history(first[0]) == history(second[0])
    assert first[1].expected == second[1].expected
    other = await played(ScenarioConfig(seed=8, pace=0, padding=0))
    assert other[1].expected != first[1].expected


async def test_every_way_to_fail_appears() -> None:
    """The ways to fail take turns, so that a usual scenario shows all of them and success."""
    _, scenario, _ = await played(FAST)
    outcomes = Counter(task.outcome for task in scenario.expected)
    assert set(outcomes) == {outcome.name for outcome in (*FAILURES, SUCCEEDED)}
    assert len({task.workflow_uuid for task in scenario.expected}) == FAST.workflows


async def test_pods_match_what_is_expected() -> None:
    """The pods that are left are those that are not expected to be deleted, under their labels."""
    cluster, scenario, _ = await played(FAST)
    left = {
        (
            pod["metadata"]["name"],
            pod["metadata"]["labels"]["osmo.workflow_uuid"],
            pod["metadata"]["labels"]["osmo.task_uuid"],
            pod["metadata"]["labels"]["osmo.retry_id"],
        )
        for pod in cluster.list("pods", namespace="osmo")
    }
    expected = {
        (task.pod, task.workflow_uuid, task.task_uuid, str(task.retry_id))
        for task in scenario.expected
        if not task.deleted
    }
    assert left == expected
    assert len(expected) < len(scenario.expected), "some are deleted"
    assert len(cluster.list("nodes")) == FAST.nodes


async def test_retried_tasks_start_again() -> None:
    """A pod that the cluster took away is followed by one with the next retry, which succeeds."""
    _, scenario, _ = await played(FAST)
    tries = {(task.task_uuid, task.retry_id): task for task in scenario.expected}
    retried = {outcome.name for outcome in FAILURES if outcome.retried}
    first_tries = [task for task in scenario.expected if task.outcome in retried]
    assert first_tries
    for task in first_tries:
        assert task.deleted
        assert tries[task.task_uuid, task.retry_id + 1].outcome == SUCCEEDED.name


def end_of(outcome: Outcome, *, skip: bool = False) -> Object:
    """A pod that went through its life to this end."""
    cluster = Cluster(clock=lambda: START)
    cluster.create("pods", make_pod("a", node="n"))
    moment = Moment(
        now="2026-01-02T03:04:05Z", container="task", pod_ip="10.0.0.1", host_ip="10.0.0.2"
    )
    stages = [creating, *([running] if outcome.runs else []), outcome.end]
    for stage in [outcome.end] if skip else stages:
        cluster.patch_status("pods", "a", stage(moment), namespace="osmo")
    return cluster.get("pods", "a", namespace="osmo")


def report(pod: Object) -> tuple[str, int]:
    """What the listener's rules say about a pod."""
    decoded = msgspec.json.decode(msgspec.json.encode(pod), type=Pod)
    state = pod_status(decoded, START.timestamp())
    return str(state.status), int(state.exit_code)


@pytest.mark.parametrize("skip", [False, True], ids=["whole-life", "end-alone"])
@pytest.mark.parametrize("outcome", [SUCCEEDED, *FAILURES], ids=lambda outcome: outcome.name)
def test_outcomes_follow_the_status_rules(outcome: Outcome, skip: bool) -> None:
    """The listener's status rules see in each end what the outcome promises."""
    assert report(end_of(outcome, skip=skip)) == (outcome.status, outcome.exit_code)


def test_stages_before_the_end() -> None:
    """Before its end a pod is scheduled, initialized and running."""
    cluster = Cluster(clock=lambda: START)
    seen = [report(cluster.create("pods", make_pod("a")))]
    moment = Moment(now="", container="task", pod_ip="10.0.0.1", host_ip="10.0.0.2")
    for stage in (creating, running):
        pod = cluster.patch_status("pods", "a", stage(moment), namespace="osmo")
        seen.append(report(pod))
    assert seen == [("SCHEDULING", -1), ("INITIALIZING", -1), ("RUNNING", -1)]


async def test_statuses_carry_no_leftovers() -> None:
    """A condition that changes back loses the reason of the state before."""
    pod = end_of(SUCCEEDED)
    conditions = {c["type"]: c for c in pod["status"]["conditions"]}
    assert conditions["Initialized"]["status"] == "True"
    assert not conditions["Initialized"].get("reason")
    assert conditions["Ready"]["reason"] == "PodCompleted"


async def test_pods_are_as_large_as_in_production() -> None:
    """With the usual padding, a pod that ran takes about 14 kB."""
    cluster, _, _ = await played(ScenarioConfig(workflows=1, pace=0, deleted=0))
    sizes = [len(json.dumps(pod, separators=(",", ":"))) for pod in cluster.list("pods")]
    assert all(13_500 < size < 15_000 for size in sizes), sizes


@pytest.mark.parametrize("pace", [0, 0.5, 2])
async def test_pace_scales_the_time(pace: float) -> None:
    """The pace stretches the time between the changes, and 0 leaves it out."""
    config = ScenarioConfig(workflows=3, pace=pace, padding=0)
    _, scenario, time = await played(config)
    assert scenario.length > config.duration / 2
    assert time.slept == pytest.approx(scenario.length * pace)


async def test_foreign_deletions_are_survived() -> None:
    """A pod that somebody else deletes is left out of the rest of the scenario."""
    cluster = Cluster()
    deleted: list[str] = []

    async def sleep(_: float) -> None:
        for pod in cluster.list("pods")[:1]:
            deleted.append(pod["metadata"]["name"])
            cluster.delete("pods", pod["metadata"]["name"], namespace="osmo")

    scenario = Scenario(cluster, FAST, sleep=sleep)
    await scenario.run()
    assert scenario.done
    assert deleted


async def test_own_namespace() -> None:
    """A namespace that does not exist is made."""
    config = ScenarioConfig(workflows=1, pace=0, namespace="jobs", deleted=0)
    cluster, _, _ = await played(config)
    assert {pod["metadata"]["namespace"] for pod in cluster.list("pods")} == {"jobs"}


async def test_scenario_can_be_cancelled() -> None:
    """Cancelling a scenario stops it where it is."""
    scenario = Scenario(Cluster(), ScenarioConfig(pace=1000))
    task = asyncio.create_task(scenario.run())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not scenario.done


def test_impossible_scenarios() -> None:
    """A scenario without nodes or tasks is refused."""
    with pytest.raises(ValueError, match="nodes and max_tasks must be 1 or more"):
        ScenarioConfig(nodes=0)
    with pytest.raises(ValueError, match="nodes and max_tasks must be 1 or more"):
        ScenarioConfig(max_tasks=0)
