"""Fixtures of the programs' tests."""

from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from osmo_simulator.api_server import RealCluster, Session
from osmo_transport.testing.redis_server import RedisServer
from tests.e2e.backends import Backend
from tests.e2e.programs import Program


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    with RedisServer(appendonly="yes", appendfsync="everysec") as server:
        yield server


@pytest.fixture(params=["simulator", pytest.param("real", marks=pytest.mark.cluster)])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    kubeconfig = tmp_path / "kubeconfig"
    if request.param == "real":
        cluster: RealCluster = request.getfixturevalue("real_cluster")
        cluster.clear()
        kubeconfig.touch(mode=0o600)
        kubeconfig.write_text(cluster.kubeconfig())
        with cluster.session() as session:
            yield Backend(session, kubeconfig)
        return
    arguments = ("--listen", "127.0.0.1:0", "--workflows", "0", "--kubeconfig-out", str(kubeconfig))
    with Program(tmp_path / "simulator.log", "osmo_simulator", *arguments) as simulator:
        parts = urlsplit(simulator.url())
        connection = HTTPConnection(parts.hostname or "", parts.port, timeout=30)
        with closing(connection):
            yield Backend(Session(connection, ""), kubeconfig)
