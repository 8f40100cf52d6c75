"""One picture of who is ahead in what, for a README: an SVG in which text is text.

It is laid out for a phone, and enlarged where there is room.
"""

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from math import isfinite, log
from typing import NamedTuple

from osmo_benchmarks.report.drawing import variables
from osmo_benchmarks.report.lines import Line, Verdict, lines, number, side, standing
from osmo_benchmarks.run import Run, Spread, Table

DRAFT, TUNED = "go", "go-tuned"
"""The peer that bars are about, and that of the smaller marks."""

WIDTH = 360
"""Pixels of a phone, on which all lengths below are such pixels."""
ENLARGED = 1.4
"""Times, on a page that is wide enough."""
MARGIN = 8
LEFT, RIGHT = 150, 277
"""Edges of the scale: labels are before it, words behind it."""
HEAD, GROUP, ROW, LEGEND = 80, 24, 15, 68
"""Heights."""
BAR, TICK = 4, 6
"""Half of their heights."""
STEPS = (2, 5, 10, 20, 50, 100, 200)
"""Of the scale, to both sides, where there is room for their numbers."""
STEP_ROOM = 26

STYLE = (
    f"svg{{{variables(0)}font:10.5px system-ui,sans-serif}}"
    f"@media (prefers-color-scheme:dark){{svg{{{variables(1)}}}}}"
    "text{fill:var(--ink)}.b{font-weight:600}.t{font-size:14px;font-weight:600}"
    ".dim{fill:var(--dim)}.m{text-anchor:middle}.e{text-anchor:end}"
    ".page{fill:var(--page);stroke:var(--grid)}.step{stroke:var(--grid)}"
    ".even,.range{stroke:var(--ink)}.target{stroke:var(--ink);stroke-width:1.5;opacity:.45}"
    ".ahead{fill:var(--osmo-ws)}.behind{fill:var(--go)}"
    ".tuned{fill:var(--ink);stroke:var(--page)}"
)


class _Bar(NamedTuple):
    """A row: how many times ahead ours is."""

    line: Line
    draft: Spread
    tuned: Spread | None
    target: float | None

    def ratios(self) -> Iterator[float]:
        """All that is drawn."""
        for each in (self.draft, self.tuned):
            if each is not None:
                yield from (each.low, each.median, each.high)
        if self.target is not None:
            yield self.target


class _Scale:
    """Where a ratio is, on a logarithmic scale with room for all of them."""

    def __init__(self, ratios: Iterable[float]) -> None:
        finite = [each for each in ratios if isfinite(each) and each > 0]
        self._low, self._high = min([0.5, *finite]), max([2.0, *finite])

    def __call__(self, ratio: float) -> float:
        """At the edge if it is nothing or infinite."""
        inside = min(self._high, max(self._low, ratio))
        share = log(inside / self._low) / log(self._high / self._low)
        return LEFT + (RIGHT - LEFT) * share

    def steps(self) -> Iterator[tuple[str, float]]:
        """What is written at it, and where."""
        for power in (1, -1):
            last = self(1)
            for step in STEPS:
                at = self(step**power)
                if self._low <= step**power <= self._high and abs(at - last) >= STEP_ROOM:
                    last = at
                    yield f"{number(step)}x", at


def render(run: Run) -> str:
    """It follows the reader's light or dark theme. It has every row with a ratio to the draft that
    has a target or a short name: table by table, what is furthest ahead first. The same run gives
    the same picture."""
    groups = [(table.title.partition(":")[0], _bars(run, table)) for table in run.tables]
    bars = [bar for _, group in groups for bar in group]
    scale = _Scale(ratio for bar in bars for ratio in bar.ratios())
    parts = list(_head(bars, scale))
    top = HEAD
    for title, group in groups:
        if group:
            parts += _group(title, group, top, scale)
            top += GROUP + ROW * len(group)
    parts += _legend(run, top)
    height = top + LEGEND
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"'
            f' width="{WIDTH * ENLARGED:.0f}" height="{height * ENLARGED:.0f}">',
            f"<style>{STYLE}</style>",
            f'<rect class="page" x=".5" y=".5" width="{WIDTH - 1}" height="{height - 1}" rx="6"/>',
            *parts,
            "</svg>\n",
        )
    )


def _bars(run: Run, table: Table) -> list[_Bar]:
    found = []
    for line in lines(run, table):
        draft, limit = line.advantage(DRAFT), line.row.limits.get(DRAFT)
        if draft and (line.row.short or line.verdict is not Verdict.NONE):
            target = 1 / limit if limit and line.row.better == "lower" else limit
            found.append(_Bar(line, draft, line.advantage(TUNED), target))
    return sorted(found, key=lambda bar: bar.draft.median, reverse=True)


def _head(bars: Sequence[_Bar], scale: _Scale) -> Iterator[str]:
    ahead = sum(side(bar.draft) == "ahead" for bar in bars)
    yield _text(MARGIN, 22, "OSMO pipeline beside its Go draft", "t")
    yield _text(MARGIN, 37, f"ahead in {ahead} rows, behind in {len(bars) - ahead}", "dim")
    even = scale(1)
    yield _text(even - 5, 60, "◀ behind", "b e behind")
    yield _text(even + 5, 60, "ahead ▶", "b ahead")
    yield _text(even, 74, "even", "dim m")
    for text, at in scale.steps():
        yield _text(at, 74, text, "dim m")


def _group(title: str, bars: Sequence[_Bar], top: int, scale: _Scale) -> Iterator[str]:
    yield _text(MARGIN, top + GROUP - 6, title, "b")
    begin, end = top + GROUP, top + GROUP + ROW * len(bars)
    for _, at in scale.steps():
        yield _path("step", at, begin, at, end)
    yield _path("even", scale(1), begin, scale(1), end)
    for place, bar in enumerate(bars):
        yield from _row(bar, begin + ROW * (place + 0.5), scale)


def _row(bar: _Bar, middle: float, scale: _Scale) -> Iterator[str]:
    row = bar.line.row
    yield f"<g><title>{escape(f'{row.id}: {row.title}')}</title>"
    yield _text(MARGIN, middle + 3.5, row.short or row.id)
    yield _rect(side(bar.draft), scale(1), scale(bar.draft.median), middle)
    yield _path("range", scale(bar.draft.low), middle, scale(bar.draft.high), middle)
    if bar.target is not None:
        at = scale(bar.target)
        yield _path("target", at, middle - TICK, at, middle + TICK)
    if bar.tuned is not None:
        yield _diamond(scale(bar.tuned.median), middle)
    yield _text(WIDTH - MARGIN, middle + 3.5, standing(bar.draft), "e") + "</g>"


def _legend(run: Run, top: int) -> Iterator[str]:
    first, second, last = top + 22, top + 38, top + 56
    middle = WIDTH / 2
    yield _rect("ahead", MARGIN, MARGIN + 10, first)
    yield _rect("behind", MARGIN + 10, MARGIN + 20, first)
    yield _text(MARGIN + 26, first + 3.5, "beside the Go draft")
    yield _path("range", middle, first, middle + 20, first)
    yield _text(middle + 26, first + 3.5, "range of its rounds")
    yield _diamond(MARGIN + 10, second)
    yield _text(MARGIN + 26, second + 3.5, "beside a tuned Go")
    yield _path("target", middle + 10, second - TICK, middle + 10, second + TICK)
    yield _text(middle + 26, second + 3.5, "target")
    machine = f"osmo-pipeline bench, {run.started[:10]}, {run.machine.cores} cores"
    yield _text(MARGIN, last + 3.5, machine, "dim")


def _rect(kind: str, begin: float, end: float, middle: float) -> str:
    left, width = min(begin, end), abs(end - begin)
    return (
        f'<rect class="{kind}" x="{left:.1f}" y="{middle - BAR:g}" width="{width:.1f}"'
        f' height="{2 * BAR}"/>'
    )


def _diamond(at: float, middle: float) -> str:
    return f'<path class="tuned" d="M{at:.1f} {middle - 4:g}l4 4-4 4-4-4z"/>'


def _path(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<path class="{kind}" d="M{x1:.1f} {y1:g}L{x2:.1f} {y2:g}"/>'


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    style = f' class="{kind}"' if kind else ""
    return f'<text x="{x:g}" y="{y:g}"{style}>{escape(text)}</text>'
