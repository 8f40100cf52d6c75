"""What the chart renders, run as processes: a whole pipeline, and another one in its place."""

import json
import re
import signal
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from osmo_transport.testing.ports import free_port
from osmo_transport.testing.redis_server import RedisServer
from tests.deploy.pods import Pod, pods
from tests.deploy.test_alerts import FIGURES, checked_by_promtool
from tests.deploy.tools import promtool, rendered
from tests.e2e.backends import Backend, Churn
from tests.e2e.pipeline import BACKEND, read_queue, wait_for_cluster
from tests.e2e.programs import Program, wait_until
from tests.e2e.proxy import Proxy

SOON = 60.0
"""Seconds within which a test expects what takes a few, on however slow a machine."""
ADDRESSES = {"operator": "127.0.0.1", "worker": "127.0.0.2", "listener": "127.0.0.3"}
"""Of the pods: each has its own, and so may have the ports of another one."""


class Running:
    """A pod of one generation."""

    def __init__(self, pod: Pod, log: Path, operations: int) -> None:
        self._url = f"http://{ADDRESSES[pod.component]}:{operations}"
        self.grace = pod.grace
        self.program = Program(
            log, pod.program.replace("-", "_"), *pod.arguments, environment=pod.environment
        )

    def get(self, path: str) -> str:
        """What its operations port answers.

        Raises:
            OSError: nothing, or that it is not so.
        """
        with urllib.request.urlopen(f"{self._url}{path}", timeout=5) as answer:
            return str(answer.read().decode())

    def ready(self) -> bool:
        """Whether its readiness probe would say so."""
        try:
            return bool(json.loads(self.get("/readyz"))["ready"])
        except OSError:
            return False


class Cluster:
    """A cluster that is followed, Redis, a database file, and the Service of the operators."""

    def __init__(self, folder: Path, backend: Backend, redis: RedisServer) -> None:
        self._folder = folder
        self._backend = backend
        self._redis = redis
        self._ports = [free_port(), free_port()]
        self.service = Proxy(*self._ports)
        self._database = folder / "osmo.db"
        self.churn = Churn(backend.session, seed=12)
        self.churn.create(20)

    def generation(self, number: int) -> dict[str, Running]:
        """The pods of one, by component. It has ports of its own, as in an update that changes
        them."""
        operations = free_port()
        made = rendered(
            "minimal",
            {
                "queue.urlSecret.name": "osmo-queue",
                "store.urlSecret.name": "osmo-store",
                "operationsPort": operations,
                "operator.ports": {"ws": self._ports[number], "grpc": 0},
                "listener.backend": BACKEND,
                "listener.connect": f"ws://127.0.0.1:{self.service.port}",
                "listener.env": [{"name": "KUBECONFIG", "value": str(self._backend.kubeconfig)}],
            },
        )
        secrets = {
            ("osmo-queue", "url"): self._redis.url,
            ("osmo-store", "url"): f"sqlite:///{self._database}",
        }
        folder = self._folder / str(number)
        folder.mkdir()
        return {
            name: Running(pod, folder / f"{name}.log", operations)
            for name, pod in pods(made, folder, secrets, ADDRESSES).items()
        }

    def settled(self) -> None:
        """Wait until the rows equal the cluster, and nothing is left in the queue."""
        wait_for_cluster(self._backend.session, self._database, SOON)

        def left() -> int:
            status = read_queue(self._redis.url)[0]
            return sum(status.waiting.values()) + sum(status.pending.values()) + status.dead

        wait_until(lambda: not left(), SOON)


@pytest.fixture
def cluster(tmp_path: Path, backend: Backend, redis_server: RedisServer) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path, backend, redis_server)
    with cluster.service:
        yield cluster


@pytest.mark.timeout(300)
@pytest.mark.parametrize("backend", ["simulator"], indirect=True)
def test_a_rolling_update_loses_nothing(cluster: Cluster) -> None:
    """Each program is replaced as its Deployment has it: the new one is ready, then the old one is
    asked to stop, and ends within its time. The cluster changes all of the while. No snapshot makes
    up for what an operator or a worker might lose: each listener has one epoch."""
    old, new = cluster.generation(0), cluster.generation(1)
    with ExitStack() as stack:
        for each in old.values():
            stack.enter_context(each.program)
        wait_until(lambda: all(each.ready() for each in old.values()), SOON)
        cluster.settled()
        told = {name: each.get("/metrics") for name, each in old.items()}
        for name in ("operator", "worker", "listener"):
            cluster.churn.step(5)
            stack.enter_context(new[name].program)
            wait_until(new[name].ready, SOON)
            cluster.churn.step(5)
            old[name].program.send(signal.SIGTERM)
            cluster.churn.step(5)
            assert old[name].program.wait(old[name].grace) == 0
            cluster.churn.step(5)
            cluster.settled()
        before, after = (each["listener"].program.log() for each in (old, new))
    assert before.count("connected to") == 2
    assert len(set(re.findall(r"epoch (\d+)", before))) == 1
    assert after.count("takes over from") == len(re.findall(r"epoch \d+", after)) == 1
    assert "overtaken" not in before + after
    for name, text in told.items():
        figures = set(re.findall(r"^# TYPE (\w+)", text, re.MULTILINE))
        assert figures - {"target_info"} <= set(FIGURES), name
        if promtool():
            checked_by_promtool("check", "metrics", given=text)
