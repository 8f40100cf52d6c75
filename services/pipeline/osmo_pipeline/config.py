"""The configuration of the all-in-one process."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated

import msgspec

from osmo_runtime.logs import LogLevel
from osmo_runtime.runner import ProgramConfig

DEFAULT_DATABASE = Path("osmo-demo.db")


class Carrier(Enum):
    """The transports that work within one machine without further set-up."""

    MEMORY = "memory"
    WS = "ws"
    GRPC = "grpc"


@dataclass(frozen=True, kw_only=True)
class DemoConfig(ProgramConfig):
    """Runs a whole backend in one process: a simulated cluster (or one of yours), listener,
    operator, queue, worker and database; ends by checking that the database equals the cluster."""

    transport: Carrier = Carrier.WS
    """What carries reports from the listener to the operator."""
    queue: str = "memory://demo"
    """URL of the queue (memory, redis, rediss), which no other worker may read."""
    store: str | None = None
    """URL of the state store (sqlite, postgresql, memory); none: a new file, osmo-demo.db."""
    nodes: Annotated[int, msgspec.Meta(ge=1)] = 10
    """Nodes of the simulated cluster."""
    workflows: Annotated[int, msgspec.Meta(ge=1)] = 20
    """Workflows that run in it."""
    seed: int = 1
    """The same seed gives the same workflows and ends."""
    pace: Annotated[float, msgspec.Meta(ge=0)] = 0.5
    """Real seconds that a simulated second takes."""
    kubeconfig: Path | None = None
    """Follow this cluster instead of a simulated one, until Ctrl-C."""
    namespace: str = "osmo"
    """Namespace of the workflows' pods."""
    settle_timeout: float = 30.0
    """Seconds that the store may take to equal the cluster once everything has happened."""
    log_level: LogLevel = LogLevel.WARNING
    """The least severe log records that are written."""
