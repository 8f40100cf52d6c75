"""What the usage listener sums up, rule by rule; a case's id names the section that asks for it."""

import logging

import pytest

from osmo_listener.listeners.objects import UsagePod
from osmo_listener.listeners.usage import UsageConfig
from tests.listener_rules.usage_harness import ZEROS, Asked, World, cores, cpus, make_pod, shown


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


UNCOUNTED = {
    "3.4 not running yet": make_pod("a", cores(1), phase="Pending"),
    "3.4 without a node": make_pod("a", cores(1), node=""),
    "3.4 succeeded": make_pod("a", cores(1), phase="Succeeded"),
    "3.4 failed": make_pod("a", cores(1), phase="Failed"),
    "3.4 in an unknown phase": make_pod("a", cores(1), phase="Unknown"),
}


@pytest.mark.parametrize("pod", UNCOUNTED.values(), ids=UNCOUNTED)
def test_pods_that_do_not_count(pod: UsagePod) -> None:
    """A node of which no pod counts was never heard of: nothing is sent of it."""
    world = World()
    world.add(pod)
    assert shown(world.snapshot(pod)) == {}
    world.change(pod, pod)
    assert world.flush() == []


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
