"""Who takes part, and the command of each of its programs.

The runner treats all systems alike: every program takes what its command names, a server prints
`listening on URL`, and records are written as `osmo_benchmarks.records` reads them.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from osmo_benchmarks.processes import module

ANY_PORT = "127.0.0.1:0"
BACKEND = "bench"
NAMESPACE = "osmo"
OTHER = "osmo-other"
"""The name of another installation of this project."""


@dataclass(frozen=True)
class Command:
    """How to start a program."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


class System(Protocol):
    """A system under measurement."""

    @property
    def name(self) -> str:
        """For example `go-tuned`."""

    def service(self, record: Path | None = None) -> Command | None:
        """A server that acknowledges at once; None: its client needs none."""

    def client(self, url: str, messages: int, warm_up: int, window: int) -> Command:
        """Sends `update_pod` messages and prints what it measured."""

    def listener(self, url: str, kubeconfig: Path) -> Command:
        """Reports the pods of a cluster's namespace `osmo`."""

    def operator(self, redis: str, stream: str) -> Command:
        """Appends to a stream of the Redis at `redis` (HOST:PORT), then acknowledges."""

    def worker(self, redis: str, stream: str, name: str, cost_ms: float, record: Path) -> Command:
        """Takes reports from the stream, waits `cost_ms` for each, and records it."""

    def load(self, url: str, plan: Path) -> Command:
        """Sends the reports of a plan, each at its time."""


@dataclass(frozen=True)
class Peer:
    """A system whose programs are the verbs of one command."""

    name: str
    prefix: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    """For its listener, operator and worker."""

    def service(self, record: Path | None = None, cost_ms: float = 0.0) -> Command:
        """See `System`; `cost_ms`: what handling costs before the acknowledgement, in a design
        where the service handles."""
        recording = ("--record", str(record)) if record else ()
        cost = ("--cost-ms", str(cost_ms)) if cost_ms else ()
        return self._command("service", "--listen", ANY_PORT, *recording, *cost)

    def client(self, url: str, messages: int, warm_up: int, window: int) -> Command:
        """See `System`."""
        counts = ("--messages", str(messages), "--warm-up", str(warm_up), "--window", str(window))
        return self._command("client", "--connect", url, *counts)

    def listener(self, url: str, kubeconfig: Path) -> Command:
        """See `System`."""
        cluster = ("--kubeconfig", str(kubeconfig), "--namespace", NAMESPACE)
        return self._command("listener", "--connect", url, *cluster, *self.flags)

    def operator(self, redis: str, stream: str) -> Command:
        """See `System`."""
        queue = ("--redis", redis, "--stream", stream)
        return self._command("operator", "--listen", ANY_PORT, *queue, *self.flags)

    def worker(self, redis: str, stream: str, name: str, cost_ms: float, record: Path) -> Command:
        """See `System`."""
        queue = ("--redis", redis, "--stream", stream, "--name", name)
        work = ("--cost-ms", str(cost_ms), "--record", str(record))
        return self._command("worker", *queue, *work, *self.flags)

    def load(self, url: str, plan: Path) -> Command:
        """See `System`."""
        return self._command("load", "--connect", url, "--plan", str(plan))

    def _command(self, *arguments: str) -> Command:
        return Command((*self.prefix, *arguments), self.environment)


TRANSPORTS = {"osmo-ws": "WebSocket", "osmo-grpc": "gRPC", "osmo-memory": "In memory"}
"""Of ours, by name."""


@dataclass(frozen=True)
class Osmo:
    """This project over one of its transports, through the programs that its users run."""

    scheme: str
    python: str = sys.executable
    """Of the installation that is measured."""

    @property
    def name(self) -> str:
        """`osmo-ws`, `osmo-grpc` or `osmo-memory`."""
        return f"osmo-{self.scheme}"

    def service(self, record: Path | None = None) -> Command | None:
        """See `System`."""
        if self.scheme == "memory":
            return None
        recording = ("--record", str(record)) if record else ()
        return self._ours("service", f"{self.scheme}://{ANY_PORT}", *recording)

    def client(self, url: str, messages: int, warm_up: int, window: int) -> Command:
        """See `System`."""
        counts = ("--messages", str(messages), "--warm-up", str(warm_up), "--window", str(window))
        return self._ours("client", url or "memory://", *counts)

    def listener(self, url: str, kubeconfig: Path) -> Command:
        """See `System`."""
        where = ("--connect", url, "--kubeconfig", str(kubeconfig), "--namespace", NAMESPACE)
        what = ("--backend", BACKEND, "--listeners", "workflow")
        return self._command("osmo_listener", *what, *where)

    def operator(self, redis: str, stream: str) -> Command:
        """See `System`."""
        listen = ("--listen", f"{self.scheme}://{ANY_PORT}")
        return self._command("osmo_operator", *listen, "--queue", _queue(redis, stream))

    def worker(self, redis: str, stream: str, name: str, cost_ms: float, record: Path) -> Command:
        """See `System`."""
        work = ("--cost-ms", str(cost_ms), "--record", str(record))
        return self._ours("worker", _queue(redis, stream), "--name", name, *work)

    def load(self, url: str, plan: Path) -> Command:
        """See `System`."""
        return self._ours("load", url, "--plan", str(plan))

    def _ours(self, name: str, *arguments: str) -> Command:
        return self._command(f"osmo_benchmarks.programs.{name}", *arguments)

    def _command(self, name: str, *arguments: str) -> Command:
        return Command((*module(name, self.python), *arguments))


@dataclass(frozen=True)
class Other(Osmo):
    """Another build of this project, or another version of it."""

    @property
    def name(self) -> str:
        """See `OTHER`."""
        return OTHER


def _queue(redis: str, stream: str) -> str:
    return f"redis://{redis}/0?namespace={stream}"
