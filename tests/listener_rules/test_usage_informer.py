"""The usage listener behind an informer that misses parts of what happens."""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from osmo_listener.informer.fanout import Branch, Fanout
from osmo_listener.listeners.objects import SharedPod, UsagePod
from osmo_listener.listeners.slimming import slim_shared_pod, slim_usage_pod, task_pods
from osmo_listener.listeners.workflow import WorkflowListener
from osmo_listener.testing import FakeSource
from tests.helpers import eventually
from tests.listener_rules.owner import Owner, informer_of, usage_listener
from tests.listener_rules.usage_harness import ZEROS, Totals, decode, recount

NODES = ("n1", "n2")

P = TypeVar("P", UsagePod, SharedPod)


def body(name: str, uid: str, namespace: str, node: str, cpu: int, phase: str) -> dict[str, object]:
    """A pod as an API server has it; in namespace `osmo` it runs a task."""
    requests = {"cpu": f"{cpu * 100}m", "memory": f"{cpu}k"}
    labels = {"osmo.workflow_uuid": "w", "osmo.task_uuid": name} if namespace == "osmo" else {}
    return {
        "metadata": {"name": name, "namespace": namespace, "uid": uid, "labels": labels},
        "spec": {
            "nodeName": node,
            "containers": [{"name": "c", "resources": {"requests": requests}}],
        },
        "status": {"phase": phase, "message": "m"},
    }


class Cluster(Generic[P]):
    """What happens in a cluster, and how a watch shows it."""

    def __init__(self, decode_pod: Callable[[object], P], shows: Callable[[P], bool]) -> None:
        self.source: FakeSource[P] = FakeSource()
        self.live: dict[str, P] = {}
        """The pods that the watch shows, as they are now."""
        self._decode: Callable[[object], P] = decode_pod
        self._shows: Callable[[P], bool] = shows
        self._uid = 0

    def write(self, name: str, node: str, cpu: int, phase: str) -> None:
        """Create the pod, or change it."""
        known = self.live.get(name)
        if known is None:
            self._uid += 1
        uid = known.metadata.uid if known else f"uid-{self._uid}"
        namespace = "osmo" if name in "ab" else "kube-system"
        pod = self._decode(body(name, uid, namespace, node, cpu, phase))
        if not self._shows(pod):
            self.delete(name)
        elif known is None:
            self.live[name] = self.source.add(pod)
        else:
            self.live[name] = self.source.modify(pod)

    def delete(self, name: str) -> None:
        """Delete the pod if it exists."""
        if name in self.live:
            self.source.delete(self.live.pop(name))

    def happen(self, step: tuple[str, str, str, int, str]) -> None:
        """One step of a script."""
        verb, name, node, cpu, phase = step
        if verb == "gap":
            self.source.expire()
        elif verb == "break":
            self.source.reset_watch()
        else:
            if verb != "write":
                self.delete(name)
            if verb != "delete":
                self.write(name, node, cpu, phase)


steps = st.lists(
    st.tuples(
        st.sampled_from(["write", "write", "delete", "recreate", "gap", "break"]),
        st.sampled_from("abcd"),
        st.sampled_from(NODES),
        st.integers(0, 30),
        st.sampled_from(["Running", "Running", "Pending", "Succeeded"]),
    ),
    max_size=25,
)
Script = list[tuple[str, str, str, int, str]]


def with_pods(totals: Totals) -> Totals:
    """Without the nodes whose pods ask for nothing, which look like none."""
    return {node: both for node, both in totals.items() if both != (ZEROS, ZEROS)}


async def play(script: Script, cluster: Cluster[P], owner: Owner[P]) -> None:
    """Let the script happen, with the informer in between; when it is all told, the totals are
    those of a recount."""
    for step in script:
        cluster.happen(step)
        if step[3] % 2:
            await asyncio.sleep(0)
    await eventually(lambda: owner.known == cluster.live)
    assert owner.totals() == with_pods(recount(cluster.live.values()))


@settings(max_examples=100, deadline=None)
@given(steps)
def test_watch_of_its_own(script: Script) -> None:
    """With the field selector, pods that have ended are deleted; whatever a watch misses, the
    totals are those of the pods that have not."""

    async def run() -> None:
        cluster = Cluster(
            lambda pod: slim_usage_pod(msgspec.convert(pod, UsagePod)),
            lambda pod: pod.status.phase != "Succeeded",
        )
        owner = Owner[UsagePod](usage_listener())
        async with informer_of(cluster.source, owner) as informer:
            owner.objects = informer.store.values
            await informer.synced()
            await play(script, cluster, owner)

    asyncio.run(run())


@settings(max_examples=100, deadline=None)
@given(steps)
def test_watch_that_is_shared(script: Script) -> None:
    """From one watch of all pods the usage listener counts them all, and the workflow listener
    reports its tasks and sees no other pod."""

    async def run() -> None:
        slim = slim_shared_pod("osmo")
        cluster = Cluster(lambda pod: slim(msgspec.convert(pod, SharedPod)), lambda _: True)
        usage = Owner[SharedPod](usage_listener())
        workflow = Owner[SharedPod](WorkflowListener())
        tasks = Branch(workflow, task_pods("osmo"))
        fanout = Fanout([tasks, Branch(usage)])
        async with informer_of(cluster.source, fanout) as informer:
            usage.objects = informer.store.values
            workflow.objects = lambda: tasks.among(informer.store.values())
            await informer.synced()
            await play(script, cluster, usage)
            tasks_alive = {name: pod for name, pod in cluster.live.items() if name in "ab"}
            await eventually(lambda: workflow.known == tasks_alive)
        rows = {m.key: decode(m) for m in workflow.messages if m.kind == "update_pod"}
        alive = {body.task_uuid for body in rows.values() if not body.deleted}
        assert alive == tasks_alive.keys()
        assert all(body.message == "m" for body in rows.values() if body.status == "RUNNING")

    asyncio.run(run())


async def test_first_reports_are_the_snapshot() -> None:
    """A listener that starts in a running cluster reports each node once, when the list is
    complete, and closes the snapshot with their count."""
    cluster = Cluster(lambda pod: slim_usage_pod(msgspec.convert(pod, UsagePod)), lambda _: True)
    for name in "abcd":
        cluster.write(name, NODES[name in "ab"], 10, "Running")
    cluster.source.hold_lists()
    owner = Owner[UsagePod](usage_listener())
    async with informer_of(cluster.source, owner) as informer:
        owner.objects = informer.store.values
        await eventually(lambda: len(informer.store))
        assert owner.totals() == {}
        cluster.source.release_lists()
        await informer.synced()
        *reports, end = owner.messages
        assert sorted(message.key for message in reports) == list(NODES)
        assert decode(end).count == 2
