"""A cluster by verbs: what a test or a scenario lets happen, in the words of who watches it.

    cluster = ClusterVerbs(simulator.cluster)
    workflow = cluster.start_workflow(tasks=2)
    workflow.pods[0].run()
    outcome = workflow.pods[1].fail("out-of-memory")
    cluster.node("node-0").cordon()

Each verb takes effect at once. What the API server refuses, as a verb of a pod that is gone, raises
`StatusError`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from osmo_simulator.builders import make_event, make_node, make_pod, task_labels
from osmo_simulator.cluster import Cluster, timestamp
from osmo_simulator.lifecycle import (
    OUTCOMES,
    SUCCEEDED,
    Moment,
    Outcome,
    Status,
    creating,
    running,
    scheduled,
)
from osmo_simulator.resources import Object

CONTAINER = "task"
"""The name of the user's container."""
_ENDED = ("Succeeded", "Failed")


class PodVerbs:
    """One pod, by its name; it need not exist yet, or any more.

    Args:
        cluster: where it is.
        name: the pod's name.
        namespace: the pod's namespace.
        ip: which address it gets.
    """

    def __init__(
        self, cluster: Cluster, name: str, namespace: str = "osmo", ip: str = "10.64.0.1"
    ) -> None:
        self._cluster = cluster
        self.name = name
        self.namespace = namespace
        self._ip = ip

    @property
    def full_name(self) -> str:
        """`namespace/name`, as which it is reported."""
        return f"{self.namespace}/{self.name}"

    @property
    def object(self) -> Object:
        """The pod as the API server has it."""
        return self._cluster.get("pods", self.name, namespace=self.namespace)

    def create(self, labels: Mapping[str, str], padding: int = 0) -> None:
        """Create it, pending; see `make_pod`."""
        pod = make_pod(
            self.name,
            namespace=self.namespace,
            labels=labels,
            container=CONTAINER,
            padding=padding,
        )
        self._cluster.create("pods", pod)

    def bind(self, node: str) -> None:
        """Let the scheduler find a node for it."""
        patch = {"spec": {"nodeName": node}}
        self._cluster.patch("pods", self.name, patch, namespace=self.namespace)
        self.become(scheduled)
        self.note("Scheduled", f"assigned to {node}", source="kai-scheduler")

    def become(self, status: Callable[[Moment], Status]) -> None:
        """Give it one of the statuses of `lifecycle`."""
        moment = Moment(
            now=timestamp(self._cluster.now()),
            container=CONTAINER,
            pod_ip=self._ip,
            host_ip=self._ip,
        )
        self._cluster.patch_status("pods", self.name, status(moment), namespace=self.namespace)

    def run(self, node: str = "") -> None:
        """Let it run: on `node`, on the one where it is bound, or on the first that is there and
        not cordoned.

        Raises:
            LookupError: it is not bound, and there is no such node.
            ValueError: it has ended, or is bound to another node.
        """
        self._start(node)
        self.become(running)

    def succeed(self) -> Outcome:
        """Let all its containers end well; one that did not run yet runs first.

        Raises:
            LookupError, ValueError: as `run`.
        """
        return self._end_from_anywhere(SUCCEEDED)

    def fail(self, how: str = "exit-code") -> Outcome:
        """Let it fail in one of the ways of `lifecycle.FAILURES`, by name; one that did not run
        yet runs first, unless it fails by that. The outcome says what users must see.

        Raises:
            LookupError: there is no such way, and the text names all; or as `run`.
            ValueError: as `run`, or it runs, and so cannot fail to start.
        """
        if how not in OUTCOMES:
            raise LookupError(f"no pod fails by {how!r}: there are {', '.join(sorted(OUTCOMES))}")
        return self._end_from_anywhere(OUTCOMES[how])

    def end(self, outcome: Outcome) -> None:
        """Give it the last status of an outcome, whatever it had before."""
        self.become(outcome.end)
        if outcome is not SUCCEEDED:
            self.note("Failed", f"Task ended: {outcome.name}", warning=True)

    def note(
        self, reason: str, message: str, *, warning: bool = False, source: str = "kubelet"
    ) -> None:
        """Let a component of the cluster note something about it, as an event."""
        now = timestamp(self._cluster.now())
        event = make_event(self.object, reason, message, now=now, warning=warning, source=source)
        self._cluster.create("events", event)

    def delete(self) -> None:
        """Remove it."""
        self._cluster.delete("pods", self.name, namespace=self.namespace)

    def _end_from_anywhere(self, outcome: Outcome) -> Outcome:
        runs = self._phase == "Running"
        if runs and not outcome.runs:
            raise ValueError(f"pod {self.name} runs: it cannot end by {outcome.name!r}")
        if not runs:
            self._start("")
            if outcome.runs:
                self.become(running)
        self.end(outcome)
        return outcome

    @property
    def _phase(self) -> str:
        phase: str = self.object["status"].get("phase", "")
        return phase

    def _start(self, node: str) -> None:
        """Bring it to where its containers are created."""
        if self._phase in _ENDED:
            raise ValueError(f"pod {self.name} has ended: it is {self._phase}")
        bound = self.object["spec"].get("nodeName", "")
        if node and bound and node != bound:
            raise ValueError(f"pod {self.name} is bound to {bound} already")
        if not bound:
            self.bind(node or self._free_node())
        if "containerStatuses" not in self.object["status"]:
            self.become(creating)

    def _free_node(self) -> str:
        for node in self._cluster.list("nodes"):
            if not node["spec"].get("unschedulable"):
                name: str = node["metadata"]["name"]
                return name
        raise LookupError("there is no node that is not cordoned: add one with `add_node`")


class NodeVerbs:
    """One node, by its name."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self._cluster = cluster
        self.name = name

    @property
    def object(self) -> Object:
        """The node as the API server has it."""
        return self._cluster.get("nodes", self.name)

    def create(self, labels: Mapping[str, str] | None = None) -> None:
        """Create it, ready; see `make_node`."""
        node = make_node(self.name, labels=labels, now=timestamp(self._cluster.now()))
        self._cluster.create("nodes", node)

    def cordon(self) -> None:
        """Let it take no more pods; those that are there stay."""
        self._cluster.patch("nodes", self.name, {"spec": {"unschedulable": True}})

    def uncordon(self) -> None:
        """Let it take pods again."""
        self._cluster.patch("nodes", self.name, {"spec": {"unschedulable": None}})

    def label(self, **labels: str | None) -> None:
        """Set labels; None removes one. For names that are no words: `label(**{"a/b": "c"})`."""
        self._cluster.patch("nodes", self.name, {"metadata": {"labels": labels}})

    def set_condition(self, kind: str, status: str, reason: str = "") -> None:
        """Set a condition, as `set_condition("Ready", "False")`."""
        condition = {
            "type": kind,
            "status": status,
            "reason": reason or kind,
            "message": reason or kind,
            "lastTransitionTime": timestamp(self._cluster.now()),
        }
        self._cluster.patch_status("nodes", self.name, {"conditions": [condition]})

    def remove(self) -> None:
        """Take it out of the cluster; its pods stay, as on a real cluster for some minutes."""
        self._cluster.delete("nodes", self.name)


class Workflow(NamedTuple):
    """A workflow that was started."""

    uuid: str
    pods: Sequence[PodVerbs]
    """One for each task, pending; task n has the uuid `task-n`."""


class ClusterVerbs:
    """The pods and nodes of a cluster, and the workflows that are started in it.

    Args:
        cluster: the state.
        namespace: where the workflows' pods are.
    """

    def __init__(self, cluster: Cluster, namespace: str = "osmo") -> None:
        self.state = cluster
        """The state, for whatever no verb does."""
        self.namespace = namespace
        self._workflows = 0
        self._pods: dict[str, PodVerbs] = {}

    def start_workflow(self, tasks: int = 1, *, uuid: str = "") -> Workflow:
        """Create the pods `UUID-task-0` and so on, pending. The first workflow has the uuid
        `workflow-0`, if none is given."""
        uuid = uuid or f"workflow-{self._workflows}"
        self._workflows += 1
        return Workflow(uuid, [self.start_task(uuid, f"task-{task}") for task in range(tasks)])

    def start_task(self, workflow_uuid: str, task_uuid: str, retry_id: int = 0) -> PodVerbs:
        """Create the pod of one task, pending: `WORKFLOW-TASK`, and behind it the number of a
        retry."""
        suffix = f"-{retry_id}" if retry_id else ""
        pod = self.pod(f"{workflow_uuid}-{task_uuid}{suffix}")
        pod.create(task_labels(workflow_uuid, task_uuid, retry_id))
        return pod

    def pod(self, name: str) -> PodVerbs:
        """The pod of this name in the workflows' namespace; each has an address of its own."""
        if name not in self._pods:
            number = len(self._pods) + 1
            ip = f"10.64.{number >> 8 & 255}.{number & 255}"
            self._pods[name] = PodVerbs(self.state, name, self.namespace, ip)
        return self._pods[name]

    def add_node(self, name: str, labels: Mapping[str, str] | None = None) -> NodeVerbs:
        """Create a node, ready."""
        node = NodeVerbs(self.state, name)
        node.create(labels)
        return node

    def node(self, name: str) -> NodeVerbs:
        """The node of this name."""
        return NodeVerbs(self.state, name)
