"""What the all-in-one process shows: a live table on a terminal, plain lines otherwise."""

import sys
import textwrap
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from osmo_transport.lean import dataclass
from osmo_worker.store import Totals

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True, kw_only=True)
class Progress:
    """The figures of one moment; times in seconds."""

    elapsed: float
    totals: Totals
    """What the store holds."""
    messages: int
    """Reports acknowledged so far."""
    rate: float
    """Reports acknowledged per second since the last look."""
    in_flight: int
    p50: float
    """From a report's creation until its row was written."""
    p99: float


class Display(Protocol):
    """Shows how it goes. Use as `with`."""

    def show(self, progress: Progress) -> None:
        """Show the figures of this moment."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


WIDTH = 80
"""Columns that every terminal has."""


def wrapped(text: str, indent: str = "  ") -> list[str]:
    """Lines that fit a terminal, those after the first one with an indent; but a URL or a path is
    whole, or nobody can copy it."""
    return textwrap.wrap(
        text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def tell(lines: Iterable[str]) -> None:
    """Write lines that stay."""
    for line in lines:
        sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


LINE_INTERVAL = 2.0
"""Seconds between two lines, so that a log of a minute stays readable."""


class Lines:
    """A few lines now and then, when something has changed."""

    def __init__(self) -> None:
        self._last = ""
        self._next = 0.0

    def show(self, progress: Progress) -> None:
        """See `Display`."""
        totals = progress.totals
        statuses = " ".join(f"{status}={n}" for status, n in sorted(totals.statuses.items()))
        text = (
            f"workflows={totals.workflows} running={totals.running}"
            f" reports={progress.messages} in_flight={progress.in_flight}"
            f" p50={progress.p50 * 1e3:.1f}ms p99={progress.p99 * 1e3:.1f}ms {statuses}"
        )
        if text != self._last and progress.elapsed >= self._next:
            self._last, self._next = text, progress.elapsed + LINE_INTERVAL
            tell(wrapped(f"{progress.elapsed:5.1f}s {text}", " " * 7))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Nothing to close."""


class LiveTable:
    """A table that is drawn over and over."""

    def __init__(self) -> None:
        # Only a terminal needs it.
        from rich.console import Console  # noqa: PLC0415
        from rich.live import Live  # noqa: PLC0415

        self._live = Live(console=Console(), auto_refresh=False)

    def show(self, progress: Progress) -> None:
        """See `Display`."""
        self._live.update(_table(progress), refresh=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.stop()


def _table(progress: Progress) -> "Table":
    from rich.table import Table  # noqa: PLC0415

    table = Table(title=f"OSMO pipeline, {progress.elapsed:.0f} s", min_width=48)
    table.add_column("what")
    table.add_column("now", justify="right")
    table.add_row("workflows", str(progress.totals.workflows))
    table.add_row("  of them running", str(progress.totals.running))
    table.add_section()
    for status, count in sorted(progress.totals.statuses.items()):
        table.add_row(f"tasks {status}", str(count))
    table.add_row("  pods deleted", str(progress.totals.deleted))
    table.add_section()
    table.add_row("reports acknowledged", str(progress.messages))
    table.add_row("reports per second", f"{progress.rate:.0f}")
    table.add_row("in flight", str(progress.in_flight))
    table.add_row("creation to row, p50", f"{progress.p50 * 1e3:.1f} ms")
    table.add_row("creation to row, p99", f"{progress.p99 * 1e3:.1f} ms")
    return table


def open_display() -> Display:
    """The live table on a terminal where `rich` is installed, else lines."""
    if sys.stdout.isatty():
        try:
            return LiveTable()
        except ImportError:
            return Lines()
    return Lines()
