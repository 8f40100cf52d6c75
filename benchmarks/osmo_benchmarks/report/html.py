"""One page with all tables and plots, which needs no network."""

from collections.abc import Iterator
from html import escape
from math import log10

from osmo_benchmarks.report.drawing import variables
from osmo_benchmarks.report.lines import (
    Columns,
    Line,
    Peer,
    builds,
    columns,
    left_out,
    lines,
    side,
    spread,
    standing,
    state,
    summary,
)
from osmo_benchmarks.report.plots import Plot, plots
from osmo_benchmarks.run import Run, Spread, Table

DECADES = 2.0
"""Of the small bars to each side of 1."""

STYLE = f"""
:root {{ color-scheme: light dark; {variables(0)} --soft: #f4f6f8;
  --good: #1a7f37; --bad: #b35900; --fail: #cf222e; }}
@media (prefers-color-scheme: dark) {{ :root {{ {variables(1)} --soft: #1d232a;
  --good: #56d364; --bad: #f0a050; --fail: #ff7b72; }} }}
* {{ box-sizing: border-box; }}
body {{ margin: 0 auto; max-width: 1400px; padding: 1.2rem; background: var(--page);
  color: var(--ink); font: 15px/1.45 system-ui, sans-serif; }}
h1 {{ font-size: 1.6rem; margin: 0.2em 0; }}
h2 {{ font-size: 1.2rem; margin: 2.2em 0 0.5em; border-bottom: 1px solid var(--grid);
  padding-bottom: 0.25em; }}
p, li {{ max-width: 80ch; }}
.dim, caption, .notes {{ color: var(--dim); font-size: 0.9em; }}
.banner {{ padding: 0.6em 0.9em; border-left: 4px solid var(--fail); background: var(--soft); }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.9rem; }}
th, td {{ text-align: left; vertical-align: top; padding: 0.35em 0.7em 0.35em 0;
  border-bottom: 1px solid var(--grid); }}
th {{ font-weight: 600; white-space: nowrap; }}
td.n {{ white-space: nowrap; }}
td.n small {{ display: block; color: var(--dim); }}
td b {{ white-space: nowrap; }}
td.what {{ min-width: 12rem; max-width: 24rem; }}
.met {{ color: var(--good); font-weight: 600; }}
.missed {{ color: var(--bad); font-weight: 600; }}
.failed {{ color: var(--fail); font-weight: 600; }}
.bar {{ display: block; width: 90px; height: 12px; margin-top: 3px; }}
.plots {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 340px), 1fr));
  gap: 1.2rem; margin-top: 1rem; }}
figure {{ margin: 0; background: var(--soft); padding: 0.8rem; border-radius: 6px; }}
figcaption {{ font-weight: 600; margin-bottom: 0.4rem; }}
figure svg {{ width: 100%; height: auto; display: block; }}
pre {{ overflow-x: auto; background: var(--soft); padding: 0.8rem; white-space: pre-wrap; }}
"""


def render(run: Run) -> str:
    """The page. Whatever the run says is escaped."""
    return "".join(_parts(run))


def _parts(run: Run) -> Iterator[str]:
    yield '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>OSMO pipeline: benchmarks</title><style>{STYLE}</style></head><body>"
    yield "<h1>OSMO pipeline: benchmarks</h1>"
    kind = "dim" if run.complete else "banner"
    yield f'<p class="{kind}">{escape(state(run))}</p>'
    yield f"<p><b>{escape(summary(run))}.</b> A ratio is ours / the peer's, taken round by round:"
    yield " median [lowest … highest]. A bar to the right says that ours is ahead, to the left that"
    yield " the peer is. Compare the columns of one row: absolute figures are those of this"
    yield " machine.</p>"
    yield from _systems(run)
    drawn = list(plots(run))
    for table in run.tables:
        if found := list(lines(run, table)):
            here = [each for each in drawn if each.table == table.name]
            yield from _section(table, found, here)
    yield from _troubles(run)
    yield "</body></html>\n"


def _systems(run: Run) -> Iterator[str]:
    yield "<ul>"
    for name, description in run.systems.items():
        yield f"<li><b>{escape(name)}</b>: {escape(description)}</li>"
    yield "</ul>"
    if both := builds(run):
        yield f"<p>{escape(both)}.</p>"
    versions = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    yield f'<p class="dim">{escape(versions)}</p>'


def _section(table: Table, found: list[Line], drawn: list[Plot]) -> Iterator[str]:
    shown = columns(found)
    yield f"<section><h2>{escape(table.title)}</h2>"
    yield '<div class="scroll"><table><tr><th>row</th>'
    yield "<th>ours</th>" if shown.ours else ""
    yield "".join(f"<th>{escape(name)}</th><th>ours / {escape(name)}</th>" for name in shown.peers)
    yield "<th>target</th><th></th>" if shown.target else ""
    yield "<th>the study</th></tr>"
    for line in found:
        yield _row(line, shown)
    yield "</table></div>"
    if table.notes:
        yield '<div class="notes">'
        yield "".join(f"<p>{escape(note)}</p>" for note in table.notes)
        yield "</div>"
    if drawn:
        yield '<div class="plots">'
        for plot in drawn:
            yield f"<figure><figcaption>{escape(plot.title)}</figcaption>{plot.svg}</figure>"
        yield "</div>"
    yield "</section>"


def _row(line: Line, shown: Columns) -> str:
    row, verdict = line.row, line.verdict
    cells = [f'<td class="what"><b>{escape(row.id)}</b> {escape(row.title)}</td>']
    if shown.ours:
        cells.append(f'<td class="n">{_two_lines(line.ours)}</td>')
    for name in shown.peers:
        cells += _peer(line, name)
    if shown.target:
        cells.append(f"<td>{escape(line.target)}</td>")
        cells.append(f'<td class="{verdict.value}">{verdict.value}</td>')
    cells.append(f"<td>{escape(line.published)}</td>")
    return f"<tr>{''.join(cells)}</tr>"


def _peer(line: Line, name: str) -> list[str]:
    peer: Peer | None = line.peers.get(name)
    if peer is None:
        return ["<td></td>", "<td></td>"]
    if peer.figure is None:
        return [f"<td>{'failed' if peer.failed else '-'}</td>", "<td></td>"]
    ahead = line.advantage(name)
    bar = _bar(ahead, name) if ahead else ""
    return [
        f'<td class="n">{_two_lines(spread(peer.figure, line.row.unit))}</td>',
        f'<td class="n">{_two_lines(spread(peer.ratio))}{bar}</td>',
    ]


def _two_lines(figure: str) -> str:
    """The median, and below it the range."""
    median, bracket, rest = figure.partition(" [")
    return escape(median) + (f"<small>{escape(rest[:-1])}</small>" if bracket else "")


def _bar(ahead: Spread, peer: str) -> str:
    """How far ahead (to the right) or behind, in words and on a log scale."""
    words = f"<small>{standing(ahead)}</small>"
    if min(ahead.low, ahead.median) <= 0:
        return words
    low, middle, high = (_place(each) for each in (ahead.low, ahead.median, ahead.high))
    start, width = min(50.0, middle), abs(middle - 50.0)
    colour = "var(--osmo-ws)" if side(ahead) == "ahead" else f"var(--{peer})"
    return (
        f'{words}<svg class="bar" viewBox="0 0 100 12" preserveAspectRatio="none"'
        ' aria-hidden="true">'
        f'<rect x="{start:.1f}" y="2" width="{width:.1f}" height="8" style="fill:{colour}"/>'
        f'<path d="M{low:.1f} 6H{high:.1f}" style="stroke:var(--ink);stroke-width:1"/>'
        '<path d="M50 0V12" style="stroke:var(--ink);stroke-width:1"/></svg>'
    )


def _place(value: float) -> float:
    return 50 + 50 * max(-1.0, min(1.0, log10(value) / DECADES))


def _troubles(run: Run) -> Iterator[str]:
    failures = list(run.failures())
    if failures:
        yield "<section><h2>What failed</h2>"
        for name, sample in failures:
            where = f"{sample.system} in {name}, round {sample.round + 1}"
            yield f'<p class="failed">{escape(where)}</p><pre>{escape(sample.failure)}</pre>'
        yield "</section>"
    if run.skipped:
        yield "<section><h2>What was left out</h2><ul>"
        for text in left_out(run):
            yield f"<li>{escape(text)}</li>"
        yield "</ul></section>"
