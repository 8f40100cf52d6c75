"""The four programs as four processes, each killed and restarted while pods change."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from osmo_transport.testing.redis_server import RedisServer
from tests.e2e.backends import Backend, Churn
from tests.e2e.pipeline import Pipeline, read_rows
from tests.e2e.programs import wait_until

PODS = 85
ROUNDS = 8
CHANGES = 12
WAYS = [
    ("simulator", "ws"),
    ("simulator", "grpc"),
    # How reports travel on says nothing of where they come from.
    pytest.param("real", "ws", marks=pytest.mark.cluster),
]


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("backend", "scheme"), WAYS, indirect=["backend"])
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
        worker = pipeline.workers[0]
        worker.kill()
        churn.step(CHANGES)
        wait_until(lambda: redis_server.command("XLEN", "{osmo}:stream:pods"), 10)
        redis_server.flush()
        worker.start()
        pipeline.settled(session)
