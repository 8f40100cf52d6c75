"""The ratios as a table for a README."""

from collections.abc import Iterator, Sequence

from osmo_benchmarks.report.lines import (
    Line,
    Verdict,
    builds,
    lines,
    spread,
    standing,
    state,
    summary,
)
from osmo_benchmarks.run import Run, Spread
from osmo_benchmarks.systems import OTHER


def render(run: Run) -> str:
    """Every row that has a target, with when and where it was measured."""
    return "\n".join(_parts(run)) + "\n"


def _parts(run: Run) -> Iterator[str]:
    yield f"{state(run)}."
    yield ""
    found = [line for table in run.tables for line in lines(run, table)]
    if judged := [line for line in found if line.verdict is not Verdict.NONE]:
        yield "| row | what | ours | go | ours / go | ours / go-tuned | target | |"
        yield "|---|---|---|---|---|---|---|---|"
        yield from map(_row, judged)
        yield ""
    yield f"{summary(run)}."
    if both := [line for line in found if line.seen(OTHER)]:
        yield from _builds(builds(run), both)


def _builds(names: str, found: Sequence[Line]) -> Iterator[str]:
    """What depends on the build."""
    yield ""
    yield f"Both builds, in the same rounds: {names}."
    yield ""
    yield f"| row | what | ours | {OTHER} | ours / {OTHER} | ours is |"
    yield "|---|---|---|---|---|---|"
    for line in found:
        peer, row = line.peers[OTHER], line.row
        figures = (spread(each, row.unit) for each in (line.figure, peer.figure))
        compared = _compared(line.advantage(OTHER))
        yield _cells(row.id, row.title, *figures, spread(peer.ratio), compared)


def _compared(ahead: Spread | None) -> str:
    if ahead is None:
        return "-"
    return standing(ahead) if ahead.count > 1 else "one round: no comparison"


def _row(line: Line) -> str:
    go, tuned = line.peers.get("go"), line.peers.get("go-tuned")
    return _cells(
        line.row.id,
        line.row.title,
        spread(line.figure, line.row.unit),
        spread(go.figure, line.row.unit) if go else "",
        spread(go.ratio) if go else "",
        spread(tuned.ratio) if tuned else "",
        line.target,
        line.verdict.value,
    )


def _cells(*texts: str) -> str:
    return f"| {' | '.join(each.replace('|', '/') for each in texts)} |"
