"""The configuration of the all-in-one process."""

from collections.abc import Iterator
from dataclasses import field
from pathlib import Path
from typing import Annotated

from osmo_pipeline.fleet import Patience
from osmo_runtime.fields import Setting
from osmo_runtime.logs import LogLevel
from osmo_runtime.operations import ServiceConfig
from osmo_runtime.queues import QueueLayout
from osmo_runtime.runner import ProgramConfig
from osmo_transport.bounds import Count, Seconds, SecondsOrZero, Seed
from osmo_transport.lean import dataclass
from osmo_worker.config import StoreConfig

DEFAULT_DATABASE = Path("osmo-demo.db")


@dataclass(frozen=True, kw_only=True)
class DemoConfig(ServiceConfig):
    """Runs a whole backend in one process: a simulated cluster (or one of yours), listener,
    operator, queue, worker and database; ends by checking that the database equals the cluster."""

    transport: str = "ws"
    """What carries reports from the listener to the operator: memory, ws, grpc, or another scheme
    that is installed and listens on 127.0.0.1 without further set-up."""
    queue: str = field(default="memory://demo", repr=False)
    """URL of the queue (memory, redis, rediss, valkey, valkeys, or another scheme that is
    installed), which no other worker may read."""
    store: str | None = field(default=None, repr=False)
    """URL of the state store (sqlite, postgresql, memory); none: a new file, osmo-demo.db."""
    nodes: Count = 10
    """Nodes of the simulated cluster."""
    workflows: Count = 20
    """Workflows that run in it."""
    seed: Seed = 1
    """The same seed gives the same workflows and ends."""
    pace: SecondsOrZero = 0.5
    """Real seconds that a simulated second takes."""
    kubeconfig: Path | None = None
    """Follow this cluster instead of a simulated one, until Ctrl-C."""
    namespace: str = "osmo"
    """Namespace of the workflows' pods."""
    web: str = "127.0.0.1:0"
    """Address of the page that shows it meanwhile; port 0: a free one. Empty: none."""
    settle_timeout: SecondsOrZero = 30.0
    """Seconds that the store may take to equal the cluster once everything has happened."""
    log_level: LogLevel = LogLevel.WARNING
    """The least severe log records that are written."""

    def without_effect(self) -> Iterator[tuple[str, str]]:
        """See `ProgramConfig`."""
        if self.kubeconfig is not None:
            for key in ("nodes", "workflows", "seed", "pace"):
                yield key, "--kubeconfig is set, and no cluster is simulated"


@dataclass(frozen=True, kw_only=True)
class CommandConfig(ProgramConfig):
    """What every command about a queue needs to know."""

    queue: str = field(default="redis://127.0.0.1:6379", repr=False)
    """URL of the operators' queue (redis, rediss, valkey, valkeys, or another scheme that is
    installed)."""
    queue_password_file: Path | None = None
    """File with the password of the queue in Redis, which its URL then leaves out; read again for
    each connection, so that a new password needs no restart."""
    layout: QueueLayout = "own"
    """How the queue is laid out, as the operators are told."""
    log_level: LogLevel = LogLevel.WARNING
    """The least severe log records that are written."""


@dataclass(frozen=True, kw_only=True)
class StorePasswordConfig(ProgramConfig):
    """What every command about the state store can be told."""

    store_password_file: Path | None = None
    """File with the password of the store in PostgreSQL, which its URL then leaves out; read again
    for each connection, so that a new password needs no restart."""


@dataclass(frozen=True, kw_only=True)
class PatienceConfig(CommandConfig):
    """What every command needs to know that tells how backends do."""

    silent_after: Seconds = StoreConfig.silent_after
    """Seconds without a heartbeat after which a backend is silent: three are missing, as listeners
    send them by default."""
    blind_after: Seconds = 95.0
    """Seconds without a word of its API server after which a listener is blind: as long as it
    counts as ready itself, with the limits that it has by default."""

    @property
    def patience(self) -> Patience:
        """Both of them."""
        return Patience(self.silent_after, self.blind_after)


@dataclass(frozen=True, kw_only=True)
class BackendConfig(CommandConfig):
    """What every command about one backend needs to know."""

    backend: Annotated[str, Setting(positional=True)]
    """Name of the backend."""


@dataclass(frozen=True, kw_only=True)
class ViewConfig(CommandConfig):
    """What every command that shows something needs to know."""

    json: bool = False
    """Write one JSON document, for programs, instead of a table."""
