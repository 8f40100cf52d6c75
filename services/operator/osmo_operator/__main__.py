"""`osmo-operator`: takes reports from listeners and stores them in the queue."""

import asyncio
import sys
from dataclasses import dataclass

from osmo_operator.config import OperatorConfig
from osmo_operator.service import run_operator
from osmo_runtime import runner
from osmo_runtime.operations import ServiceConfig, open_operations
from osmo_runtime.startup import warn_of_private_queue


@dataclass(frozen=True, kw_only=True)
class Settings(OperatorConfig, ServiceConfig):
    """Takes reports from listeners, stores them in the queue, and acknowledges what is stored."""


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Run the service."""
    warn_of_private_queue(settings.queue)
    async with open_operations("osmo-operator", settings, stop) as operations:
        await run_operator(settings, stop, _announce, operations=operations)


def _announce(urls: list[str]) -> None:
    for url in urls:
        runner.announce(url)


def main() -> int:
    """Run the program; returns its exit code."""
    return runner.main("osmo-operator", Settings, run)


if __name__ == "__main__":
    sys.exit(main())
