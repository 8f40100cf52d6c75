"""`osmo-simulator`: a Kubernetes API server in which workflows run."""

from osmo_runtime import garbage  # noqa: F401  (before all that is imported)

# isort: split
import asyncio
import sys
from pathlib import Path

from osmo_runtime import runner
from osmo_simulator.scenario import Scenario, ScenarioConfig
from osmo_transport.bounds import Count, CountOrZero, SecondsOrZero, Seed
from osmo_transport.errors import UsageError
from osmo_transport.lean import dataclass


@dataclass(frozen=True, kw_only=True)
class Settings(runner.ProgramConfig):
    """Serves a Kubernetes API in which workflows run, for demos, tests and benchmarks."""

    listen: str = "127.0.0.1:8080"
    """Address to listen on, HOST:PORT; port 0 picks a free one."""
    nodes: Count = 10
    """Nodes of the cluster."""
    workflows: CountOrZero = 20
    """Workflows that run; 0: none, the cluster is yours to change."""
    seed: Seed = 1
    """The same seed gives the same workflows and ends, and the same cluster uid: another seed makes
    another cluster, also for the operator."""
    pace: SecondsOrZero = 1.0
    """Real seconds that a simulated second takes."""
    namespace: str = "osmo"
    """Namespace of the workflows' pods; it exists from the start."""
    kubeconfig_out: Path | None = None
    """Write a kubeconfig for this cluster to this file."""
    token: str | None = None
    """Bearer token that every request must carry; none: everybody is let in."""


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Run the service."""
    # Here, so that a missing extra is told as every other error is.
    from osmo_simulator.cluster import ClusterConfig  # noqa: PLC0415
    from osmo_simulator.serve import serve  # noqa: PLC0415
    from osmo_simulator.server import Simulator, SimulatorConfig  # noqa: PLC0415

    host, port = _address(settings.listen)

    def started(simulator: Simulator, _: Scenario) -> None:
        if settings.kubeconfig_out is not None:
            _write_private(settings.kubeconfig_out, simulator.kubeconfig(settings.namespace))
        runner.announce(simulator.url)

    scenario = ScenarioConfig(
        seed=settings.seed,
        nodes=settings.nodes,
        workflows=settings.workflows,
        pace=settings.pace,
        namespace=settings.namespace,
    )
    cluster = ClusterConfig(seed=settings.seed)
    config = SimulatorConfig(host=host, port=port, token=settings.token, cluster=cluster)
    await serve(config, scenario, stop, started)


def _address(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    try:
        host.encode("idna")
    except UnicodeError:
        host = ""
    if not host or "/" in host or not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"listen is {listen!r}: it must be HOST:PORT, as in 127.0.0.1:8080")
    return host.strip("[]"), int(port)


def _write_private(path: Path, text: str) -> None:
    try:
        path.touch(mode=0o600)
        path.write_text(text)
    except OSError as exc:
        raise UsageError(f"cannot write the kubeconfig: {exc}") from exc


def main() -> int:
    """Run the program; returns its exit code."""
    return runner.main("osmo-simulator", Settings, run)


if __name__ == "__main__":
    sys.exit(main())
