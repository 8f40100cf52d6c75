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
"""The requests of one container, by resource."""


def make_pod(
    name: str = "a",
    *asked: Asked,
    node: str = "n1",
    namespace: str = "osmo",
    phase: str = "Running",
    uid: str = "",
    rv: int = 1,
) -> UsagePod:
    """A pod with a container for each of `asked`; `uid` defaults to one made of its name."""
    containers = [
        UsageContainer(ContainerResources(msgspec.convert(requests, Requests)))
        for requests in asked
    ]
    return UsagePod(
        UsageMetadata(name, namespace, uid or f"uid-{name}", str(rv)),
        UsageSpec(node, tuple(containers)),
        UsageStatus(phase),
    )


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


def number(quantity: Any) -> Fraction:
    """What a quantity stands for; what cannot be read is nothing."""
    digits = quantity.rstrip("mukKiG") if quantity is not None else ""
    return Fraction(digits) * UNITS[quantity[len(digits) :]] if digits.isdecimal() else Fraction(0)


def recount(live: Iterable[CountedPod]) -> Totals:
    """Both totals of each node that has pods, from the pods alone; those in `kube-system` run no
    workflow."""
    sums: dict[tuple[str, bool], list[int]] = {}
    for pod in live:
        if pod.status.phase != "Running" or not pod.spec.node_name:
            continue
        totals = [sums.setdefault((pod.spec.node_name, other), [0] * 4) for other in (False, True)]
        for total in totals if pod.metadata.namespace == "kube-system" else totals[:1]:
            for container in pod.spec.containers:
                asked = container.resources.requests
                total[0] += ceil(number(asked.cpu) * 1000)
                total[1] += ceil(number(asked.memory) / 1024)
                total[2] += ceil(number(asked.ephemeral_storage) / 1024)
                total[3] += ceil(number(asked.gpu))
    nodes = {node for node, _ in sums}
    return {node: (texts(sums[node, False]), texts(sums[node, True])) for node in nodes}


def texts(total: list[int]) -> dict[str, str]:
    """A total as it is reported."""
    values = (f"{ceil(total[0] / 1000)}", f"{total[1]}Ki", f"{total[2]}Ki", f"{total[3]}")
    return dict(zip(RESOURCES, values, strict=True))
