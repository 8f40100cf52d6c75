"""`osmo-pipeline`: the commands that need every part."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from osmo_benchmarks.config import BenchConfig
from osmo_benchmarks.errors import BenchmarkError, PlanError
from osmo_listener.errors import KubeconfigError, ListenerError
from osmo_pipeline import commands
from osmo_pipeline.config import BackendConfig, DemoConfig, ForgetConfig, ResetConfig, RulesConfig
from osmo_pipeline.errors import DemoError
from osmo_runtime import __version__, runner
from osmo_runtime.operations import open_operations
from osmo_runtime.runner import ProgramConfig
from osmo_transport.errors import MissingExtraError
from osmo_worker.errors import WorkerError

USAGE = """\
usage: osmo-pipeline [--help] [--version] COMMAND [options]

commands:
  demo                             run a whole backend in one process, and check it at the end
  rules set BACKEND TYPE=STATUS …  say by which conditions the nodes of a backend are available
  rules get BACKEND                print these rules
  backends reset BACKEND           let what a backend reports count again, whatever is in its way
  backends forget BACKEND          free the name of a backend for another cluster
  bench [TABLE …]                  measure this project beside others, and show who is ahead

osmo-pipeline COMMAND --help tells a command's options.
"""


async def demo(config: DemoConfig, stop: asyncio.Event) -> None:
    """Run the demo."""
    # Here, so that a missing extra is told as every other error is.
    from osmo_pipeline.demo import run_demo  # noqa: PLC0415

    async with open_operations("osmo-pipeline", config, stop) as operations:
        await run_demo(config, stop, operations)


async def bench(config: BenchConfig, stop: asyncio.Event) -> None:
    """Run the benchmarks."""
    try:
        from osmo_benchmarks.bench import run_bench  # noqa: PLC0415
    except ImportError as exc:
        raise MissingExtraError(
            f"the benchmarks need {exc.name}: pip install 'osmo-pipeline[bench]'"
        ) from exc
    await run_bench(config, stop)


def main() -> int:
    """Run the program; returns its exit code."""
    return runner.until_unread(_main)


class Command(NamedTuple):
    """What runs under a name."""

    config: type[ProgramConfig]
    run: Callable[[Any, asyncio.Event], Coroutine[Any, Any, None]]


COMMANDS = {
    ("demo",): Command(DemoConfig, demo),
    ("rules", "set"): Command(RulesConfig, commands.set_rules),
    ("rules", "get"): Command(BackendConfig, commands.get_rules),
    ("backends", "reset"): Command(ResetConfig, commands.reset_backend),
    ("backends", "forget"): Command(ForgetConfig, commands.forget_backend),
    ("bench",): Command(BenchConfig, bench),
}

ERRORS = {
    BenchmarkError: runner.FAILED,
    PlanError: runner.MISUSED,
    DemoError: runner.FAILED,
    KubeconfigError: runner.MISUSED,
    ListenerError: runner.FAILED,
    WorkerError: runner.FAILED,
}


def _main() -> int:
    arguments = sys.argv[1:] or ["--help"]
    for words in (tuple(arguments[:2]), tuple(arguments[:1])):
        if words in COMMANDS:
            config, run = COMMANDS[words]
            name = " ".join(("osmo-pipeline", *words))
            return runner.main(name, config, run, argv=arguments[len(words) :], errors=ERRORS)
    if arguments[0] in ("--help", "-h") or arguments[1:2] in (["--help"], ["-h"]):
        sys.stdout.write(USAGE)
        return 0
    if arguments[0] == "--version":
        sys.stdout.write(f"osmo-pipeline {__version__}\n")
        return 0
    said = " ".join(arguments[:2] if (arguments[0],) in _GROUPS else arguments[:1])
    sys.stderr.write(f"osmo-pipeline: no command {said!r}\n\n{USAGE}")
    return runner.MISUSED


_GROUPS = {words[:1] for words in COMMANDS if len(words) > 1}


if __name__ == "__main__":
    sys.exit(main())
