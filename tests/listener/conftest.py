"""Fixtures of the informer's tests."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from osmo_simulator.api_server import RealCluster
from osmo_simulator.server import Simulator, SimulatorConfig
from tests.listener.clusters import Cluster, Real, Simulated


@pytest.fixture
async def simulated(tmp_path: Path) -> AsyncIterator[Simulated]:
    """A simulator that wants a token and sends bookmarks often."""
    config = SimulatorConfig(token="simulator-token", bookmark_interval=0.05)
    async with Simulator(config) as simulator:
        yield Simulated(tmp_path, simulator)


@pytest.fixture(params=["simulator", pytest.param("real", marks=pytest.mark.cluster)])
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Cluster:
    """Each kind of cluster; its namespace `osmo` is empty."""
    if request.param == "simulator":
        simulated: Simulated = request.getfixturevalue("simulated")
        return simulated
    real: RealCluster = request.getfixturevalue("real_cluster")
    real.clear()
    return Real(tmp_path, real)
