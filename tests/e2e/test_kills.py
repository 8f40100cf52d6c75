"""The four programs as four processes, each killed and restarted while pods change."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from osmo_transport.testing.redis_server import RedisServer
from osmo_worker.store import Task, open_store
from tests.e2e.backends import Churn, wrong_rows
from tests.e2e.programs import Program, wait_until
from tests.kube import RealCluster, Session

PODS = 85
ROUNDS = 8
CHANGES = 12
SETTLE = 45.0
"""Seconds that the store may take to equal the cluster after the last kill: longer than a lease."""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def read_rows(database: Path) -> list[Task]:
    async def read() -> list[Task]:
        async with open_store(f"sqlite:///{database}") as store:
            return await store.tasks("cluster-a")

    return asyncio.run(read())


class Pipeline:
    """Redis, operator, worker and listener as processes."""

    def __init__(
        self, folder: Path, scheme: str, kubeconfig: Path, redis: RedisServer, stack: ExitStack
    ) -> None:
        self.database = folder / "osmo.db"
        self.redis = redis
        url = f"{scheme}://127.0.0.1:{free_port()}"
        operator = ("--listen", url, "--queue", redis.url)
        worker = ("--queue", redis.url, "--store", f"sqlite:///{self.database}", "--name", "w")
        listener = ("--backend", "cluster-a", "--connect", url, "--kubeconfig", str(kubeconfig))
        self.programs = [
            Program(folder / "operator.log", "osmo_operator", *operator),
            Program(folder / "worker.log", "osmo_worker", *worker),
            Program(folder / "listener.log", "osmo_listener", *listener),
        ]
        for program in self.programs:
            stack.enter_context(program)

    def settled(self, session: Session) -> None:
        """Wait until the rows equal the cluster, or fail with what is wrong and the logs."""
        try:
            wait_until(lambda: not wrong_rows(session, read_rows(self.database)), SETTLE)
        except AssertionError:
            wrong = wrong_rows(session, read_rows(self.database))
            logs = "\n".join(program.log()[-4000:] for program in self.programs)
            pytest.fail(f"{len(wrong)} rows differ: {wrong[:5]}\n{logs}")


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    with RedisServer(appendonly="yes", appendfsync="everysec") as server:
        yield server


@dataclass(frozen=True)
class Backend:
    """A cluster to run against: requests of ours, and a kubeconfig for the listener."""

    session: Session
    kubeconfig: Path


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


@pytest.mark.timeout(180)
@pytest.mark.parametrize("scheme", ["ws", "grpc"])
def test_the_store_equals_the_cluster_whoever_is_killed(
    scheme: str, tmp_path: Path, redis_server: RedisServer, backend: Backend
) -> None:
    """Operator, worker, listener and Redis are killed in turn while 85 pods come, change and go."""
    session = backend.session
    with ExitStack() as stack:
        churn = Churn(session, seed=7)
        churn.create(PODS)
        pipeline = Pipeline(tmp_path, scheme, backend.kubeconfig, redis_server, stack)
        pipeline.settled(session)
        victims = [*pipeline.programs, None]
        for number in range(ROUNDS):
            victim = victims[number % len(victims)]
            churn.step(CHANGES)
            if victim is None:
                redis_server.kill()
            else:
                victim.kill()
            churn.step(CHANGES)
            if victim is None:
                redis_server.restart()
            else:
                victim.start()
            churn.step(CHANGES)
        pipeline.settled(session)
        rows = read_rows(pipeline.database)
        assert sum(row.deleted_at is None for row in rows) == PODS


@pytest.mark.timeout(120)
def test_a_queue_that_lost_its_memory_is_made_up_for(
    tmp_path: Path, redis_server: RedisServer, backend: Backend
) -> None:
    """After FLUSHALL with reports under way, every listener sends a snapshot: deletes included."""
    session = backend.session
    with ExitStack() as stack:
        churn = Churn(session, seed=3)
        churn.create(PODS)
        pipeline = Pipeline(tmp_path, "ws", backend.kubeconfig, redis_server, stack)
        pipeline.settled(session)
        worker = pipeline.programs[1]
        worker.kill()
        churn.step(CHANGES)
        wait_until(lambda: redis_server.command("XLEN", "{osmo}:stream:pods"), 10)
        redis_server.flush()
        worker.start()
        pipeline.settled(session)
