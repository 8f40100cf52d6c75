"""`osmo-listener`: follows one cluster and reports to the operator."""

from osmo_runtime import garbage  # noqa: F401  (before all that is imported)

# isort: split
import asyncio
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Annotated

from osmo_listener.config import BackendName, ListenerConfig
from osmo_listener.errors import KubeconfigError, ListenerError
from osmo_runtime import runner
from osmo_runtime.fields import Setting
from osmo_runtime.operations import ServiceConfig, open_operations
from osmo_transport.lean import dataclass
from osmo_transport.naming import setting
from osmo_transport.transports.abc import PLAIN

NAME_IN_WORDS = "up to 63 letters, digits, '-', '_' and '.', a letter or digit at both ends"


@dataclass(frozen=True, kw_only=True)
class Settings(ListenerConfig, ServiceConfig):
    """Follows the pods, nodes and events of one Kubernetes cluster and reports every change to the
    operator."""

    backend: Annotated[BackendName, Setting(aliases=("BACKEND",), allowed=NAME_IN_WORDS)] = (
        ListenerConfig.backend
    )
    """Name of the cluster, the same in every restart: with it users find its tasks. Letters,
    digits, `-`, `_` and `.`, at most 63, a letter or digit at both ends."""
    kubeconfig: Annotated[Path | None, Setting(aliases=("KUBECONFIG",))] = None
    """Kubeconfig file, or several joined by colons; none: the service account of the pod it runs
    in, else ~/.kube/config."""

    def without_effect(self) -> Iterator[tuple[str, str]]:
        """See `ProgramConfig`."""
        if self.connect.partition("://")[0] in PLAIN:
            yield "client.tls", "the URL of --connect is not wss:// or grpcs://"
        for rules in fields(self.rules):
            if rules.name not in self.listeners:
                yield f"rules.{rules.name}", f"--listeners does not name {rules.name}"
        if not self.rules.node.label or "node" not in self.listeners:
            yield "labeller", f"no node is labelled without {setting('rules.node.label')}"
        if not self.report_logs:
            yield "log_reports", "--no-report-logs is set"


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
        errors={KubeconfigError: runner.ExitCode.MISUSED, ListenerError: runner.ExitCode.FAILED},
    )


if __name__ == "__main__":
    sys.exit(main())
