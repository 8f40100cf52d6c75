"""`python -m tests.e2e.own_kind KUBECONFIG STORE`: listener, operator and worker in one process,
over a queue in memory, as they report a kind of others. SIGTERM ends it."""

import asyncio
import signal
import sys
from pathlib import Path

import anyio

from osmo_listener.config import ListenerConfig
from osmo_listener.service import run_listener
from osmo_operator.config import OperatorConfig
from osmo_operator.service import run_operator
from osmo_transport.kinds import Kind, Policy, kind_of
from osmo_worker.config import WorkerConfig
from osmo_worker.service import run_worker

QUEUE = "memory://own-kind"


async def main(kubeconfig: str, store: str) -> None:
    """Run until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    serving: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
    working = asyncio.Event()
    async with anyio.create_task_group() as tasks:
        operator = OperatorConfig(listen=("memory://",), queue=QUEUE)
        tasks.start_soon(run_operator, operator, stop, serving.set_result)
        (url,) = await serving
        # The operator has been told of the kind by what is installed, before any listener has.
        assert kind_of("job_state") == Kind(Policy.LATEST, "jobs")
        tasks.start_soon(run_worker, WorkerConfig(queue=QUEUE, store=store), stop, working.set)
        await working.wait()
        config = ListenerConfig(
            backend="cluster-a",
            connect=url,
            kubeconfig=Path(kubeconfig),
            listeners=("workflow", "jobs"),
        )
        tasks.start_soon(run_listener, config, stop)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
