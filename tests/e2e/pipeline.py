"""Redis, operators, workers and a listener as processes, and the ledger that has to balance."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from osmo_listener.listeners.workflow import WorkflowConfig
from osmo_pipeline.verify import differences, expected_tasks
from osmo_simulator.api_server import Session
from osmo_transport import DeadLetter, QueueStatus, open_queue
from osmo_transport.testing.ports import free_port
from osmo_transport.testing.redis_server import RedisServer
from osmo_worker.store import StateStore, Task, open_store
from tests.e2e.backends import cluster_pods, wrong_rows
from tests.e2e.programs import Program, wait_until
from tests.e2e.proxy import Proxy

BACKEND = "cluster-a"
SETTLE = 45.0
"""Seconds that the store may take to equal the cluster: longer than a lease."""

IMPATIENT = ("--limits-lease=2", "--limits-claim-interval=0.2", "--backoff-maximum=0.5")
"""What operators and workers are told where a test waits for leases to end."""


def heartbeat(side: str) -> tuple[str, ...]:
    """Options of a `client` or `server` that notices a dead connection within a second."""
    session = f"--{side}-session-heartbeat"
    return (f"{session}-interval=0.3", f"{session}-timeout=0.5")


def read_rows(database: Path) -> list[Task]:
    """What users see of the backend."""

    async def read() -> list[Task]:
        async with open_store(f"sqlite:///{database}") as store:
            return await store.tasks(BACKEND)

    return asyncio.run(read())


def wait_for_store(
    database: Path, question: Callable[[StateStore], Awaitable[object]], timeout: float
) -> None:
    """Return as soon as the answer is true. It is asked for over one connection: to open one costs
    as much as many looks."""

    async def wait() -> None:
        deadline = time.monotonic() + timeout
        async with open_store(f"sqlite:///{database}") as store:
            while not await question(store):
                assert time.monotonic() < deadline, f"not in {database} after {timeout} s"
                await asyncio.sleep(0.02)

    asyncio.run(wait())


def wait_for_rows(database: Path, accepted: Callable[[list[Task]], object], timeout: float) -> None:
    """Return as soon as what users see of the backend is accepted."""

    async def question(store: StateStore) -> object:
        return accepted(await store.tasks(BACKEND))

    wait_for_store(database, question, timeout)


def wait_for_cluster(session: Session, database: Path, timeout: float) -> None:
    """Return as soon as the rows equal the cluster, in which nothing changes meanwhile."""
    expected = expected_tasks(cluster_pods(session), WorkflowConfig())
    wait_for_rows(database, lambda rows: not any(differences(expected, rows)), timeout)


def read_queue(url: str) -> tuple[QueueStatus, list[DeadLetter]]:
    """The queue's figures, and its first dead letters."""

    async def read() -> tuple[QueueStatus, list[DeadLetter]]:
        async with await open_queue(url) as queue:
            return await queue.status(), await queue.dead_letters(100)

    return asyncio.run(read())


class Pipeline:
    """Every program but the cluster's. `impatient`: leases, delays and heartbeats are short.
    `proxied`: the listener reaches the operators through `proxy`, else the first one."""

    def __init__(
        self,
        folder: Path,
        scheme: str,
        kubeconfig: Path,
        redis: RedisServer,
        stack: ExitStack,
        *,
        operators: int = 1,
        workers: int = 1,
        proxied: bool = False,
        impatient: bool = False,
    ) -> None:
        self.database = folder / "osmo.db"
        self.redis = redis
        ports = [free_port() for _ in range(operators)]
        self.proxy = stack.enter_context(Proxy(*ports))
        reached = self.proxy.port if proxied else ports[0]
        short = IMPATIENT if impatient else ()
        server = (*short, *heartbeat("server")) if impatient else ()
        client = ("--client-backoff-maximum=0.5", *heartbeat("client")) if impatient else ()
        queue = ("--queue", redis.url, "--log-level=DEBUG")
        self.operators = [
            Program(
                folder / f"operator-{port}.log",
                "osmo_operator",
                *("--listen", f"{scheme}://127.0.0.1:{port}", *queue, *server),
            )
            for port in ports
        ]
        store = ("--store", f"sqlite:///{self.database}")
        self.workers = [
            Program(folder / f"{name}.log", "osmo_worker", *queue, *store, "--name", name, *short)
            for name in (f"worker-{number}" for number in range(workers))
        ]
        connect = ("--connect", f"{scheme}://127.0.0.1:{reached}", "--kubeconfig", str(kubeconfig))
        self.listener = Program(
            folder / "listener.log",
            "osmo_listener",
            *("--backend", BACKEND, *connect, "--log-level=DEBUG", *client),
        )
        self.programs = [*self.operators, *self.workers, self.listener]
        for program in self.programs:
            stack.enter_context(program)

    def settled(self, session: Session, *, dead: int = 0) -> None:
        """Wait until the rows equal the cluster and nothing is left in the queue but `dead` dead
        letters, or fail with what is wrong and the logs."""
        try:
            wait_for_cluster(session, self.database, SETTLE)
            wait_until(lambda: not _left(self.redis), SETTLE)
        except AssertionError:
            wrong = wrong_rows(session, read_rows(self.database))
            logs = "\n".join(program.log()[-4000:] for program in self.programs)
            pytest.fail(f"{len(wrong)} rows differ: {wrong[:5]}; {_left(self.redis)}\n{logs}")
        letters = read_queue(self.redis.url)[1]
        assert len(letters) == dead, letters


def _left(redis: RedisServer) -> int:
    status = read_queue(redis.url)[0]
    return sum(status.waiting.values()) + sum(status.pending.values())
