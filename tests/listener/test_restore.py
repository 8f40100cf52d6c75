"""A cluster that is restored from its backup under a running informer, on a real API server."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from osmo_listener.kubernetes.config import Resource
from osmo_listener.kubernetes.kubeconfig import load_kubeconfig
from osmo_listener.kubernetes.listwatch import ListWatch
from osmo_listener.listeners.objects import Pod
from osmo_simulator import api_server
from osmo_simulator.api_server import NAMESPACE, BackedUp
from osmo_simulator.builders import make_pod
from tests.helpers import eventually
from tests.listener.harness import running

PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
WRITES = 30
"""Changes that the backup does not have, besides those that are looked at."""


@pytest.fixture
def backed_up() -> Iterator[BackedUp]:
    """A cluster with a pod `kept` in its backup, and a pod `lost` besides."""
    if api_server.assets() is None:
        pytest.skip(api_server.MISSING)
    with api_server.backed_up() as cluster:
        create(cluster, "kept")
        cluster.stop()
        cluster.save()
        cluster.start()
        create(cluster, "lost")
        for number in range(WRITES):
            touch(cluster, "lost", f"{number}")
        yield cluster


def create(cluster: BackedUp, name: str) -> None:
    """A pod."""
    cluster.cluster.request("POST", PODS, make_pod(name, namespace=NAMESPACE, labels={}))


def touch(cluster: BackedUp, name: str, value: str) -> None:
    """A change of a pod."""
    patch = {"metadata": {"annotations": {"touched": value}}}
    kind = {"Content-Type": "application/merge-patch+json"}
    cluster.cluster.request("PATCH", f"{PODS}/{name}", patch, **kind)


def set_running(cluster: BackedUp, name: str) -> None:
    """Its phase."""
    kind = {"Content-Type": "application/merge-patch+json"}
    patch = {"status": {"phase": "Running"}}
    cluster.cluster.request("PATCH", f"{PODS}/{name}/status", patch, **kind)


async def test_a_restored_cluster_is_seen_as_it_is(
    backed_up: BackedUp, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """As soon as its server is back: what the backup does not hold is gone, what it holds is told
    as it is now, and what follows is not missed."""
    path = tmp_path_factory.mktemp("kube") / "config"
    path.write_text(backed_up.cluster.kubeconfig())
    source = ListWatch(load_kubeconfig(path), Resource(path=PODS, type=Pod))
    async with running(source) as (informer, recorder):
        await informer.synced()
        assert recorder.pods.keys() == {"kept", "lost"}

        def take_back() -> None:
            backed_up.stop()
            backed_up.restore()
            backed_up.start()
            set_running(backed_up, "kept")

        await asyncio.to_thread(take_back)
        began = time.monotonic()
        await eventually(lambda: recorder.pods.keys() == {"kept"}, 60)
        await eventually(lambda: recorder.pods["kept"].status.phase == "Running", 60)
        print(f"seen {time.monotonic() - began:.1f} s after the server was back")  # noqa: T201
        await asyncio.to_thread(create, backed_up, "new")
        await eventually(lambda: recorder.pods.keys() == {"kept", "new"}, 60)
    source.close()
