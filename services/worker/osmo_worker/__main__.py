"""`osmo-worker`: takes reports from the queue and applies them to the state store."""

import asyncio
import logging
import sys
from dataclasses import dataclass

from osmo_runtime import runner
from osmo_runtime.startup import warn_of_private_queue
from osmo_worker.config import WorkerConfig
from osmo_worker.service import run_worker

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Settings(WorkerConfig, runner.ProgramConfig):
    """Takes reports from the queue and applies them to the state that users see."""


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Run the service."""
    warn_of_private_queue(settings.queue)
    await run_worker(settings, stop, lambda: logger.info("ready"))


def main() -> int:
    """Run the program; returns its exit code."""
    return runner.main("osmo-worker", Settings, run)


if __name__ == "__main__":
    sys.exit(main())
