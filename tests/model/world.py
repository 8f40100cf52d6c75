"""A cluster, a pipeline that reports it, and all that may happen to both.

At the end everything that goes wrong ends, and what the store holds has to equal the cluster. Only
then: on the way it may be behind.
"""

import asyncio
import random
from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec

from osmo_listener.listeners import PodState, PodStatus, PodStatusMode, has_ended, pod_status
from osmo_listener.listeners.objects import Node, Pod
from osmo_listener.listeners.workflow import TaskKey, task_key
from osmo_reports.directory.memory import open_directory
from osmo_transport.queues.memory.queue import MemoryQueue, open_queue
from osmo_transport.queues.memory.store import MemoryStore
from osmo_worker.store import Node as NodeRow
from osmo_worker.store import Task
from osmo_worker.store.kinds.tasks import NODE_LOST, START_TIMEOUT
from tests.listener_rules.harness import condition, ended, make_pod, running, waiting
from tests.listener_rules.nodes import make_node
from tests.model.cluster import Etcd
from tests.model.processes import (
    BACKEND,
    LIMITS,
    STORE,
    Disorder,
    ListenerProcess,
    OperatorProcess,
    WorkerProcess,
    open_store,
    wall,
)

TASKS = ("a", "b", "c", "d", "e")
NODES = ("n1", "n2", "n3")
KINDS = ("pods", "nodes")
WORKERS = ("one", "two")
SETTLING = 60.0
"""Seconds after the last fault within which everything is to be right: longer than all the delays
and leases that may follow each other."""
CLOSE = 10.0
"""Seconds that what time alone makes due may be late."""

DRAIN_TRIES = 100
"""How often the queue is looked at for a moment when it is empty, a hundredth of a second apart."""
FAR = 1e6
"""Seconds after which time alone has made due whatever it will."""

CTRL_ENDED = ended("osmo-ctrl", 0, "Completed")
STATES = {
    "pending": make_pod("Pending", node=""),
    "initializing": make_pod("Pending", init=(waiting("osmo-init", "PodInitializing"),)),
    "running": make_pod("Running"),
    "addressed": make_pod("Running", ip="10.0.0.1"),
    "ready": make_pod("Running", conditions=(condition("Ready"),)),
    "failing": make_pod("Running", containers=(ended("user", 1), running("osmo-ctrl"))),
    "disrupted": make_pod("Running", conditions=(condition("DisruptionTarget", reason="x"),)),
    "no image": make_pod("Pending", containers=(waiting("user", "ImagePullBackOff"),)),
    "stuck": make_pod("Pending", containers=(waiting("user", "CreateContainerConfigError"),)),
    "unknown": make_pod("Unknown"),
    "failed soon": make_pod("Running", containers=(ended("user", 1), CTRL_ENDED)),
    "succeeded": make_pod("Succeeded"),
    "failed": make_pod("Failed", containers=(ended("user", 2), CTRL_ENDED)),
    "evicted": make_pod("Failed", reason="Evicted", message="m"),
}
"""What a pod may look like."""


class World:
    """Verbs for whatever happens. Names of pods, nodes and processes are given as numbers that wrap
    around, so that each number means something."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.pods: Etcd[Pod] = Etcd(5000)
        self.nodes: Etcd[Node] = Etcd(70)
        self.listeners: dict[str, list[ListenerProcess[Pod] | ListenerProcess[Node]]] = {}
        self.workers: dict[str, WorkerProcess] = {}
        self._numbers = 0
        self._restored: dict[str, float] = {}
        """By kind, when the last restore was."""
        self._ended: dict[TaskKey, set[PodStatus]] = {}
        """The final states that tasks have ever had, be it in a time that a restore took back."""
        self._began: dict[str, float] = {}
        """By uid, when a pod began to initialize for the first time."""

    async def start(self) -> None:
        """Start every process, in a cluster of three nodes that has a backup."""
        queue = await open_queue(
            "memory://", LIMITS, clock=asyncio.get_running_loop().time, wall=wall
        )
        assert isinstance(queue, MemoryQueue)
        self.queue = queue
        self.directory = await open_directory("memory://", LIMITS, wall=wall)
        self.store = open_store()
        self.disorder = Disorder(self.store, self.draw)
        for name in NODES:
            self.nodes.put(self._new_node(name))
        for kind in KINDS:
            self.etcd(kind).back_up()
        self.operator = OperatorProcess(self.queue, self.directory)
        for name in WORKERS:
            self._start_worker(name)
        for kind in KINDS:
            self.listeners[kind] = []
            self.start_listener(kind)

    async def close(self) -> None:
        """End everything."""
        for process in [*self._processes()]:
            await process.kill()
        await self.queue.aclose()
        await self.store.aclose()

    async def pass_time(self, seconds: float) -> None:
        """Let everybody work for some time."""
        await asyncio.sleep(seconds)
        for process in self._processes():
            process.check()
        self._note()

    # What the cluster does.

    def set_pod(self, task: int, state: str, node: int) -> None:
        """Let the task's pod be in this state; create it where there is none. One that has ended
        stays as it is; the next attempt takes its place."""
        name = TASKS[task % len(TASKS)]
        known = self._pod_of(name)
        if known is not None and self._state(known).final:
            return
        if known is None:
            retry = sum(key.task_uuid == name for key in self._ended)
            self._numbers += 1
            made = STATES["pending"]
            labels = msgspec.structs.replace(
                made.metadata.labels, task_uuid=name, retry_id=str(retry)
            )
            metadata = msgspec.structs.replace(
                made.metadata,
                name=f"pod-{name}-{retry}",
                uid=f"uid-{self._numbers}",
                creation_timestamp=_written(wall()),
                labels=labels,
            )
            known = msgspec.structs.replace(made, metadata=metadata)
        like = STATES[state]
        there = sorted(self.nodes.objects)
        where = known.spec.node_name
        if not where and like.spec.node_name and there:
            where = there[node % len(there)]
        status = like.status
        if state == "stuck":
            since = condition("Ready", "False", at=_written(wall()))
            status = msgspec.structs.replace(status, conditions=(since,))
        spec = msgspec.structs.replace(known.spec, node_name=where)
        self.pods.put(msgspec.structs.replace(known, spec=spec, status=status))
        self._note()

    def delete_pod(self, task: int) -> None:
        """Remove the task's pod, if there is one."""
        pod = self._pod_of(TASKS[task % len(TASKS)])
        if pod is not None:
            self._note_gone(pod)
            self.pods.delete(f"{pod.metadata.namespace}/{pod.metadata.name}")

    def create_missing(self, state: str) -> None:
        """Let every task have a pod: those that have none get one in this state."""
        for number, name in enumerate(TASKS):
            if self._pod_of(name) is None:
                self.set_pod(number, state, number)

    def restore(self, kind: str, place: int) -> None:
        """Bring back a backup, if there is any."""
        if self.etcd(kind).has_backup:
            for pod in self.pods.objects.values() if kind == "pods" else ():
                self._note_gone(pod)
            self.etcd(kind).restore(place)
            self._restored[kind] = wall()

    def back_up(self, kind: str) -> None:
        """Keep a backup; not soon after a restore, which must be noticed before the cluster comes
        as far as it was before."""
        if wall() - self._restored.get(kind, 0.0) > SETTLING:
            self.etcd(kind).back_up()

    def set_node(self, number: int, *, ready: bool, unschedulable: bool) -> None:
        """Let the node be like this; create it where it is gone."""
        name = NODES[number % len(NODES)]
        known = self.nodes.objects.get(name) or self._new_node(name)
        like = make_node(
            name,
            uid=known.metadata.uid,
            unschedulable=unschedulable,
            conditions={"Ready": "True" if ready else "False"},
        )
        self.nodes.put(like)

    def delete_node(self, number: int) -> None:
        """Lose the node, if it is there; its pods stay for now."""
        name = NODES[number % len(NODES)]
        if name in self.nodes.objects:
            self.nodes.delete(name)

    def etcd(self, kind: str) -> Etcd[Pod] | Etcd[Node]:
        """Where objects of this kind live."""
        return self.pods if kind == "pods" else self.nodes

    # What happens to processes.

    def start_listener(self, kind: str) -> None:
        """Start one more; it stands by while another one reports."""
        if len(self.listeners[kind]) < 3:
            process: ListenerProcess[Pod] | ListenerProcess[Node]
            if kind == "pods":
                process = ListenerProcess(self.pods, kind)
            else:
                process = ListenerProcess(self.nodes, kind)
            self.listeners[kind].append(process)

    async def end_listener(self, kind: str, number: int, *, kill: bool) -> None:
        """End one of them."""
        processes = self.listeners[kind]
        if processes:
            process = processes.pop(number % len(processes))
            await (process.kill() if kill else process.stop())

    def cut_wire(self, kind: str, number: int) -> None:
        """Break the connection of a listener to the operator."""
        processes = self.listeners[kind]
        if processes:
            processes[number % len(processes)].wire.reset()

    def hold_wire(self, kind: str, number: int) -> None:
        """Let nothing pass between a listener and the operator until the end."""
        processes = self.listeners[kind]
        if processes:
            processes[number % len(processes)].wire.hold()

    def release_wires(self) -> None:
        """Let everything pass again."""
        for process in self._listeners():
            process.wire.release()

    async def restart_operator(self, *, kill: bool, away: float) -> None:
        """End it, and start it some seconds later."""
        await (self.operator.kill() if kill else self.operator.stop())
        await asyncio.sleep(away)
        self.operator = OperatorProcess(self.queue, self.directory)

    async def restart_worker(self, number: int, *, kill: bool, away: float) -> None:
        """End one, and start it some seconds later."""
        name = WORKERS[number % len(WORKERS)]
        worker = self.workers[name]
        await (worker.kill() if kill else worker.stop())
        await asyncio.sleep(away)
        self._start_worker(name)

    def flush_queue(self) -> None:
        """The queue loses its memory."""
        store = self.queue._store
        fresh = MemoryStore(wall)
        store.epoch, store.producers = fresh.epoch, fresh.producers
        store.waiting, store.pending = fresh.waiting, fresh.pending
        store.due = fresh.due
        for holder in store.holders.values():
            holder.held.clear()
            holder.delayed = type(holder.delayed)()
        store.wake()

    # The end.

    async def settle(self) -> None:
        """End all that goes wrong, wait, and compare the store with the cluster."""
        self.disorder.likely = 0.0
        self.release_wires()
        for kind in KINDS:
            if not self.listeners[kind]:
                self.start_listener(kind)
            self.etcd(kind).heal()
        began = wall()
        await self.pass_time(SETTLING / 2)
        self.pods.bookmark()
        await self.pass_time(SETTLING / 2)
        await self.store.sweep()
        await self._drain()
        problems = [
            *await self._queue_problems(),
            *self._task_problems(await self.store.tasks(BACKEND), await self.store.nodes(BACKEND)),
            *self._node_problems(await self.store.nodes(BACKEND)),
            *await self._backend_problems(began),
        ]
        assert not problems, "\n".join(problems)

    async def _drain(self) -> None:
        """Wait until the queue holds nothing: signs of life may come at any moment."""
        for _ in range(DRAIN_TRIES):
            status = await self.queue.status()
            if not any([*status.waiting.values(), *status.pending.values()]):
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"the queue still holds something: {status}")

    async def _queue_problems(self) -> Iterator[str]:
        found = []
        letters = await self.queue.dead_letters(10)
        found += [f"dead: {letter.reason}: {letter.message}" for letter in letters]
        found += ["a listener dropped messages" for each in self._listeners() if each.dropped]
        return iter(found)

    async def _backend_problems(self, began: float) -> Iterator[str]:
        rows = [row for row in await self.store.backends() if row.name == BACKEND]
        found = []
        for row in rows:
            for name in ("last_heartbeat", "pods_current_at"):
                at = getattr(row, name)
                if at is None or not began < at.timestamp() <= wall():
                    found.append(f"{name} is {at}, and everything is well since {_written(began)}")
        return iter(found if rows else ["there is no row of the backend"])

    def _node_problems(self, rows: list[NodeRow]) -> Iterator[str]:
        there = self.nodes.objects
        for name in sorted(there.keys() - {row.node for row in rows}):
            yield f"node {name} has no row"
        for row in rows:
            node = there.get(row.node)
            if (node is None) != (row.deleted_at is not None):
                yield f"node {row.node} is {'gone' if node is None else 'there'}, and not in {row}"
            elif node is not None:
                ready = node.status.conditions[0].status == "True"
                if row.available != (ready and not node.spec.unschedulable):
                    yield f"node {row.node} is {node}, and not as {row}"

    def _task_problems(self, rows: list[Task], nodes: list[NodeRow]) -> Iterator[str]:
        live = {key: pod for pod in self.pods.objects.values() if (key := task_key(pod))}
        found = {TaskKey(row.workflow_uuid, row.task_uuid, row.retry_id): row for row in rows}
        told = {row.node for row in nodes}
        for key, row in found.items():
            if key not in live and row.deleted_at is None:
                yield f"the pod of {key} is gone, and not in {row}"
        for key, pod in live.items():
            states = [self._state(pod, late) for late in (0.0, CLOSE)]
            if states[0].status is PodStatus.UNKNOWN:
                continue
            if key not in found:
                yield f"{key} has no row"
            elif not any(self._is_right(found[key], pod, state, told) for state in states):
                yield f"{key} is {states[0]}, and not as {found[key]}"

    def _is_right(self, row: Task, pod: Pod, state: PodState, told: set[str]) -> bool:
        if row.deleted_at is not None:
            return False
        key, node = task_key(pod), pod.spec.node_name
        assert key is not None
        if not state.final:
            if row.status in self._ended.get(key, ()) and row.terminal and not row.concluded:
                return True  # an end is never taken back, be it by a restore
            lost = node in told and node not in self.nodes.objects
            if lost or row.concluded:
                waited = wall() - self._began.get(pod.metadata.uid, wall())
                is_late = state.status is PodStatus.INITIALIZING and waited >= STORE.start_timeout
                right = (lost and row.status == NODE_LOST[0]) or (
                    is_late and row.status == START_TIMEOUT
                )
                return row.concluded and right
            late = (datetime.fromtimestamp(wall(), UTC) - row.status_since).total_seconds()
            if row.status == "INITIALIZING" and late > STORE.start_timeout + SETTLING:
                return False
        return (row.status, row.node, row.pod_ip, row.concluded) == (
            state.status.value,
            node,
            pod.status.pod_ip,
            False,
        )

    # Details.

    def _processes(
        self,
    ) -> Iterator[ListenerProcess[Pod] | ListenerProcess[Node] | OperatorProcess | WorkerProcess]:
        yield from self._listeners()
        yield self.operator
        yield from self.workers.values()

    def _listeners(self) -> Iterator[ListenerProcess[Pod] | ListenerProcess[Node]]:
        for processes in self.listeners.values():
            yield from processes

    def _start_worker(self, name: str) -> None:
        self.workers[name] = WorkerProcess(self.queue, self.store, self.disorder, name)

    def _new_node(self, name: str) -> Node:
        self._numbers += 1
        return make_node(name, uid=f"uid-{self._numbers}")

    def _pod_of(self, task: str) -> Pod | None:
        for pod in self.pods.objects.values():
            if pod.metadata.labels.task_uuid == task:
                return pod
        return None

    def _state(self, pod: Pod, ago: float = 0.0) -> PodState:
        return pod_status(pod, wall() - ago, PodStatusMode.EXACT)

    def _note(self) -> None:
        """Remember what is asked for in the end."""
        for pod in self.pods.objects.values():
            state, key = self._state(pod), task_key(pod)
            assert key is not None
            if has_ended(state.status):  # told as its end, should it go before it tells otherwise
                self._ended.setdefault(key, set()).add(state.status)
            if state.status is PodStatus.INITIALIZING:
                self._began.setdefault(pod.metadata.uid, wall())

    def _note_gone(self, pod: Pod) -> None:
        """Remember what a pod may end as that goes: what is told of it, be that early or late, is
        not taken back any more."""
        key = task_key(pod)
        assert key is not None
        for state in (self._state(pod), self._state(pod, -FAR)):
            if has_ended(state.status):
                self._ended.setdefault(key, set()).add(state.status)


def _written(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
