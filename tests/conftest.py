"""Fixtures of every area; what tests import stands in modules beside this one."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from osmo_simulator import api_server as kube

settings.register_profile("long", deadline=None, max_examples=10_000)
# A run says the same as the one before it, on a slow and busy machine too; `long` is for the hunt.
settings.register_profile(
    "usual", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("usual")


@pytest.fixture(scope="session")
def real_cluster() -> Iterator[kube.RealCluster]:
    """A real API server for the whole session, or a skip that says what is missing."""
    if kube.assets() is None:
        pytest.skip(kube.MISSING)
    with kube.start() as cluster:
        yield cluster
