"""`osmo-pipeline bench`: the benchmarks, which are in the repository and not in the package."""

import asyncio
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from osmo_runtime import runner
from osmo_transport.errors import MissingExtraError

if TYPE_CHECKING:
    from osmo_benchmarks.config import BenchConfig


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    try:
        from osmo_benchmarks.config import BenchConfig  # noqa: PLC0415
        from osmo_benchmarks.errors import BenchmarkError, PlanError  # noqa: PLC0415
    except ModuleNotFoundError:
        sys.stderr.write(
            "osmo-pipeline bench: the benchmarks are not in the package, but in the repository:\n"
            f"git clone {_repository()}, and there: make bench\n"
        )
        return runner.ExitCode.MISUSED
    errors: runner.ErrorCodes = {
        BenchmarkError: runner.ExitCode.FAILED,
        PlanError: runner.ExitCode.MISUSED,
    }
    return runner.main("osmo-pipeline bench", BenchConfig, _run, argv=argv, errors=errors)


async def _run(config: "BenchConfig", stop: asyncio.Event) -> None:
    try:
        from osmo_benchmarks.bench import run_bench  # noqa: PLC0415
    except ImportError as exc:
        raise MissingExtraError(
            f"the benchmarks need {exc.name}: pip install 'osmo-pipeline[bench]'"
        ) from exc
    await run_bench(config, stop)


def _repository() -> str:
    from importlib.metadata import metadata  # noqa: PLC0415  (slow, and no other command needs it)

    urls = metadata("osmo-pipeline").get_all("Project-URL") or []
    named: dict[str, str] = dict(url.split(", ", 1) for url in urls)
    return named["Source"]
