"""A simulated cluster that listens, with verbs for what happens in it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from osmo_simulator.cluster import ClusterConfig
from osmo_simulator.server import Simulator, SimulatorConfig
from osmo_simulator.verbs import ClusterVerbs

BOOKMARK_INTERVAL = 0.05
"""Seconds between two bookmarks of a watch in which nothing happens: by them a listener knows that
it has seen everything, and a test should not wait for that."""


class SimulatedCluster(ClusterVerbs):
    """What `open_cluster` opens: an API server, and verbs for what happens behind it."""

    def __init__(self, simulator: Simulator, kubeconfig: Path, namespace: str) -> None:
        super().__init__(simulator.cluster, namespace)
        self.simulator = simulator
        """The server: its URL, its faults, its restarts."""
        self.kubeconfig = kubeconfig
        """A file that leads there."""


@asynccontextmanager
async def open_cluster(
    folder: Path, *, nodes: int = 1, namespace: str = "osmo"
) -> AsyncIterator[SimulatedCluster]:
    """A cluster with the nodes `node-0` and so on, which listens on a free port until the context
    is left; its kubeconfig is written into `folder`."""
    namespaces = tuple(dict.fromkeys((*ClusterConfig().namespaces, namespace)))
    config = SimulatorConfig(
        bookmark_interval=BOOKMARK_INTERVAL, cluster=ClusterConfig(namespaces=namespaces)
    )
    async with Simulator(config) as simulator:
        kubeconfig = folder / f"kubeconfig-{simulator.url.rpartition(':')[2]}"
        kubeconfig.touch(mode=0o600)
        kubeconfig.write_text(simulator.kubeconfig(namespace))
        cluster = SimulatedCluster(simulator, kubeconfig, namespace)
        for number in range(nodes):
            cluster.add_node(f"node-{number}")
        yield cluster
