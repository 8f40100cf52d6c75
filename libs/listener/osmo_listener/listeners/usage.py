"""The usage listener: what the pods on each node ask for.

Each node has two totals of `resources.requests`: of all its pods, and of those that run no
workflow. They are kept up to date with every change and reported at intervals, because users look
at the sums and pods come in bursts. The rules:

- A pod counts, once by its uid, from the moment at which it has a node until it has ended, with
  what the scheduler reserves for it (`CountMode.SCHEDULER`). Its requests may change meanwhile.
- Of each request, `cpu` counts in thousandths of a core and `memory` and `ephemeral-storage` in Ki,
  rounded up; a report rounds a node's cores up once more.
- A request that cannot be read is left out and counted; the pod's others count.
- A node is reported if its totals or its hostname differ from what was last reported in the epoch.
  When its last pod has gone, zeros are reported once and the node is forgotten; a node of which
  nothing was reported in the epoch has no zeros either.
- The first reports of an epoch are its snapshot: nothing is reported from half a list.
- Every report has a higher version than the one before, of whatever node: the number of reports so
  far. A total has no resource version of its own, and a node that is forgotten may come back.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from fractions import Fraction
from functools import lru_cache
from math import ceil
from typing import NamedTuple

import msgspec

from osmo_listener.kubernetes.quantity import parse_quantity
from osmo_listener.listeners.objects import (
    ContainerResources,
    Quantity,
    Requests,
    SharedContainer,
    SharedPod,
    UsageContainer,
    UsagePod,
)
from osmo_reports.bodies import SnapshotEnd, UpdateNodeUsage, encode_body
from osmo_transport.bounds import Seconds
from osmo_transport.lean import dataclass
from osmo_transport.message import Message, Version, new_id

logger = logging.getLogger(__name__)

KIND = "update_node_usage"
FIELD_SELECTOR = "spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed"
"""The pods that may count; one that no longer does reaches a watch as DELETED."""

_ENDED = frozenset({"Succeeded", "Failed"})
_SIDECAR = "Always"
"""The restart policy that makes an init container one."""
_NO_RESOURCES = ContainerResources()

REQUESTS_KNOWN = 4096
"""Different containers of pods whose sums are remembered: a pod is made from a template, and there
are far fewer of those."""

CountedPod = UsagePod | SharedPod
"""A pod from a watch of its own, or from one that the workflow listener shares."""


class CountMode(Enum):
    """Which pods count, and with what."""

    SCHEDULER = "scheduler"
    """Every pod that has a node and has not ended, with what the scheduler reserves for it, as
    `kubectl describe node` adds it up: the containers and the sidecars together, or what its init
    containers need at one time where that is more; what is asked for the pod as a whole instead,
    where it is; and the overhead of its runtime class."""
    CONTAINERS = "containers"
    """The pods that run, with the sum over their containers alone: as the systems deployed before
    count."""


@dataclass(frozen=True, kw_only=True)
class UsageConfig:
    """How the usage of nodes is reported; times in seconds."""

    count: CountMode = CountMode.SCHEDULER
    """Which pods count, and with what."""
    flush_interval: Seconds = 15.0
    """At least so long between two reports of one node. A quarter of a minute is what deployments
    of the system before this one set: users who wait for a free GPU see it soon, and a node on
    which pods come and go all the time still costs only four reports a minute."""
    include_namespace_usage: tuple[str, ...] = ()
    """Namespaces, besides that of the workflows, whose pods count as workflows; repeat for
    several."""


class Amounts(NamedTuple):
    """What a pod asks for."""

    cpu: int
    """Thousandths of a core."""
    memory: int
    """In Ki."""
    storage: int
    """Ephemeral, in Ki."""
    gpu: int


class _Share(msgspec.Struct, frozen=True, gc=False):
    """What one pod adds, and to what."""

    node: str
    amounts: Amounts
    workflow: bool


class _Node(msgspec.Struct):
    hostname: str = ""
    """As last reported; empty: not known yet."""
    pods: int = 0
    total: list[int] = msgspec.field(default_factory=lambda: [0] * len(Amounts._fields))
    other: list[int] = msgspec.field(default_factory=lambda: [0] * len(Amounts._fields))
    """The part of `total` that no workflow asks for."""
    sent: bytes = b""
    """What was last reported in the current epoch; empty: nothing."""


class UsageListener:
    """Implements `Listener[UsagePod]` and `Listener[SharedPod]`; the module says what it reports.

    Args:
        config: how.
        namespace: of the workflows.
        hostname: a node's hostname by its name, as `update_node` reports it; None: the node is not
            known, and its last hostname, else its name, takes the place. Tell `node_changed` when
            that changes.
    """

    def __init__(
        self, config: UsageConfig, namespace: str, hostname: Callable[[str], str | None]
    ) -> None:
        self.bad_fields = 0
        """Requests that could not be read, each counted when its pod was."""
        self._count = config.count
        self._interval = config.flush_interval
        self._workflow_namespaces = frozenset({namespace, *config.include_namespace_usage})
        self._hostname = hostname
        self._epoch = 0
        self._reported = 0
        """How many reports there were."""
        self._flush_at: float | None = None
        """None: not before the epoch's snapshot."""
        self._shares: dict[str, _Share] = {}
        """By the uid of the pod."""
        self._nodes: dict[str, _Node] = {}
        self._dirty: dict[str, None] = {}
        """The nodes that may have changed since they were reported, in that order."""
        self._counted: set[str] | None = set()
        """The nodes reported since the epoch began, until its snapshot has counted them."""

    def restart(self, epoch: int) -> None:
        """See `Listener.restart`."""
        self._epoch = epoch
        self._flush_at = None
        self._dirty.clear()
        self._counted = set()
        self._nodes = {name: node for name, node in self._nodes.items() if node.pods}
        for node in self._nodes.values():
            node.sent = b""

    def on_change(
        self,
        old: CountedPod | None,
        new: CountedPod | None,
        resource_version: int,
        now: float,
    ) -> list[Message]:
        """See `Listener.on_change`. Nothing is reported at once."""
        if self._flush_at is not None:
            # A clock that was set back must not keep reports from users for as long.
            self._flush_at = min(self._flush_at, now + self._interval)
        if new is not None:
            self._place(new)
        if old is not None and (new is None or old.metadata.uid != new.metadata.uid):
            self._move(old.metadata.uid, None)
        return []

    def node_changed(self, name: str) -> None:
        """The hostname of a node may have become another: if so, it goes out with the next flush.
        For a node without a counted pod nothing happens."""
        node = self._nodes.get(name)
        if node is not None and node.sent and self._hostname_of(name, node) != node.hostname:
            self._dirty[name] = None

    def next_deadline(self) -> float | None:
        """See `Listener.next_deadline`."""
        return self._flush_at if self._dirty else None

    def due(self, now: float) -> list[Message]:
        """See `Listener.due`: the nodes that have changed, if the interval is over."""
        if not self._dirty or self._flush_at is None or now < self._flush_at:
            return []
        self._flush_at = now + self._interval
        dirty, self._dirty = self._dirty, {}
        return [message for name in dirty if (message := self._report(name, now)) is not None]

    def snapshot(
        self, objects: Iterable[CountedPod], resource_version: int, now: float
    ) -> Iterator[Message]:
        """See `Listener.snapshot`: every node that has pods is reported now, without waiting for
        the interval."""
        live = set()
        for pod in objects:
            live.add(pod.metadata.uid)
            self._place(pod)
        for uid in self._shares.keys() - live:
            self._move(uid, None)
        self._flush_at = now + self._interval
        return self._snapshot(self._epoch, resource_version, now)

    def listed(
        self, objects: Iterable[CountedPod], resource_version: int, now: float
    ) -> Iterable[Message]:
        """See `Listener.listed`: the changes have told it all."""
        return ()

    def _snapshot(self, epoch: int, resource_version: int, now: float) -> Iterator[Message]:
        for name in list(self._nodes):
            if self._epoch != epoch:
                return
            node = self._nodes.get(name)
            if node is not None and node.pods and not node.sent:
                self._dirty.pop(name, None)
                if (message := self._report(name, now)) is not None:
                    yield message
        if self._epoch != epoch:
            return
        end = encode_body(SnapshotEnd(KIND, len(self._counted or ())))
        self._counted = None
        version = Version(epoch, resource_version)
        yield Message("snapshot_end", KIND, version, new_id(), now, end)

    def _place(self, pod: CountedPod) -> None:
        """Let the pod count as what it is now."""
        uid = pod.metadata.uid
        node = pod.spec.node_name
        if not node or not self._counts(pod.status.phase):
            self._move(uid, None)
            return
        spec = pod.spec
        if self._count is CountMode.CONTAINERS:
            amounts, bad = _amounts(spec.containers, (), _NO_RESOURCES, _NO_RESOURCES.requests)
        else:
            amounts, bad = _amounts(
                spec.containers, spec.init_containers, spec.resources, spec.overhead
            )
        workflow = pod.metadata.namespace in self._workflow_namespaces
        if self._move(uid, _Share(node, amounts, workflow)) and bad:
            if not self.bad_fields:
                logger.warning(
                    "pod %s/%s asks for %s, which cannot be read: left out of its node's usage;"
                    " further requests of this kind are only counted",
                    pod.metadata.namespace,
                    pod.metadata.name,
                    bad[0],
                )
            self.bad_fields += len(bad)

    def _counts(self, phase: str) -> bool:
        return phase == "Running" if self._count is CountMode.CONTAINERS else phase not in _ENDED

    def _move(self, uid: str, share: _Share | None) -> bool:
        """Replace what the pod adds; returns whether that is something else than before."""
        known = self._shares.get(uid)
        if share == known:
            return False
        if known is not None:
            del self._shares[uid]
            self._add(known, -1)
        if share is not None:
            self._shares[uid] = share
            self._add(share, 1)
        return True

    def _add(self, share: _Share, sign: int) -> None:
        node = self._nodes.get(share.node)
        if node is None:
            node = self._nodes[share.node] = _Node()
        node.pods += sign
        for index, amount in enumerate(share.amounts):
            node.total[index] += sign * amount
            if not share.workflow:
                node.other[index] += sign * amount
        self._dirty[share.node] = None

    def _report(self, name: str, now: float) -> Message | None:
        node = self._nodes.get(name)
        if node is None:
            return None
        if not node.pods:
            del self._nodes[name]
            if not node.sent:
                return None
        node.hostname = self._hostname_of(name, node)
        body = UpdateNodeUsage(name, node.hostname, _texts(node.total), _texts(node.other))
        payload = encode_body(body)
        if payload == node.sent:
            return None
        node.sent = payload
        self._reported += 1
        if self._counted is not None:
            self._counted.add(name)
        version = Version(self._epoch, self._reported)
        return Message(KIND, name, version, new_id(), now, payload)

    def _hostname_of(self, name: str, node: _Node) -> str:
        return self._hostname(name) or node.hostname or name


def _texts(totals: list[int]) -> dict[str, str]:
    cpu, memory, storage, gpu = totals
    return {
        "cpu": str(-(-cpu // 1000)),
        "memory": f"{memory}Ki",
        "ephemeral-storage": f"{storage}Ki",
        "nvidia.com/gpu": str(gpu),
    }


@lru_cache(REQUESTS_KNOWN)
def _amounts(
    containers: tuple[UsageContainer | SharedContainer, ...],
    init_containers: tuple[UsageContainer | SharedContainer, ...],
    of_pod: ContainerResources,
    overhead: Requests,
) -> tuple[Amounts, tuple[str, ...]]:
    """What a pod asks for, by the scheduler's formula, and the requests that could not be read."""
    bad: list[str] = []
    total = [_read(each.resources.requests, bad) for each in containers]
    sidecars: list[Amounts] = []
    stages: list[Amounts] = []  # one for each init container: it and the sidecars before it
    for container in init_containers:
        needs = _read(container.resources.requests, bad)
        stages.append(_added([*sidecars, needs]))
        if container.restart_policy == _SIDECAR:
            sidecars.append(needs)
    peak = _highest([_added(total + sidecars), *stages])
    # Of the pod as a whole nothing but these two can be asked for.
    for resource in ("cpu", "memory"):
        amount = _rounded_up(resource, getattr(of_pod.requests, resource), bad)
        if amount is not None:
            peak = peak._replace(**{resource: amount})
    return _added([peak, _read(overhead, bad)]), tuple(bad)


def _read(requests: Requests, bad: list[str]) -> Amounts:
    return Amounts(
        _rounded_up("cpu", requests.cpu, bad) or 0,
        _rounded_up("memory", requests.memory, bad) or 0,
        _rounded_up("ephemeral-storage", requests.ephemeral_storage, bad) or 0,
        _rounded_up("nvidia.com/gpu", requests.gpu, bad) or 0,
    )


_UNITS = {
    "cpu": Fraction(1, 1000),
    "memory": Fraction(1024),
    "ephemeral-storage": Fraction(1024),
    "nvidia.com/gpu": Fraction(1),
}


def _rounded_up(resource: str, quantity: Quantity | None, bad: list[str]) -> int | None:
    """A request in the unit that is counted; None: there is none, or it cannot be read and goes to
    `bad`."""
    if quantity is None:
        return None
    try:
        return ceil(parse_quantity(str(quantity)) / _UNITS[resource])
    except ValueError:
        bad.append(f"{str(quantity)[:64]!r} of {resource}")
        return None


def _added(amounts: list[Amounts]) -> Amounts:
    return Amounts(*map(sum, zip(Amounts(0, 0, 0, 0), *amounts, strict=True)))


def _highest(amounts: list[Amounts]) -> Amounts:
    """The highest of each resource."""
    return Amounts(*map(max, zip(Amounts(0, 0, 0, 0), *amounts, strict=True)))
