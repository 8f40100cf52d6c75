"""How a service is told to show itself."""

from pathlib import Path

from osmo_runtime.runner import ProgramConfig
from osmo_transport.bounds import Seconds
from osmo_transport.lean import dataclass


@dataclass(frozen=True, kw_only=True)
class ServiceConfig(ProgramConfig):
    """What every service can be told beside what every program can."""

    operations: str = ""
    """Address of the operations port, for example 127.0.0.1:9464: /livez, /readyz and /metrics over
    HTTP, for whoever reaches it. Port 0 picks a free one; empty: no such port."""
    operations_stall: Seconds = 60.0
    """Seconds without any progress, while there is work that waits for nobody else, after which
    /livez tells that the process hangs: longer than any single step takes."""
    progress_file: Path | None = None
    """File that is given the time of the last sign of life, in seconds since the Unix epoch, each
    few seconds while /livez would say yes: for probes that read a file."""
