"""`osmo-listener`: follows one cluster and reports to the operator."""

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from osmo_listener.config import ListenerConfig
from osmo_listener.errors import KubeconfigError, ListenerError
from osmo_runtime import runner
from osmo_runtime.fields import Setting
from osmo_runtime.operations import ServiceConfig, open_operations


@dataclass(frozen=True, kw_only=True)
class Settings(ListenerConfig, ServiceConfig):
    """Follows the pods, nodes and events of one Kubernetes cluster and reports every change to the
    operator."""

    backend: Annotated[str, Setting(aliases=("BACKEND",))] = ListenerConfig.backend
    """Name of the cluster, the same in every restart: with it users find its tasks."""
    kubeconfig: Annotated[Path | None, Setting(aliases=("KUBECONFIG",))] = None
    """Kubeconfig file, or several joined by colons; none: the service account of the pod it runs
    in, else ~/.kube/config."""


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Run the service."""
    # Here, so that a missing extra is told as every other error is.
    from osmo_listener.service import run_listener  # noqa: PLC0415

    async with open_operations("osmo-listener", settings, stop) as operations:
        await run_listener(settings, stop, operations=operations)


def main() -> int:
    """Run the program; returns its exit code."""
    return runner.main(
        "osmo-listener",
        Settings,
        run,
        errors={KubeconfigError: runner.MISUSED, ListenerError: runner.FAILED},
    )


if __name__ == "__main__":
    sys.exit(main())
