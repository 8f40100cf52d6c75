"""A backend that somebody has reported falsely: one command, and its listener makes it right."""

import asyncio
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from osmo_reports.bodies import SnapshotEnd, UpdatePod, encode_body
from osmo_transport import Version, new_message, open_queue, publish
from osmo_transport.message import MAX_EPOCH
from osmo_transport.testing.redis_server import RedisServer
from osmo_worker.store import Task
from tests.e2e.backends import Backend, Churn, wrong_rows
from tests.e2e.pipeline import BACKEND, SETTLE, Pipeline, wait_for_rows


def poison(url: str) -> None:
    """A task that is none, and the end of a snapshot that has left out all others."""
    version = Version(MAX_EPOCH, 1)
    task = encode_body(UpdatePod("w", "invented", 0, "RUNNING"))
    end = encode_body(SnapshotEnd("update_pod", 0))
    messages = [
        new_message("update_pod", UpdatePod.key("w", "invented", 0), task, version=version),
        new_message("snapshot_end", "update_pod", end, version=version),
    ]

    async def put() -> None:
        async with await open_queue(url) as queue:
            await publish(queue, messages, backend=BACKEND)
            await queue.raise_epochs({BACKEND: MAX_EPOCH - 1})

    asyncio.run(put())


@pytest.mark.timeout(120)
def test_a_poisoned_backend_heals_with_one_command(
    tmp_path: Path, redis_server: RedisServer, backend: Backend
) -> None:
    """Its rows, the ends of its snapshots and its epochs are out of everybody's reach; after the
    command the listener, which runs on, gets an epoch of the clock and sends a snapshot."""
    with ExitStack() as stack:
        churn = Churn(backend.session, seed=5)
        churn.create(20)
        pipeline = Pipeline(tmp_path, "ws", backend.kubeconfig, redis_server, stack)
        pipeline.settled(backend.session)
        poison(redis_server.url)
        wait_for_rows(
            pipeline.database,
            lambda rows: all(row.deleted_at for row in rows if row.task_uuid != "invented"),
            SETTLE,
        )
        command = ("backends", "reset", BACKEND, "--queue", redis_server.url)
        store = ("--store", f"sqlite:///{pipeline.database}")
        done = subprocess.run(
            [sys.executable, "-m", "osmo_pipeline", *command, *store],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "of the future, and lets" in done.stdout
        churn.step(3)

        def right(rows: list[Task]) -> bool:
            true = [row for row in rows if row.task_uuid != "invented"]
            (invented,) = [row for row in rows if row.task_uuid == "invented"]
            return invented.deleted_at is not None and not wrong_rows(backend.session, true)

        wait_for_rows(pipeline.database, right, SETTLE)
        assert pipeline.listener.running
