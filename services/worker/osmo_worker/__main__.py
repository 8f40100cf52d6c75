"""`osmo-worker`: takes reports from the queue and applies them to the state store; and
`osmo-worker migrate`, which brings that store's tables to the version of this release."""

import asyncio
import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import field
from pathlib import Path

from osmo_runtime import runner
from osmo_runtime.completion import complete
from osmo_runtime.operations import ServiceConfig, open_operations
from osmo_runtime.queues import store_url
from osmo_runtime.startup import unless_stopped, warn_of_private_queue
from osmo_transport.lean import dataclass
from osmo_worker.config import StoreConfig, WorkerConfig
from osmo_worker.errors import HandlerUnavailableError
from osmo_worker.service import run_worker

MIGRATE = "migrate"
"""The command, as the first argument."""

DUE = 3
"""Exit code of `migrate --check` when there is something to do."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Settings(WorkerConfig, ServiceConfig):
    """Takes reports from the queue and applies them to the state that users see. `osmo-worker
    migrate --help` tells of its other command."""

    def without_effect(self) -> Iterator[tuple[str, str]]:
        """See `ProgramConfig`."""
        if self.handler is not None:
            for key in ("store", "store_limits", "store_password_file"):
                yield key, "--handler is set, and the state store is not used"
        if self.layout == "osmo":
            yield "group", "the layout osmo has the group message_workers"
            yield "limits.weights", "the layout osmo has one stream"


@dataclass(frozen=True, kw_only=True)
class MigrateSettings(runner.ProgramConfig):
    """Brings the tables of the state store to the version of this release, their rows kept. A
    worker does so itself when it starts; this is for doing it before. Exits with 0 when nothing is
    left to do, with 1 when it failed, with 2 when the database is not fit, and with 3 when
    `--check` found something to do."""

    store: str = field(default=WorkerConfig.store, repr=False)
    """URL of the state store: `sqlite:///PATH` or `postgresql://HOST/NAME`."""
    store_password_file: Path | None = None
    """File with the password of the store in PostgreSQL, which its URL then leaves out; read again
    for each connection, so that a new password needs no restart."""
    check: bool = False
    """Change nothing: say only whether there is something to do."""
    store_limits: StoreConfig = field(default_factory=StoreConfig)
    """Times of the state store."""


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Run the service."""
    warn_of_private_queue(settings.queue)
    async with open_operations("osmo-worker", settings, stop) as operations:
        await run_worker(settings, stop, lambda: logger.info("ready"), operations=operations)


def main() -> int:
    """Run the program; returns its exit code."""
    complete("osmo-worker", {(): Settings, (MIGRATE,): MigrateSettings})
    if sys.argv[1:2] == [MIGRATE]:
        return _migrate(sys.argv[2:])
    return runner.main("osmo-worker", Settings, run, commands=(MIGRATE,))


def _migrate(argv: Sequence[str]) -> int:
    due = False

    async def run_migrate(settings: MigrateSettings, stop: asyncio.Event) -> None:
        nonlocal due
        # The service may have a handler of its own, and then needs no database driver.
        from osmo_worker.store.migrating import migrate_store  # noqa: PLC0415

        where = store_url(settings.store, settings.store_password_file)
        work = migrate_store(where, settings.store_limits, check=settings.check)
        steps = await unless_stopped(work, stop)
        if steps is not None:
            due = settings.check and steps.found != steps.target
            none = "no database" if steps.absent else "no tables"
            found = f"version {steps.found}" if steps.found else none
            sys.stdout.write(f"{steps.name}: {found} -> version {steps.target}\n")

    errors: dict[type[Exception], int] = {HandlerUnavailableError: runner.ExitCode.FAILED}
    code = runner.main(
        f"osmo-worker {MIGRATE}", MigrateSettings, run_migrate, argv=argv, errors=errors
    )
    return DUE if due and not code else code


if __name__ == "__main__":
    sys.exit(main())
