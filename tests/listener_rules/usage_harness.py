"""Pods and reports of the usage listener, written briefly."""

from collections.abc import Iterable
from fractions import Fraction
from math import ceil
from typing import Any

import msgspec

from osmo_listener.listeners.objects import (
    ContainerResources,
    Quantity,
    Requests,
    UsageContainer,
    UsageMetadata,
    UsagePod,
    UsageSpec,
    UsageStatus,
)
from osmo_listener.listeners.usage import CountedPod, UsageConfig, UsageListener
from osmo_reports.bodies import decode_body
from osmo_transport.message import Message

T0 = 1_000_000.0
FLUSH = UsageConfig().flush_interval
RESOURCES = ("cpu", "memory", "ephemeral-storage", "nvidia.com/gpu")
UNITS = {
    "": Fraction(1),
    "m": Fraction(1, 1000),
    "u": Fraction(1, 10**6),
    "k": Fraction(1000),
    "Ki": Fraction(1024),
    "Gi": Fraction(1024**3),
}
"""The suffixes that `recount` reads."""
ZEROS = dict(zip(RESOURCES, ("0", "0Ki", "0Ki", "0"), strict=True))
Totals = dict[str, tuple[dict[str, str], dict[str, str]]]
"""By node: of all pods, and of those that run no workflow."""

Asked = dict[str, Quantity]
"""Requests by resource, as of one container."""

NOTHING: Asked = {}


def make_pod(
    name: str = "a",
    *asked: Asked,
    node: str = "n1",
    namespace: str = "osmo",
    phase: str = "Running",
    uid: str = "",
    rv: int = 1,
    init: Iterable[tuple[Asked, str]] = (),
    whole: Asked = NOTHING,
    overhead: Asked = NOTHING,
) -> UsagePod:
    """A pod with a container for each of `asked` and an init container for each of `init`, which
    are requests and a restart policy; `whole` is asked for the pod as a whole. `uid` defaults to
    one made of its name."""
    spec = UsageSpec(
        node,
        tuple([UsageContainer(_resources(each)) for each in asked]),
        tuple([UsageContainer(_resources(each), policy) for each, policy in init]),
        _resources(whole),
        msgspec.convert(overhead, Requests),
    )
    metadata = UsageMetadata(name, namespace, uid or f"uid-{name}", str(rv))
    return UsagePod(metadata, spec, UsageStatus(phase))


def _resources(asked: Asked) -> ContainerResources:
    return ContainerResources(msgspec.convert(asked, Requests))


def cores(count: int) -> Asked:
    """The requests of a container that asks for so many cores alone."""
    return {"cpu": str(count)}


class World:
    """A listener with the time and the hostnames of its nodes."""

    def __init__(self, config: UsageConfig | None = None) -> None:
        self.hostnames: dict[str, str] = {}
        self.listener = UsageListener(config or UsageConfig(), "osmo", self.hostnames.get)
        self.listener.restart(1)
        self.now = T0
        self.version = 0
        """The highest one that was told."""

    def change(self, old: UsagePod | None, new: UsagePod | None, version: int = 0) -> None:
        """One change, which by itself reports nothing."""
        pod = new or old
        assert pod is not None
        version = version or int(pod.metadata.resource_version)
        self.version = max(self.version, version)
        assert self.listener.on_change(old, new, version, self.now) == []

    def add(self, *pods: UsagePod) -> None:
        """Pods that were not known."""
        for pod in pods:
            self.change(None, pod)

    def snapshot(self, *pods: UsagePod) -> list[Message]:
        """All of a snapshot; `pods` are those alive."""
        return list(self.listener.snapshot(pods, self.version, self.now))

    def flush(self) -> list[Message]:
        """What is due once the interval is over."""
        self.now += FLUSH
        return self.listener.due(self.now)

    def synced(self, *pods: UsagePod) -> None:
        """The first list, and its snapshot."""
        self.add(*pods)
        self.snapshot(*pods)


def shown(messages: list[Message]) -> Totals:
    """Both totals by node, of the reports among `messages`."""
    bodies = [decode(message) for message in messages if message.kind == "update_node_usage"]
    return {body.node: (body.usage, body.non_workflow_usage) for body in bodies}


def cpus(messages: list[Message]) -> dict[str, tuple[str, str]]:
    """The cores of both totals by node."""
    return {node: (usage["cpu"], other["cpu"]) for node, (usage, other) in shown(messages).items()}


def decode(message: Message) -> Any:
    """The body of a message."""
    return decode_body(message.kind, message.payload)


def readable(quantity: Any) -> bool:
    """Whether `number` reads it."""
    return bool(quantity.rstrip("mukKiG").isdecimal())


def number(quantity: Any) -> Fraction:
    """What a quantity stands for."""
    digits = quantity.rstrip("mukKiG")
    return Fraction(digits) * UNITS[quantity[len(digits) :]]


def recount(live: Iterable[CountedPod]) -> Totals:
    """Both totals of each node that has pods, from the pods alone; those in `kube-system` run no
    workflow."""
    sums: dict[tuple[str, bool], Resources] = {}
    for pod in live:
        if pod.status.phase in ("Succeeded", "Failed") or not pod.spec.node_name:
            continue
        totals = [sums.setdefault((pod.spec.node_name, other), {}) for other in (False, True)]
        for total in totals if pod.metadata.namespace == "kube-system" else totals[:1]:
            add(total, pod_requests(pod))
    nodes = {node for node, _ in sums}
    return {node: (texts(sums[node, False]), texts(sums[node, True])) for node in nodes}


Resources = dict[str, int]
"""Amounts by resource, of those that are asked for."""


def pod_requests(pod: CountedPod) -> Resources:
    """What a pod asks for, step by step as the helper `PodRequests` of Kubernetes goes about it."""
    requests: Resources = {}
    for container in pod.spec.containers:
        add(requests, resources(container.resources.requests))
    sidecars: Resources = {}
    init_requests: Resources = {}
    for container in pod.spec.init_containers:
        needs = resources(container.resources.requests)
        if container.restart_policy == "Always":
            add(requests, needs)
            add(sidecars, needs)
            needs = sidecars
        else:
            add(needs, sidecars)
        raise_to(init_requests, needs)
    raise_to(requests, init_requests)
    for resource, amount in resources(pod.spec.resources.requests).items():
        if resource in ("cpu", "memory"):
            requests[resource] = amount
    add(requests, resources(pod.spec.overhead))
    return requests


def resources(asked: Requests) -> Resources:
    """The amounts that are asked for, each rounded up; what cannot be read is not asked for."""
    units = (Fraction(1, 1000), Fraction(1024), Fraction(1024), Fraction(1))
    quantities = (asked.cpu, asked.memory, asked.ephemeral_storage, asked.gpu)
    return {
        resource: ceil(number(quantity) / unit)
        for resource, quantity, unit in zip(RESOURCES, quantities, units, strict=True)
        if quantity is not None and readable(quantity)
    }


def add(total: Resources, more: Resources) -> None:
    """`total` grows by `more`."""
    for resource, amount in more.items():
        total[resource] = total.get(resource, 0) + amount


def raise_to(total: Resources, floor: Resources) -> None:
    """`total` is at least `floor`."""
    for resource, amount in floor.items():
        total[resource] = max(total.get(resource, 0), amount)


def texts(total: Resources) -> dict[str, str]:
    """A total as it is reported."""
    amounts = [total.get(resource, 0) for resource in RESOURCES]
    values = f"{ceil(amounts[0] / 1000)}", f"{amounts[1]}Ki", f"{amounts[2]}Ki", f"{amounts[3]}"
    return dict(zip(RESOURCES, values, strict=True))
