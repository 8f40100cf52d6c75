"""How far a run is: a bar with the time left on a terminal, a line per experiment otherwise."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import (
    Progress as Bar,
)


class Progress(Protocol):
    """Told of what happens."""

    def begin(self, experiment: str) -> None:
        """An experiment starts."""

    def advance(self, seconds: float) -> None:
        """A heat that was expected to take `seconds` has ended."""


class Lines:
    """A line per experiment on stderr."""

    def __init__(self, total: float) -> None:
        self._total = total
        self._done = 0.0

    def begin(self, experiment: str) -> None:
        """See `Progress`."""
        left = max(0.0, self._total - self._done)
        sys.stderr.write(f"{experiment} (about {left:.0f} s left)\n")
        sys.stderr.flush()

    def advance(self, seconds: float) -> None:
        """See `Progress`."""
        self._done += seconds


class Shown:
    """A bar on stderr."""

    def __init__(self, bar: Bar, task: TaskID) -> None:
        self._bar = bar
        self._task = task

    def begin(self, experiment: str) -> None:
        """See `Progress`."""
        self._bar.update(self._task, description=experiment)

    def advance(self, seconds: float) -> None:
        """See `Progress`."""
        self._bar.advance(self._task, seconds)


@contextmanager
def progress(total: float) -> Iterator[Progress]:
    """Show the progress of a run that is expected to take `total` seconds."""
    if not sys.stderr.isatty():
        yield Lines(total)
        return
    columns = (
        TextColumn("{task.description:24}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        yield Shown(bar, bar.add_task("", total=total))
