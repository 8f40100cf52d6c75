"""The tables on the terminal."""

import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

from osmo_benchmarks.report.lines import (
    Line,
    Verdict,
    builds,
    columns,
    left_out,
    lines,
    spread,
    standing,
    state,
    summary,
)
from osmo_benchmarks.run import Run

PIPED_WIDTH = 160
"""Columns where nobody says how wide the output is."""
STYLES = {
    Verdict.MET: "green",
    Verdict.MISSED: "yellow",
    Verdict.FAILED: "bold red",
    Verdict.NONE: "",
}


def show(run: Run) -> None:
    """Print the tables of a run on stdout."""
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else PIPED_WIDTH)
    console.print(Text(state(run), style="bold" if run.complete else "bold red"))
    if both := builds(run):
        console.print(Text(both))
    for table in run.tables:
        if found := list(lines(run, table)):
            console.print()
            console.print(_table(table.title, found))
            for note in table.notes:
                console.print(Text(f"  {note}", style="dim"))
    for name, sample in run.failures():
        console.print()
        console.print(Text(f"{sample.system} failed in {name}: {sample.failure}", style="red"))
    for text in left_out(run):
        console.print(Text(f"left out: {text}", style="dim"))
    console.print()
    console.print(Text(summary(run), style="bold"))


def _table(title: str, found: list[Line]) -> Table:
    shown = columns(found)
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("row", no_wrap=True)
    table.add_column("", max_width=36)
    if shown.ours:
        table.add_column("ours", justify="right")
    for name in shown.peers:
        table.add_column(f"{name}\nours / {name}", justify="right")
    if shown.target:
        table.add_column("target")
        table.add_column("")
    table.add_column("the study")
    for line in found:
        unit = line.row.unit
        cells = [Text(line.row.id, style="bold"), Text(line.row.title)]
        if shown.ours:
            cells.append(Text(line.ours))
        for name in shown.peers:
            peer = line.peers.get(name)
            if peer is None:
                cells.append(Text(""))
            elif peer.figure is None:
                cells.append(Text("failed" if peer.failed else "-"))
            else:
                ahead = line.advantage(name)
                words = f"\n{standing(ahead)}" if ahead else ""
                cells.append(Text(f"{spread(peer.figure, unit)}\n{spread(peer.ratio)}{words}"))
        if shown.target:
            cells.append(Text(line.target))
            cells.append(Text(line.verdict.value, style=STYLES[line.verdict]))
        cells.append(Text(line.published))
        table.add_row(*cells)
    return table
