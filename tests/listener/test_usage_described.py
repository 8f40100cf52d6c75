"""The usage of a node on a real API server: what `kubectl describe node` says is right."""

import asyncio
import os
import re
import subprocess
from math import ceil
from pathlib import Path
from typing import Any

import pytest

from osmo_listener.kubernetes.listwatch import ListWatch
from osmo_listener.kubernetes.quantity import parse_quantity
from osmo_listener.listeners.objects import UsagePod
from osmo_listener.listeners.registry import USAGE
from osmo_simulator import api_server as kube
from osmo_simulator.builders import make_node
from tests.listener.clusters import PODS, Real
from tests.listener_rules.owner import Owner, informer_of, usage_listener

KUBECTL = kube.kubectl()

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(KUBECTL is None, reason="kubectl is not installed"),
]

NODE = "n1"
RUNTIMES = "/apis/node.k8s.io/v1/runtimeclasses"


def asks(cpu: str = "", memory: str = "") -> dict[str, Any]:
    """The `resources` of a container or a pod."""
    quantities = {"cpu": cpu, "memory": memory}
    return {"resources": {"requests": {name: text for name, text in quantities.items() if text}}}


SIDECAR = {"restartPolicy": "Always"}
SPECS: dict[str, dict[str, Any]] = {
    "plain": {"containers": [asks("1", "1Gi"), {}]},
    "sidecars": {
        "initContainers": [
            SIDECAR | asks("2", "64Mi"),
            asks("7", "3Gi"),
            SIDECAR | asks("500m", "1Gi"),
        ],
        "containers": [asks("1", "1Gi"), asks("250m")],
    },
    "whole": {**asks("8", "2Gi"), "containers": [asks("1", "512Mi"), {}]},
    "half-whole": {**asks(memory="4Gi"), "containers": [asks("1500m", "1Gi")]},
    "heavy": {"runtimeClassName": "heavy", "containers": [asks("1", "1Gi")]},
    "pending": {"containers": [asks("16", "5Gi")]},
    "ended": {"containers": [asks("32", "9Gi")]},
    "failed": {"containers": [asks("64", "9Gi")]},
}
"""Of pods, by their names."""
PHASES = {"plain": "Running", "sidecars": "Running", "ended": "Succeeded", "failed": "Failed"}
"""Of those that are not pending."""


def fill(cluster: kube.RealCluster) -> None:
    """Bind the pods to the node, and one to another."""
    overhead = {"podFixed": {"cpu": "250m", "memory": "120Mi"}}
    runtime = {"metadata": {"name": "heavy"}, "handler": "heavy", "overhead": overhead}
    with cluster.session() as session:
        session.request("POST", "/api/v1/nodes", make_node(NODE))
        session.request("POST", RUNTIMES, runtime)
        for name, spec in {**SPECS, "elsewhere": SPECS["plain"]}.items():
            for key in ("initContainers", "containers"):
                for number, container in enumerate(spec.get(key, [])):
                    container.update(name=f"{key.lower()}-{number}", image="i")
            node = "n2" if name == "elsewhere" else NODE
            pod = {"metadata": {"name": name}, "spec": {"nodeName": node, **spec}}
            session.request("POST", PODS, pod)
            if phase := PHASES.get(name):
                status = {"status": {"phase": phase}}
                session.request("PATCH", f"{PODS}/{name}/status", status)


def described(cluster: kube.RealCluster, folder: Path) -> dict[str, str]:
    """The requests on the node, as kubectl adds them up."""
    config = folder / "config"
    config.write_text(cluster.kubeconfig())
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "KUBECONFIG": str(config)}
    command = [KUBECTL or "", "describe", "node", NODE]
    text = subprocess.run(
        command, env=environment, check=True, capture_output=True, text=True, timeout=60
    ).stdout
    _, _, allocated = text.partition("Allocated resources:")
    return dict(re.findall(r"^ +(cpu|memory) +(\S+)", allocated, re.MULTILINE))


async def test_beside_describe_node(real_cluster: kube.RealCluster, tmp_path: Path) -> None:
    """Sidecars, init containers, requests of whole pods, overhead, and which pods count."""
    real_cluster.clear()
    try:
        await asyncio.to_thread(fill, real_cluster)
        source = ListWatch(Real(tmp_path, real_cluster).credentials(), USAGE.resource("osmo"))
        owner = Owner[UsagePod](usage_listener())
        async with informer_of(source, owner) as informer:
            owner.objects = informer.store.values
            await informer.synced()
            usage, _ = owner.totals()[NODE]
        source.close()
        expected = await asyncio.to_thread(described, real_cluster, tmp_path)
    finally:
        await asyncio.to_thread(real_cluster.request, "DELETE", f"{RUNTIMES}/heavy")
        real_cluster.clear()
    assert expected == {"cpu": "36750m", "memory": "16568Mi"}
    assert usage["cpu"] == str(ceil(parse_quantity(expected["cpu"])))
    assert usage["memory"] == f"{parse_quantity(expected['memory']) // 1024}Ki"
