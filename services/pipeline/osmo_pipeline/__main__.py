"""`osmo-pipeline`: the commands that need every part."""

import asyncio
import sys

from osmo_listener.errors import KubeconfigError, ListenerError
from osmo_pipeline.config import DemoConfig
from osmo_pipeline.errors import DemoError
from osmo_runtime import runner
from osmo_runtime.cli import version
from osmo_worker.errors import WorkerError

USAGE = """\
usage: osmo-pipeline [--help] [--version] COMMAND [options]

commands:
  demo    run a whole backend in one process, and check it at the end

osmo-pipeline COMMAND --help tells a command's options.
"""


async def demo(config: DemoConfig, stop: asyncio.Event) -> None:
    """Run the demo."""
    # Here, so that a missing extra is told as every other error is.
    from osmo_pipeline.demo import run_demo  # noqa: PLC0415

    await run_demo(config, stop)


def main() -> int:
    """Run the program; returns its exit code."""
    return runner.until_unread(_main)


def _main() -> int:
    command, *arguments = sys.argv[1:] or ["--help"]
    if command == "demo":
        return runner.main(
            "osmo-pipeline demo",
            DemoConfig,
            demo,
            argv=arguments,
            errors={
                DemoError: runner.FAILED,
                KubeconfigError: runner.MISUSED,
                ListenerError: runner.FAILED,
                WorkerError: runner.FAILED,
            },
        )
    if command in ("--help", "-h"):
        sys.stdout.write(USAGE)
        return 0
    if command == "--version":
        sys.stdout.write(f"osmo-pipeline {version()}\n")
        return 0
    sys.stderr.write(f"osmo-pipeline: no command {command!r}\n\n{USAGE}")
    return runner.MISUSED


if __name__ == "__main__":
    sys.exit(main())
