"""The page as the chart renders it, run as a process."""

import http.client
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from osmo_transport.testing.ports import free_port
from osmo_transport.testing.redis_server import RedisServer
from osmo_worker.store import open_store
from tests.deploy.pods import pods
from tests.deploy.tools import rendered
from tests.e2e.programs import Program

ADDRESS = "127.0.0.4"
"""Of the pod."""


@pytest.mark.timeout(60)
async def test_the_page_of_a_release(redis_server: RedisServer, tmp_path: Path) -> None:
    """Alone in its release. It answers by the names of its Service, by that of the ingress and to
    its probes, which ask by the address of the pod; and to nobody else. It ends when it is asked
    to."""
    port = free_port()
    changes = {
        **{f"{name}.enabled": False for name in ("operator", "worker", "listener")},
        "queue.urlSecret.name": "osmo-queue",
        "store.urlSecret.name": "osmo-store",
        "web.enabled": True,
        "web.port": port,
        "web.hosts": ["osmo.example"],
    }
    store = f"sqlite:///{tmp_path}/osmo.db"
    async with open_store(store) as tables:
        await tables.check()
    secrets = {("osmo-queue", "url"): redis_server.url, ("osmo-store", "url"): store}
    (pod,) = pods(rendered("minimal", changes), tmp_path, secrets, {"web": ADDRESS}).values()
    module, command = pod.program.replace("-", "_").split()
    log = tmp_path / "web.log"
    with Program(log, module, command, *pod.arguments, environment=pod.environment) as program:
        where = urlsplit(program.url())
        assert (where.hostname, where.port) == (ADDRESS, port)

        def status(host: str) -> int:
            connection = http.client.HTTPConnection(ADDRESS, port, timeout=10)
            connection.request("GET", "/", headers={"Host": host})
            answer = connection.getresponse()
            connection.close()
            return answer.status

        inside = ("pipeline-web", "pipeline-web.osmo", "pipeline-web.osmo.svc")
        for host in (*inside, "osmo.example", f"{ADDRESS}:{port}", f"localhost:{port}"):
            assert status(host) == http.client.OK, host
        assert status("other.example") == http.client.FORBIDDEN
        assert program.stop() == 0
