"""The watches of the usage listener, against the simulator and a real API server."""

from functools import partial

import pytest

from osmo_listener.informer import Informer
from osmo_listener.informer.fanout import Branch, Fanout
from osmo_listener.kubernetes.config import ListMode, ListWatchConfig, Resource
from osmo_listener.kubernetes.listwatch import ListWatch
from osmo_listener.listeners.objects import SharedPod, UsagePod
from osmo_listener.listeners.slimming import slim_shared_pod, slim_usage_pod, task_pods
from osmo_listener.listeners.usage import FIELD_SELECTOR
from osmo_listener.listeners.workflow import WorkflowListener
from osmo_simulator.builders import task_labels
from tests.helpers import eventually
from tests.listener.clusters import Cluster
from tests.listener_rules.owner import Owner, informer_of, usage_listener

ALL_PODS = "/api/v1/pods"


def cores(owner: Owner[UsagePod] | Owner[SharedPod]) -> dict[str, str]:
    """The cores that the pods of each node ask for; a pod of the simulator asks for nine."""
    return {node: usage["cpu"] for node, (usage, _) in owner.totals().items()}


@pytest.mark.parametrize("mode", ListMode)
async def test_watch_of_its_own(cluster: Cluster, mode: ListMode) -> None:
    """Pods count from the moment at which they have a node to that at which they end or are
    deleted, and the API server shows no other."""
    await cluster.create("a", node="n1")
    await cluster.create("unbound")
    resource = Resource(
        path=ALL_PODS, type=UsagePod, field_selector=FIELD_SELECTOR, transform=slim_usage_pod
    )
    source = ListWatch(cluster.credentials(), resource, ListWatchConfig(mode=mode))
    owner = Owner[UsagePod](usage_listener())
    async with informer_of(source, owner) as informer:
        owner.objects = informer.store.values
        await informer.synced()
        assert list(owner.known) == ["a"]
        assert cores(owner) == {"n1": "9"}
        await cluster.create("b", node="n1")
        await cluster.create("c", node="n2")
        await cluster.set_phase("b", "Running")
        await eventually(lambda: cores(owner) == {"n1": "18", "n2": "9"})
        await cluster.set_phase("a", "Succeeded")
        await cluster.delete("c")
        await eventually(lambda: cores(owner) == {"n1": "9"})
        assert list(owner.known) == ["b"]
    source.close()


async def test_watch_that_is_shared(cluster: Cluster) -> None:
    """One watch of all pods gives the usage listener what it counts, and the workflow listener its
    tasks with all that it reports."""
    await cluster.create("unbound")
    await cluster.create("task", node="n1", labels=task_labels("w", "t"))
    await cluster.create("other", node="n1")
    resource = Resource(path=ALL_PODS, type=SharedPod, transform=slim_shared_pod("osmo"))
    source = ListWatch(cluster.credentials(), resource)
    usage = Owner[SharedPod](usage_listener())
    workflow = Owner[SharedPod](WorkflowListener())
    branches = Branch(workflow, task_pods("osmo")), Branch(usage)
    informer: Informer[SharedPod]
    async with informer_of(source, Fanout(branches)) as informer:
        for branch, owner in zip(branches, (workflow, usage), strict=True):
            owner.objects = partial(branch.among, informer.store.values())
        await informer.synced()
        await cluster.set_phase("task", "Running")
        await cluster.set_phase("other", "Running")
        await eventually(lambda: cores(usage) == {"n1": "18"})
        assert list(workflow.known) == ["task"]
        assert sorted(usage.known) == ["other", "task", "unbound"]
        task, other = (usage.known[name] for name in ("task", "other"))
        assert [container.name for container in task.spec.containers] == ["task", "osmo-ctrl"]
        assert [container.name for container in other.spec.containers] == ["", ""]
    source.close()
