"""Fixtures of the simulator's tests."""

from collections.abc import AsyncIterator

import pytest

from osmo_simulator.api_server import RealCluster
from osmo_simulator.server import Simulator, SimulatorConfig
from tests.simulator.harness import ApiClient, real_client, simulator_client


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    """A simulator with bookmarks that a test need not wait for."""
    async with Simulator(SimulatorConfig(bookmark_interval=0.05)) as simulator:
        yield simulator


@pytest.fixture
async def client(sim: Simulator) -> AsyncIterator[ApiClient]:
    """A client of the simulator."""
    async with simulator_client(sim) as api:
        yield api


@pytest.fixture(params=["simulator", pytest.param("real", marks=pytest.mark.cluster)])
async def api(request: pytest.FixtureRequest) -> AsyncIterator[ApiClient]:
    """A client of each server: what passes on both is how Kubernetes behaves."""
    if request.param == "simulator":
        async with Simulator() as simulator, simulator_client(simulator) as client:
            yield client
    else:
        cluster: RealCluster = request.getfixturevalue("real_cluster")
        async with real_client(cluster) as client:
            yield client
