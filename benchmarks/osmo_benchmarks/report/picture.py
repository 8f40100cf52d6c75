"""One picture of all ratios, for a README."""

from math import isfinite
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.ticker import FuncFormatter, NullFormatter

from osmo_benchmarks.report.drawing import GRID, INK, colour, settings, svg, variables
from osmo_benchmarks.report.lines import Line, Verdict, lines, number
from osmo_benchmarks.run import Run

PEER = "go"
ROW_HEIGHT, WIDTH = 0.24, 7.2
"""Inches."""
LONGEST_TITLE = 62

STYLE = (
    f"<style>svg{{{variables(0)}}}"
    f"@media (prefers-color-scheme:dark){{svg{{{variables(1)}}}}}"
    "text{fill:var(--ink)}</style>"
)


def render(run: Run) -> str:
    """An SVG that follows the reader's light or dark theme. The same run gives the same picture."""
    found = [
        line
        for table in run.tables
        for line in lines(run, table)
        if line.advantage(PEER) is not None and line.row.limits.get(PEER) is not None
    ]
    with settings("ratios"):
        figure, axes = plt.subplots(figsize=(WIDTH, 0.9 + ROW_HEIGHT * max(1, len(found))))
        for place, line in enumerate(reversed(found)):
            _draw(axes, place, line)
        axes.axvline(1, color=INK, linewidth=1)
        axes.set_xscale("log")
        axes.set_yticks(range(len(found)), [_label(line) for line in reversed(found)], fontsize=8)
        axes.set_ylim(-0.7, len(found) - 0.3)
        axes.set_xlabel(
            "times ahead of the Go draft (dot and range, arrow: ours takes no time that can be"
            " measured;\nbar: the target; grey: missed)"
        )
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(visible=False, axis="y")
        machine = f"{run.started[:10]}, {run.machine.cores} cores"
        axes.set_title(f"osmo-pipeline bench, {machine}", loc="right", fontsize=8.5)
        text = svg(figure)
    end = text.index(">") + 1
    return text[:end] + STYLE + text[end:]


def _draw(axes: Any, place: int, line: Line) -> None:
    ahead = line.advantage(PEER)
    limit = line.row.limits[PEER]
    assert ahead is not None
    assert limit is not None
    own = colour("osmo-ws") if line.verdict is not Verdict.MISSED else colour("legacy")
    measured = [each for each in (ahead.low, ahead.median, ahead.high) if isfinite(each)]
    axes.plot(measured, [place] * len(measured), color=own, linewidth=2.5)
    if isfinite(ahead.median):
        axes.plot([ahead.median], [place], color=own, marker="o", markersize=6)
    if not isfinite(ahead.high):
        edge = {"transform": axes.get_yaxis_transform(), "clip_on": False}
        axes.plot([1.0], [place], color=own, marker=">", markersize=6, **edge)
    target = limit if line.row.better == "higher" else 1 / limit
    axes.plot([target, target], [place - 0.35, place + 0.35], color=INK, linewidth=1.5)
    axes.axhline(place, color=GRID, linewidth=0.4, zorder=0)


def _label(line: Line) -> str:
    title = line.row.title
    if len(title) > LONGEST_TITLE:
        title = title[: LONGEST_TITLE - 1] + "…"
    return f"{title}   {line.row.id}"
