"""Two listeners of one backend as two processes, over two operators: one reports, the other
waits."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from osmo_transport.testing.ports import free_port
from osmo_transport.testing.redis_server import RedisServer
from tests.e2e.backends import Backend, Churn
from tests.e2e.pipeline import BACKEND, SETTLE, wait_for_cluster
from tests.e2e.programs import Program, wait_until
from tests.e2e.proxy import Proxy

WAITS = "waits as a standby: cluster-a/listener is reported by "
TAKES_OVER = "takes over from "
LEASE, GRACE, INTERVAL, TIMEOUT = 4.0, 1.0, 1.0, 2.0
"""Seconds: short, but a slow machine keeps no live program waiting for its turn as long."""
SOON = 60.0
"""Seconds within which a test expects what takes a few, on however slow a machine."""
SIMULATED = pytest.mark.parametrize("backend", ["simulator"], indirect=True)
"""Whoever waits watches a cluster all the same, which the rolling restart shows of a real one."""


def heartbeat(side: str) -> tuple[str, ...]:
    """Options of a `client` or `server`."""
    session = f"--{side}-session-heartbeat"
    return (f"{session}-interval={INTERVAL}", f"{session}-timeout={TIMEOUT}")


class Replicas:
    """Redis, a worker, an operator for each of two listeners, and proxies on the listeners' way."""

    def __init__(
        self, folder: Path, redis: RedisServer, backend: Backend, stack: ExitStack
    ) -> None:
        self.backend = backend
        self.churn = Churn(backend.session, seed=11)
        self.churn.create(20)
        self.database = folder / "osmo.db"
        lease = (f"--server-lease={LEASE}", f"--server-lease-grace={GRACE}", *heartbeat("server"))
        quick = ("--client-backoff-maximum=0.5", *heartbeat("client"))
        queue = ("--queue", redis.url)
        ports = [free_port(), free_port()]
        self.operators = [
            Program(
                folder / f"operator-{port}.log",
                "osmo_operator",
                *("--listen", f"ws://127.0.0.1:{port}", *queue, *lease),
            )
            for port in ports
        ]
        self.proxies = [stack.enter_context(Proxy(port)) for port in ports]
        self.worker = Program(
            folder / "worker.log",
            "osmo_worker",
            *(*queue, "--store", f"sqlite:///{self.database}", "--name", "worker"),
        )
        self.listeners = [
            Program(
                folder / f"listener-{number}.log",
                "osmo_listener",
                *("--backend", BACKEND, "--connect", f"ws://127.0.0.1:{proxy.port}"),
                *("--kubeconfig", str(backend.kubeconfig), *quick),
            )
            for number, proxy in enumerate(self.proxies)
        ]
        for program in (*self.operators, self.worker):
            stack.enter_context(program)
        first, second = self.listeners
        stack.enter_context(first)
        self.settled()
        stack.enter_context(second)
        wait_until(lambda: WAITS in second.log(), SOON)
        wait_until(lambda: second.log().count("knows all") >= 3, SOON)

    def settled(self) -> None:
        """Wait until the rows equal the cluster."""
        wait_for_cluster(self.backend.session, self.database, SETTLE)

    def goes_on(self) -> None:
        """What changes now is reported too."""
        self.churn.step(5)
        self.settled()

    def fencings(self) -> int:
        """How often a listener was told that another one took over."""
        return sum(each.log().count("overtaken: ") for each in self.listeners)


@pytest.fixture
def replicas(tmp_path: Path, redis_server: RedisServer, backend: Backend) -> Iterator[Replicas]:
    with ExitStack() as stack:
        yield Replicas(tmp_path, redis_server, backend, stack)


@pytest.mark.timeout(300)
def test_a_rolling_restart_hands_over_at_once(replicas: Replicas) -> None:
    """The new one waits, warm, says for whom, and reports when the old one has said goodbye. It
    reports nothing before, and nobody is fenced."""
    old, new = replicas.listeners
    replicas.goes_on()
    assert TAKES_OVER not in new.log()
    assert old.stop() == 0
    wait_until(lambda: TAKES_OVER in new.log(), SOON)
    replicas.goes_on()
    assert new.log().count(WAITS) == new.log().count(TAKES_OVER) == 1
    assert replicas.fencings() == 0
    old.start()
    wait_until(lambda: WAITS in old.log(), SOON)


@SIMULATED
@pytest.mark.timeout(300)
def test_a_killed_listener_is_replaced(replicas: Replicas) -> None:
    """What was deleted meanwhile is told by the successor's snapshot."""
    old, new = replicas.listeners
    old.kill()
    replicas.churn.step(5)
    wait_until(lambda: TAKES_OVER in new.log(), SOON)
    replicas.settled()
    assert replicas.fencings() == 0


@SIMULATED
@pytest.mark.timeout(300)
def test_one_that_hangs_is_replaced_and_stands_by_when_it_wakes_up(replicas: Replicas) -> None:
    """It is fenced at most once, goes on running, and takes over again in its turn."""
    old, new = replicas.listeners
    old.send(signal.SIGSTOP)
    wait_until(lambda: TAKES_OVER in new.log(), SOON)
    replicas.goes_on()
    old.send(signal.SIGCONT)
    wait_until(lambda: WAITS in old.log(), SOON)
    replicas.goes_on()
    assert replicas.fencings() <= 1
    assert new.stop() == 0
    wait_until(lambda: TAKES_OVER in old.log(), SOON)
    replicas.goes_on()
    assert replicas.fencings() <= 1
    assert old.running


@SIMULATED
@pytest.mark.timeout(300)
def test_one_that_no_operator_hears_is_replaced(replicas: Replicas) -> None:
    """The connection is half open for either side; when its listener finds out it stands by."""
    old, new = replicas.listeners
    replicas.proxies[0].swallow()
    wait_until(lambda: TAKES_OVER in new.log(), SOON)
    wait_until(lambda: WAITS in old.log(), SOON)
    replicas.goes_on()
    assert replicas.fencings() <= 1
