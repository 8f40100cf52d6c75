"""What the usage listener sums up, rule by rule; a case's id names the section that asks for it."""

import logging
from collections.abc import Callable
from typing import Any

import pytest

from osmo_listener.kubernetes.json_decoding import JsonDecoder
from osmo_listener.kubernetes.protobuf_decoding import ProtobufDecoder
from osmo_listener.listeners.objects import SharedPod, UsagePod
from osmo_listener.listeners.slimming import slim_shared_pod, slim_usage_pod
from osmo_listener.listeners.usage import CountedPod, CountMode, UsageConfig, UsageListener
from tests.listener import protobuf, wire
from tests.listener_rules.usage_harness import (
    T0,
    ZEROS,
    Asked,
    World,
    cores,
    cpus,
    make_pod,
    shown,
)


def asks(
    cpu: str = "0", memory: str = "0Ki", storage: str = "0Ki", gpu: str = "0"
) -> dict[str, str]:
    """A total, as it is reported."""
    return {"cpu": cpu, "memory": memory, "ephemeral-storage": storage, "nvidia.com/gpu": gpu}


SUMS: list[tuple[str, list[Asked], dict[str, str]]] = [
    ("3.4 all four keys, always", [], asks()),
    (
        "3.4 every resource",
        [{"cpu": "2", "memory": "4Gi", "ephemeral-storage": "1Gi", "nvidia.com/gpu": "8"}],
        asks("2", "4194304Ki", "1048576Ki", "8"),
    ),
    ("3.4 sum over the containers", [cores(1), {"cpu": "500m"}, {"cpu": "1.5"}], asks("3")),
    ("3.4 cores are rounded up", [{"cpu": "2001m"}], asks("3")),
    ("3.4 cores are rounded up once, over all", [{"cpu": "500m"}] * 2, asks("1")),
    ("3.4 cpu up to milli per container", [{"cpu": "333300u"}] * 3, asks("2")),
    ("3.4 memory up to Ki per container", [{"memory": "1025"}] * 2, asks(memory="4Ki")),
    ("3.4 storage up to Ki per container", [{"ephemeral-storage": "1"}] * 2, asks(storage="2Ki")),
    ("3.4 powers of 1000", [{"memory": "1M"}], asks(memory="977Ki")),
    ("3.4 exponent", [{"memory": "2e3"}], asks(memory="2Ki")),
    ("3.4 numbers", [{"cpu": 1.5, "nvidia.com/gpu": 1}], asks("2", gpu="1")),
    ("3.4 beyond 64 bits", [{"memory": "9Ei"}] * 2, asks(memory="20266198323167232Ki")),
]


@pytest.mark.parametrize(("asked", "total"), [case[1:] for case in SUMS], ids=[c[0] for c in SUMS])
def test_sums(asked: list[Asked], total: dict[str, str]) -> None:
    """What the containers of a pod ask for becomes the total of its node."""
    world = World()
    world.add(pod := make_pod("a", *asked))
    assert shown(world.snapshot(pod)) == {"n1": (total, ZEROS)}


def test_3_4_two_totals() -> None:
    """3.4: one total is of all pods, the other of those outside the workflows' namespace."""
    world = World()
    pods = [
        make_pod("a", cores(1)),
        make_pod("b", cores(2), namespace="kube-system"),
        make_pod("c", cores(4), namespace="batch"),
        make_pod("d", cores(8), node="n2"),
    ]
    world.add(*pods)
    assert cpus(world.snapshot(*pods)) == {"n1": ("7", "6"), "n2": ("8", "0")}


def test_3_4_namespaces_that_count_as_workflows() -> None:
    """3.4: pods of the named namespaces count as workflows."""
    world = World(UsageConfig(include_namespace_usage=("batch", "more")))
    pods = [
        make_pod("a", cores(1)),
        make_pod("b", cores(2), namespace="batch"),
        make_pod("c", cores(4), namespace="kube-system"),
    ]
    world.add(*pods)
    assert cpus(world.snapshot(*pods)) == {"n1": ("7", "4")}


CONTAINERS = UsageConfig(count=CountMode.CONTAINERS)
"""As the deployed systems count."""

UNCOUNTED = {
    "without a node": (make_pod("a", cores(1), node="", phase="Pending"), UsageConfig()),
    "succeeded": (make_pod("a", cores(1), phase="Succeeded"), UsageConfig()),
    "failed": (make_pod("a", cores(1), phase="Failed"), UsageConfig()),
    "3.4 not running yet": (make_pod("a", cores(1), phase="Pending"), CONTAINERS),
    "3.4 without a node": (make_pod("a", cores(1), node=""), CONTAINERS),
    "3.4 succeeded": (make_pod("a", cores(1), phase="Succeeded"), CONTAINERS),
    "3.4 failed": (make_pod("a", cores(1), phase="Failed"), CONTAINERS),
    "3.4 in an unknown phase": (make_pod("a", cores(1), phase="Unknown"), CONTAINERS),
}


@pytest.mark.parametrize(("pod", "config"), UNCOUNTED.values(), ids=UNCOUNTED)
def test_pods_that_do_not_count(pod: UsagePod, config: UsageConfig) -> None:
    """A node of which no pod counts was never heard of: nothing is sent of it."""
    world = World(config)
    world.add(pod)
    assert shown(world.snapshot(pod)) == {}
    world.change(pod, pod)
    assert world.flush() == []


@pytest.mark.parametrize("phase", ["Pending", "Running", "Unknown"])
def test_a_pod_counts_while_it_has_a_node(phase: str) -> None:
    """The scheduler has given it room, whatever has come of it since."""
    world = World()
    world.add(pod := make_pod("a", cores(16), phase=phase))
    assert cpus(world.snapshot(pod)) == {"n1": ("16", "0")}


SIDECAR = "Always"
RESERVED: dict[str, tuple[UsagePod, str]] = {
    "a sidecar runs beside the containers": (
        make_pod("a", cores(1), init=[(cores(2), SIDECAR)]),
        "3",
    ),
    "an init container runs before them": (make_pod("a", cores(3), init=[(cores(2), "")]), "3"),
    "the highest of init containers": (
        make_pod("a", cores(1), init=[(cores(4), ""), (cores(2), "")]),
        "4",
    ),
    "an init container beside the sidecars before it": (
        make_pod("a", cores(1), init=[(cores(2), SIDECAR), (cores(4), ""), (cores(1), SIDECAR)]),
        "6",
    ),
    "of the whole pod instead": (
        make_pod("a", cores(1), cores(2), init=[(cores(9), "")], whole=cores(8)),
        "8",
    ),
    "overhead besides": (make_pod("a", cores(1), whole=cores(8), overhead=cores(2)), "10"),
    "of the whole pod, and unreadable": (make_pod("a", cores(1), whole={"cpu": "x"}), "1"),
}


@pytest.mark.parametrize(("pod", "total"), RESERVED.values(), ids=RESERVED)
def test_what_the_scheduler_reserves(pod: UsagePod, total: str) -> None:
    """Sidecars, init containers, the pod as a whole and its overhead."""
    world = World()
    world.add(pod)
    assert cpus(world.snapshot(pod)) == {"n1": (total, "0")}


def test_each_resource_for_itself() -> None:
    """What is asked for the pod as a whole, and what an init container needs, is looked at by
    resource."""
    pod = make_pod(
        "a",
        {"cpu": "1", "memory": "3Ki", "nvidia.com/gpu": "1"},
        init=[({"cpu": "2", "memory": "1Ki", "nvidia.com/gpu": "2"}, "")],
        whole={"memory": "9Ki", "nvidia.com/gpu": "7"},
    )
    world = World()
    world.add(pod)
    assert shown(world.snapshot(pod)) == {"n1": (asks("2", memory="9Ki", gpu="2"), ZEROS)}


def test_as_the_deployed_systems_count() -> None:
    """The containers of running pods alone, where it is asked for."""
    world = World(CONTAINERS)
    pod = make_pod(
        "a", cores(1), init=[(cores(2), SIDECAR)], whole=cores(8), overhead=cores(1), node="n1"
    )
    world.add(pod)
    assert cpus(world.snapshot(pod)) == {"n1": ("1", "0")}


CPU = {name: {"resources": {"requests": {"cpu": name}}} for name in ("1", "2", "8", "16")}
DESCRIBED: list[dict[str, Any]] = [
    {
        "spec": {
            "initContainers": [{"restartPolicy": SIDECAR, **CPU["2"]}],
            "containers": [CPU["1"]],
        },
        "status": {"phase": "Running"},
    },
    {"spec": {**CPU["8"], "containers": [{}]}, "status": {"phase": "Running"}},
    {"spec": {"containers": [CPU["16"]]}, "status": {"phase": "Pending"}},
]
"""A pod with a sidecar, one that asks as a whole, and one that has a node and is not started."""


@pytest.mark.parametrize(
    ("config", "total"), [(UsageConfig(), "27"), (CONTAINERS, "1")], ids=lambda each: str(each)[:40]
)
@pytest.mark.parametrize(
    ("kind", "transform"),
    [(UsagePod, slim_usage_pod), (SharedPod, slim_shared_pod("osmo"))],
    ids=["alone", "shared"],
)
@pytest.mark.parametrize("decoder", [JsonDecoder, ProtobufDecoder])
def test_usage_beside_describe_node(
    decoder: type[JsonDecoder[CountedPod]],
    kind: type[CountedPod],
    transform: Callable[[CountedPod], CountedPod],
    config: UsageConfig,
    total: str,
) -> None:
    """Pods as the API server writes them: `kubectl describe node` says 27 cores."""
    listed = []
    for number, pod in enumerate(DESCRIBED):
        metadata = {"name": f"pod-{number}", "namespace": "osmo", "uid": f"uid-{number}"}
        spec = {"nodeName": "n1", **pod["spec"]}
        listed.append({**pod, "metadata": metadata | {"resourceVersion": "1"}, "spec": spec})
    encode = wire.pod_list if decoder is JsonDecoder else protobuf.pod_list
    pods = decoder(kind, transform).page(encode(9, listed)).objects
    listener = UsageListener(config, "osmo", lambda _: None)
    listener.restart(1)
    assert cpus(list(listener.snapshot(pods, 9, T0))) == {"n1": (total, "0")}


@pytest.mark.parametrize(
    "asked", ["x", "", "1 Gi", "1e99", "1" * 100], ids=lambda text: f"3.4 {text[:5]!r}"
)
def test_request_that_cannot_be_read(asked: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is left out and counted, the pod counts with the rest, and the log says so once."""
    world = World()
    pods = [make_pod(name, {"cpu": asked, "memory": "1Ki"}, cores(1)) for name in "abc"]
    with caplog.at_level(logging.WARNING):
        world.add(*pods)
        assert shown(world.snapshot(*pods)) == {"n1": (asks("3", memory="3Ki"), ZEROS)}
        for pod in pods:
            world.change(pod, pod)
    assert world.listener.bad_fields == 3
    (record,) = caplog.records
    assert "osmo/a" in record.getMessage()
    assert len(record.getMessage()) < 300
