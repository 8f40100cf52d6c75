"""`osmo-operator`: takes reports from listeners and stores them in the queue."""

from osmo_runtime import garbage  # noqa: F401  (before all that is imported)

# isort: split
import asyncio
import sys
from collections.abc import Iterator

from osmo_operator.config import OperatorConfig
from osmo_operator.service import run_operator
from osmo_runtime import runner
from osmo_runtime.operations import ServiceConfig, open_operations
from osmo_runtime.startup import warn_of_private_queue
from osmo_transport.lean import dataclass
from osmo_transport.transports.abc import PLAIN


@dataclass(frozen=True, kw_only=True)
class Settings(OperatorConfig, ServiceConfig):
    """Takes reports from listeners, stores them in the queue, and acknowledges what is stored."""

    def without_effect(self) -> Iterator[tuple[str, str]]:
        """See `ProgramConfig`."""
        schemes = {url.partition("://")[0] for url in self.listen}
        if schemes <= PLAIN:
            yield "server.tls", "no URL of --listen is wss:// or grpcs://"
        if not schemes & {"grpc", "grpcs"}:
            yield "deployed", "deployed listeners come over grpc:// and grpcs://, see --listen"
        if self.layout == "osmo":
            yield "limits.weights", "the layout osmo has one stream"


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
