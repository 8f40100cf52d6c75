"""The configuration of the all-in-one process."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated

from osmo_runtime.fields import Setting
from osmo_runtime.logs import LogLevel
from osmo_runtime.operations import ServiceConfig
from osmo_runtime.queues import QueueLayout
from osmo_runtime.runner import ProgramConfig
from osmo_transport.bounds import Count, SecondsOrZero, Seed

DEFAULT_DATABASE = Path("osmo-demo.db")


class Carrier(Enum):
    """The transports that work within one machine without further set-up."""

    MEMORY = "memory"
    WS = "ws"
    GRPC = "grpc"


@dataclass(frozen=True, kw_only=True)
class DemoConfig(ServiceConfig):
    """Runs a whole backend in one process: a simulated cluster (or one of yours), listener,
    operator, queue, worker and database; ends by checking that the database equals the cluster."""

    transport: Carrier = Carrier.WS
    """What carries reports from the listener to the operator."""
    queue: str = "memory://demo"
    """URL of the queue (memory, redis, rediss, valkey, valkeys), which no other worker may read."""
    store: str | None = None
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
    settle_timeout: SecondsOrZero = 30.0
    """Seconds that the store may take to equal the cluster once everything has happened."""
    log_level: LogLevel = LogLevel.WARNING
    """The least severe log records that are written."""


@dataclass(frozen=True, kw_only=True)
class CommandConfig(ProgramConfig):
    """What every command that tells operators something needs to know."""

    queue: str = "redis://127.0.0.1:6379"
    """URL of the operators' queue (redis, rediss, valkey, valkeys)."""
    layout: QueueLayout = "own"
    """How the queue is laid out, as the operators are told."""
    log_level: LogLevel = LogLevel.WARNING
    """The least severe log records that are written."""


@dataclass(frozen=True, kw_only=True)
class BackendConfig(CommandConfig):
    """Prints the rules of a backend, as `rules set` takes them."""

    backend: Annotated[str, Setting(positional=True)]
    """Name of the backend."""


@dataclass(frozen=True, kw_only=True)
class ForgetConfig(BackendConfig):
    """Frees the name of a backend for another cluster, and lets the default rules hold for it. Stop
    its listeners first: they go on, and take the name again when they connect anew."""


@dataclass(frozen=True, kw_only=True)
class ResetConfig(BackendConfig):
    """Makes good what no report of a backend reaches any more, because something was reported or
    given out with an epoch of the future: its listeners begin anew, and what they then report
    counts. Let the workers catch up first: what waits in the queue is applied later."""

    store: str
    """URL of the workers' state store (sqlite, postgresql)."""


@dataclass(frozen=True, kw_only=True)
class RulesConfig(CommandConfig):
    """Replaces the rules by which the nodes of a backend are available: of each condition whose
    type a pattern finds, the status has to match. The backend's listeners are told at once."""

    backend: Annotated[str, Setting(positional=True)]
    """Name of the backend."""
    rules: Annotated[dict[str, str], Setting(positional=True, metavar="TYPE=STATUS")]
    """Pattern of a condition's type, and pattern of its status, for example Ready=True
    '^Gpu.*Problem$=False|Unknown'."""

    def __post_init__(self) -> None:
        if not self.rules:
            raise ValueError("name at least one rule; Ready=True is what a backend begins with")
