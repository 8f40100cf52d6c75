"""What comes of a run of the fuzzer: figures, the memory, and what is found in the logs."""

import asyncio
import logging
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.transport.fuzz.wires import Damage

MIB = 1024 * 1024

ALLOCATOR = 16 * MIB
"""Bytes that a process may take beside what it holds: of memory that was freed in pieces."""


@dataclass
class Figures:
    """What came of a run."""

    scheme: str
    side: str
    seed: int
    limit: int
    """Bytes: the sum of the stated limits."""
    damage: Damage = field(default_factory=Damage)
    stopped: int = 0
    """Relays that ended, and clients that died of what no docstring tells of."""
    stuck: int = 0
    """Clients of whose messages some were neither acknowledged nor refused in the end."""
    defects: int = 0
    """Tracebacks in the logs, and what the event loop calls fatal."""
    acknowledged: int = 0
    """Messages of the innocent client, or of the clients of hostile servers."""
    refused: int = 0
    lost: int = 0
    """Messages of the innocent client that were acknowledged and are not in the queue."""
    slowest: float = 0.0
    """Seconds: the longest that the innocent client waited for an acknowledgement."""
    before: int = 0
    peak: int = 0
    """Bytes that the process had."""
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)

    @property
    def grown(self) -> int:
        """Bytes that were added at the peak."""
        return max(0, self.peak - self.before)

    @property
    def broken(self) -> list[str]:
        """What did not hold."""
        damage = self.damage
        counts = {
            "stopped": self.stopped,
            "stuck": self.stuck,
            "defects": self.defects,
            "lost": self.lost,
            "kept": damage.kept,
            "untold": damage.untold,
            "failed": max(0, damage.failed - damage.connections // 10),
            "over the limits": max(0, self.grown - self.limit - ALLOCATOR),
        }
        return [f"{name}: {count}" for name, count in counts.items() if count]

    def __str__(self) -> str:
        damage = self.damage
        return (
            f"{self.scheme:13} {self.side:6} seed {self.seed}: {damage.frames} frames"
            f" (+ {damage.unread} of who never reads), {damage.connections} connections"
            f" ({damage.welcomed} greeted, {damage.failed} failed, {damage.kept} kept,"
            f" {damage.untold} untold, {damage.overtaken} overtaken), {self.stopped} stopped,"
            f" {self.stuck} stuck, {self.defects} defects, {self.acknowledged} acknowledged"
            f" ({self.refused} refused, {self.lost} lost, slowest {self.slowest:.2f} s),"
            f" RSS {self.before / MIB:.0f} MiB + {self.grown / MIB:.1f} at the peak,"
            f" limits {self.limit / MIB:.1f} MiB, {self.seconds:.0f} s"
        )

    def note(self, what: str) -> None:
        """Keep it, if there is room."""
        if len(self.notes) < 20:
            self.notes.append(what[:3000])


class DefectWatch(logging.Handler):
    """Counts what nobody should see."""

    def __init__(self, figures: Figures) -> None:
        super().__init__(logging.WARNING)
        self._figures = figures
        self.last = ""
        """What a client said last."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == "osmo_transport.client":
            self.last = record.getMessage()
        if "Invalid encoding on" in str(record.msg):
            return  # gRPC's own, about a text that an HTTP/2 frame brought
        serious = record.levelno >= logging.ERROR and record.name.startswith(("asyncio", "grpc"))
        if record.exc_info is not None or serious:
            self.found(self.format(record))

    def found_in_loop(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """The event loop has something to say."""
        error, message = context.get("exception"), str(context.get("message"))
        if "PollerCompletionQueue" in message and str(error) == "Event loop is closed":
            return  # gRPC's own, about what waited in the loop of an earlier test
        lines = traceback.format_exception(error) if isinstance(error, Exception) else []
        self.found(f"{message}\n{''.join(lines[-6:])}")

    def found(self, what: str) -> None:
        """A defect."""
        self._figures.defects += 1
        self._figures.note(what)


@asynccontextmanager
async def watched(figures: Figures) -> AsyncIterator[DefectWatch]:
    """Defects are counted, and the time and the peak of the memory are taken."""
    watch = DefectWatch(figures)
    root = logging.getLogger()
    root.addHandler(watch)
    loop = asyncio.get_running_loop()
    handler = loop.get_exception_handler()
    loop.set_exception_handler(watch.found_in_loop)
    _forget_peak()
    figures.before = _memory("VmRSS")
    began = loop.time()
    try:
        yield watch
    finally:
        figures.seconds = loop.time() - began
        figures.peak = _memory("VmHWM")
        root.removeHandler(watch)
        loop.set_exception_handler(handler)


def _forget_peak() -> None:
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _memory(name: str) -> int:
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0  # no Linux: the memory is not looked at
    return int(status.partition(f"{name}:")[2].split()[0]) * 1024
