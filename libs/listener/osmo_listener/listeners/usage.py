"""The usage listener: what the pods that run on each node ask for.

Each node has two totals of `resources.requests`: of all its pods, and of those that run no
workflow. They are kept up to date with every change and reported at intervals, because users look
at the sums and pods come in bursts. The rules:

- A pod counts, once by its uid, while its phase is Running and it has a node. Its requests may
  change meanwhile. Only `spec.containers` count: no init container, no overhead.
- Of each container, `cpu` counts in thousandths of a core and `memory` and `ephemeral-storage` in
  Ki, rounded up; a report rounds a node's cores up once more.
- A request that cannot be read is left out and counted; the pod's others count.
- A node is reported if its totals or its hostname differ from what was last reported in the epoch.
  When its last pod has gone, zeros are reported once and the node is forgotten; a node of which
  nothing was reported in the epoch has no zeros either.
- The first reports of an epoch are its snapshot: nothing is reported from half a list.
- Every report has a higher version than the one before, of whatever node: a total has no resource
  version of its own, and a node that is forgotten may come back.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import msgspec

from osmo_listener.kubernetes.quantity import parse_quantity
from osmo_listener.listeners.objects import Quantity, Requests, SharedPod, UsagePod
from osmo_reports.bodies import SnapshotEnd, UpdateNodeUsage, encode_body
from osmo_transport.bounds import Seconds
from osmo_transport.message import Message, Version, new_id

logger = logging.getLogger(__name__)

KIND = "update_node_usage"
FIELD_SELECTOR = "status.phase=Running"
"""The pods that count; one that no longer does reaches a watch as DELETED."""

REQUESTS_KNOWN = 4096
"""Different requests of pods whose sums are remembered: a pod is made from a template, and there
are far fewer of those."""

CountedPod = UsagePod | SharedPod
"""A pod from a watch of its own, or from one that the workflow listener shares."""


@dataclass(frozen=True, kw_only=True)
class UsageConfig:
    """How the usage of nodes is reported; times in seconds."""

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


@dataclass(slots=True)
class _Node:
    hostname: str = ""
    """As last reported; empty: not known yet."""
    pods: int = 0
    total: list[int] = field(default_factory=lambda: [0] * len(Amounts._fields))
    other: list[int] = field(default_factory=lambda: [0] * len(Amounts._fields))
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
        self._interval = config.flush_interval
        self._workflow_namespaces = frozenset({namespace, *config.include_namespace_usage})
        self._hostname = hostname
        self._epoch = 0
        self._seen = 0
        """The highest resource version."""
        self._reported = 0
        """The version of the last report."""
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
        self._seen = max(self._seen, resource_version)
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
        self._seen = max(self._seen, resource_version)
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
        if pod.status.phase != "Running" or not node:
            self._move(uid, None)
            return
        requests = tuple([container.resources.requests for container in pod.spec.containers])
        amounts, bad = _amounts(requests)
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
        self._reported = max(self._seen, self._reported + 1)
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
def _amounts(containers: tuple[Requests, ...]) -> tuple[Amounts, tuple[str, ...]]:
    """The sums over a pod's containers, and the requests that could not be read."""
    bad: list[str] = []

    def rounded_up(resource: str, quantity: Quantity | None, numerator: int, unit: int) -> int:
        if quantity is None:
            return 0
        try:
            number = parse_quantity(str(quantity))
        except ValueError:
            bad.append(f"{str(quantity)[:64]!r} of {resource}")
            return 0
        return -(-number * numerator // unit)

    sums = [0] * len(Amounts._fields)
    for asked in containers:
        sums[0] += rounded_up("cpu", asked.cpu, 1000, 1)
        sums[1] += rounded_up("memory", asked.memory, 1, 1024)
        sums[2] += rounded_up("ephemeral-storage", asked.ephemeral_storage, 1, 1024)
        sums[3] += rounded_up("nvidia.com/gpu", asked.gpu, 1, 1)
    return Amounts(*sums), tuple(bad)
