"""Workflows whose tasks run and end in a simulated cluster, the same way for the same seed."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from typing import NamedTuple

from osmo_simulator.builders import TYPICAL_PADDING, task_labels
from osmo_simulator.cluster import Cluster
from osmo_simulator.errors import StatusError
from osmo_simulator.lifecycle import FAILURES, SUCCEEDED, Outcome, creating, running
from osmo_simulator.verbs import NodeVerbs, PodVerbs
from osmo_transport.bounds import Count, CountOrZero, SecondsOrZero, Seed, Share

_SCHEDULING = 0.2
_CREATING = 2.0
_CLEAN_UP = 3.0
"""Mean times of the steps that the configuration leaves alone, in scenario seconds."""


@dataclass(frozen=True, kw_only=True)
class ScenarioConfig:
    """How much happens, and how fast. Times are in scenario seconds."""

    seed: Seed = 0
    """The same seed gives the same workflows, outcomes and order of events."""
    nodes: Count = 10
    """How many nodes the pods are spread over; at least one."""
    workflows: CountOrZero = 19
    """How many workflows run."""
    max_tasks: Count = 4
    """The most tasks of one workflow; the least is one."""
    failures: Share = 0.4
    """The share of tasks that fail; the ways to fail take turns."""
    deleted: Share = 0.5
    """The share of ended pods that are deleted at the end, as a clean-up does it."""
    namespace: str = "osmo"
    """Where the pods run; it is made where it does not exist."""
    padding: CountOrZero = TYPICAL_PADDING
    """The padding of each pod, see `make_pod`."""
    arrival: SecondsOrZero = 1.0
    """The mean time between two workflows."""
    duration: SecondsOrZero = 10.0
    """The mean time that a task runs."""
    pace: SecondsOrZero = 1.0
    """Seconds of real time per scenario second; 0 runs without waiting."""

    def __post_init__(self) -> None:
        if self.nodes < 1 or self.max_tasks < 1 or self.workflows < 0 or self.pace < 0:
            raise ValueError("nodes and max_tasks must be 1 or more, workflows and pace 0 or more")


@dataclass(frozen=True, kw_only=True)
class ExpectedTask:
    """What users must see of one try of a task when the scenario is over."""

    workflow_uuid: str
    task_uuid: str
    retry_id: int
    pod: str
    outcome: str
    """The name of the `Outcome`."""
    status: str
    exit_code: int
    deleted: bool
    """Whether the pod is gone from the cluster."""


class Step(NamedTuple):
    """One change of the cluster, at a time in scenario seconds."""

    at: float
    apply: Callable[[], object]


class Scenario:
    """A plan of changes, drawn from the seed, that `run` applies to a cluster.

    The cluster's own seed and clock decide uids and timestamps: a history repeats in full when they
    do.

    Args:
        cluster: where the scenario happens.
        config: how much happens, and how fast.
        sleep: how the time between two changes is waited for.
    """

    def __init__(
        self,
        cluster: Cluster,
        config: ScenarioConfig | None = None,
        *,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._cluster = cluster
        self._config = config or ScenarioConfig()
        self._sleep = sleep
        self._random = random.Random(self._config.seed)  # noqa: S311 -- repeatable, not secret
        self._steps: list[Step] = []
        self._expected: list[ExpectedTask] = []
        self._pods = 0
        self.done = False
        """Whether the last change was applied."""
        self._plan()
        self._steps.sort(key=lambda step: step.at)

    @property
    def expected(self) -> tuple[ExpectedTask, ...]:
        """What users must see when the scenario is over, if nobody else changes the pods."""
        return tuple(self._expected)

    @property
    def length(self) -> float:
        """How long it takes, in scenario seconds."""
        return self._steps[-1].at

    async def run(self) -> None:
        """Apply every change in its time, and return after the last one.

        A change whose object somebody else deleted meanwhile is left out.
        """
        now = 0.0
        for step in self._steps:
            await self._sleep((step.at - now) * self._config.pace)
            now = step.at
            try:
                step.apply()
            except StatusError as exc:
                if exc.reason != "NotFound":
                    raise
        self.done = True

    def _plan(self) -> None:
        self._add(0.0, self._create_namespace)
        for number in range(self._config.nodes):
            self._add(0.0, NodeVerbs(self._cluster, _node(number)).create)
        failures = self._failures()
        start = 0.0
        for number in range(self._config.workflows):
            workflow_uuid = self._uuid()
            for task in range(self._random.randint(1, self._config.max_tasks)):
                fails = self._random.random() < self._config.failures
                outcome = next(failures) if fails else SUCCEEDED
                self._plan_task(start, f"workflow-{number}-task-{task}", workflow_uuid, outcome)
            start += self._around(self._config.arrival)

    def _plan_task(self, at: float, name: str, workflow_uuid: str, outcome: Outcome) -> None:
        task_uuid = self._uuid()
        retry_id = 0
        while True:
            pod = PodVerbs(
                self._cluster, f"{name}-{retry_id}", self._config.namespace, self._next_address()
            )
            node = _node(self._random.randrange(self._config.nodes))
            labels = task_labels(workflow_uuid, task_uuid, retry_id)
            self._add(at, partial(pod.create, labels, self._config.padding))
            at = self._plan_pod(at, pod, node, outcome)
            deleted = outcome.retried or self._random.random() < self._config.deleted
            if deleted:
                at += self._around(_CLEAN_UP)
                self._add(at, pod.delete)
            self._expected.append(
                ExpectedTask(
                    workflow_uuid=workflow_uuid,
                    task_uuid=task_uuid,
                    retry_id=retry_id,
                    pod=pod.name,
                    outcome=outcome.name,
                    status=outcome.status,
                    exit_code=outcome.exit_code,
                    deleted=deleted,
                )
            )
            if not outcome.retried:
                return
            outcome = SUCCEEDED
            retry_id += 1

    def _plan_pod(self, at: float, pod: PodVerbs, node: str, outcome: Outcome) -> float:
        at += self._around(_SCHEDULING)
        self._add(at, partial(pod.bind, node))
        at += self._around(_SCHEDULING)
        self._add(at, partial(pod.become, creating))
        at += self._around(_CREATING)
        if outcome.runs:
            self._add(at, partial(pod.become, running))
            at += self._around(self._config.duration)
        self._add(at, partial(pod.end, outcome))
        return at

    def _add(self, at: float, apply: Callable[[], object]) -> None:
        self._steps.append(Step(at, apply))

    def _around(self, mean: float) -> float:
        return mean * self._random.uniform(0.5, 1.5)

    def _uuid(self) -> str:
        return f"{self._random.getrandbits(128):032x}"

    def _next_address(self) -> str:
        self._pods += 1
        return f"10.{64 + (self._pods >> 16) % 64}.{self._pods >> 8 & 255}.{self._pods & 255}"

    def _create_namespace(self) -> None:
        name = self._config.namespace
        if self._cluster.store("namespaces").find("", name) is None:
            namespace = {"metadata": {"name": name}, "status": {"phase": "Active"}}
            self._cluster.create("namespaces", namespace)

    def _failures(self) -> Iterator[Outcome]:
        failures = list(FAILURES)
        self._random.shuffle(failures)
        return cycle(failures)


def _node(number: int) -> str:
    return f"node-{number:04}"
