"""One frame of `top`, as lines of text: pure, so that it is the same on every terminal."""

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from textwrap import wrap
from typing import NamedTuple

from osmo_pipeline.commands.backends import described
from osmo_pipeline.commands.output import (
    UNKNOWN,
    Column,
    brief,
    cells_of,
    cut,
    line_of,
    titles,
)
from osmo_pipeline.fleet import Member, State
from osmo_pipeline.top.board import Board
from osmo_runtime.logs import printable

RUNNING = "RUNNING"
"""The status of a task whose containers run."""

NARROWEST = 80
"""Columns for which frames are made; on a narrower terminal their right end is cut off."""

WIDE = 130
"""Columns from which on a frame has room for where reports come from."""

MAX_NAME = 63
"""Columns of a backend's name: what is longer is rare, and the figures should stand beside it."""

PROBLEMS = 4
"""Lines of problems; what one of them is about is wrong with more, most often."""


class Line(NamedTuple):
    """One line, and how it looks: a style of the library `rich`."""

    text: str
    style: str = ""


_STYLES = {State.SILENT: "red", State.BLIND: "yellow", State.AWAY: "yellow", State.OK: ""}


def frame(board: Board, width: int, height: int, first: int = 0) -> list[Line]:
    """The lines for a terminal of `width` columns and `height` rows; the backends from number
    `first` on. Without a `height` (0) there is room for all of them."""
    width = max(width, NARROWEST)
    lines = [*_head(board, width)]
    columns = _columns(width)
    lines += [Line(""), Line(_filled(titles(columns, width), width), "reverse")]
    room = rows_of(board, width, height) if height else len(board.members)
    first = max(0, min(first, len(board.members) - room))
    rates = {} if board.flow is None else board.flow.reported
    for member in board.members[first : first + room]:
        rate = None if board.flow is None else rates.get(member.name, 0.0)
        lines.append(
            Line(line_of(columns, _row(member, rate, board.wall), width), _STYLES[member.state])
        )
    if height:
        lines += [Line("")] * (height - 1 - len(lines))
        shown = f"{first + 1} to {min(first + room, len(board.members))} of {len(board.members)}"
        keys = "q: quit   arrows, PgUp, PgDn, Home, End: scroll"
        lines.append(Line(f"{shown if board.members else 'no backends'}   {keys}", "dim"))
    return [Line(cut(line.text, width), line.style) for line in lines]


def rows_of(board: Board, width: int, height: int) -> int:
    """How many backends a frame of this size has room for."""
    return max(1, height - len(_head(board, max(width, NARROWEST))) - 3)


def _head(board: Board, width: int) -> list[Line]:
    clock = f"{datetime.fromtimestamp(board.wall, UTC):%H:%M:%S}Z"
    name = cut(printable(f"osmo top  {board.place}"), width - len(clock) - 1)
    gap = " " * (width - cells_of(name) - len(clock))
    lines = [Line(f"{name}{gap}{clock}", "bold"), _states(board), *_queue(board)]
    lines += _services(board)
    for problem in board.problems[:PROBLEMS]:
        texts = wrap(
            printable(problem), width, max_lines=2, placeholder="…", subsequent_indent="  "
        )
        lines += [Line(text, "red") for text in texts]
    return lines


def _states(board: Board) -> Line:
    counts = Counter(member.state for member in board.members)
    states = ", ".join(f"{counts[state]} {state.value}" for state in State if counts[state])
    style = next((_STYLES[state] for state in State if counts[state]), "")
    return Line(f"backends  {len(board.members)}{f': {states}' if states else ''}", style)


def _queue(board: Board) -> list[Line]:
    reported = handled = waiting = pending = oldest = dead = consumers = UNKNOWN
    if (flow := board.flow) is not None:
        reported, handled = per_second(sum(flow.reported.values())), per_second(flow.handled)
    if (status := board.status) is not None:
        waiting, pending = str(sum(status.waiting.values())), str(sum(status.pending.values()))
        oldest = brief(max(status.oldest.values(), default=0.0))
        dead, consumers = str(status.dead), str(status.consumers)
    return [
        Line(f"reports   {reported}/s in, {handled}/s handled"),
        Line(
            f"queue     {waiting} waiting, {pending} pending, oldest {oldest},"
            f" consumers {consumers}",
            "red" if consumers == "0" else "",
        ),
        Line(
            f"dead      {dead} {'letter' if dead == '1' else 'letters'}",
            "yellow" if dead not in ("0", UNKNOWN) else "",
        ),
    ]


def _services(board: Board) -> list[Line]:
    told = [
        f"{name} {duration(latency.p50)}/{duration(latency.p99)}"
        for name, latency in board.latencies.items()
    ]
    # Two have room in the narrowest frame.
    lines = [
        Line(f"{'' if first else 'p50/p99':10}{', '.join(told[first : first + 2])}")
        for first in range(0, len(told), 2)
    ]
    if board.gauges:
        numbers = ", ".join(f"{value:.0f} {name}" for name, value in board.gauges.items())
        lines.append(Line(f"services  {numbers}"))
    return lines


def _columns(width: int) -> list[Column]:
    """The names of the backends have what the others leave."""
    columns = [
        Column("STATE", "state", 6),
        Column("HEARD", "heartbeat_age_seconds", 5, right=True, show=brief),
        Column("SINCE", "reporting_seconds", 5, right=True, show=brief),
        Column("IN/S", "reports_per_second", 6, right=True, show=per_second),
        Column("TASKS", "task_count", 7, right=True),
        Column("RUN", "running_count", 7, right=True),
        Column("NODES", "node_counts", 9, right=True),
    ]
    if width >= WIDE:
        columns += [Column("VERSION", "version", 10), Column("CLUSTER", "cluster_uid", 12)]
        columns += [Column("FROM", "address", 22)]
    left = width - sum(column.width + 1 for column in columns)
    return [Column("BACKEND", "backend", min(left, MAX_NAME)), *columns]


def _row(member: Member, rate: float | None, now: float) -> Mapping[str, object]:
    tasks, nodes = member.tasks, member.nodes
    return {
        **described(member, now),
        "reports_per_second": rate,
        "task_count": None if tasks is None else sum(tasks.values()),
        "running_count": None if tasks is None else tasks.get(RUNNING, 0),
        "node_counts": None if nodes is None else f"{nodes.get(True, 0)}/{sum(nodes.values())}",
    }


def _filled(text: str, width: int) -> str:
    return text + " " * (width - cells_of(text))


def per_second(rate: float) -> str:
    """A rate with a digit behind the point where it is low."""
    return f"{rate:.1f}" if 0 < rate < 9.95 else f"{rate:.0f}"


def duration(seconds: float | None) -> str:
    """A duration in at most six characters."""
    if seconds is None:
        return "-"
    for limit, factor, digits, unit in _DURATIONS:
        if seconds < limit:
            return f"{seconds * factor:.{digits}f}{unit}"
    return brief(seconds)


_DURATIONS = ((0.00995, 1e3, 1, "ms"), (0.9995, 1e3, 0, "ms"), (9.95, 1, 1, "s"))


def line(board: Board) -> str:
    """The whole in one line, for a log."""
    counts = Counter(member.state for member in board.members)
    parts: dict[str, object] = {"backends": len(board.members)}
    parts |= {state.value: counts[state] for state in State if state is not State.AWAY}
    if (flow := board.flow) is not None:
        parts["reports_per_second"] = per_second(sum(flow.reported.values()))
        parts["handled_per_second"] = per_second(flow.handled)
    if (status := board.status) is not None:
        parts["waiting"] = sum(status.waiting.values())
        parts["pending"] = sum(status.pending.values())
        parts["oldest_seconds"] = round(max(status.oldest.values(), default=0.0), 3)
        parts |= {"dead": status.dead, "consumers": status.consumers}
    for name, latency in board.latencies.items():
        if latency.p99 is not None:
            parts[f"{_field(name)}_p99_seconds"] = f"{latency.p99:.4g}"
    told = " ".join(f"{name}={value}" for name, value in parts.items())
    problems = "".join(f" problem={problem!r}" for problem in board.problems)
    return printable(f"{datetime.fromtimestamp(board.wall, UTC):%H:%M:%S}Z {told}{problems}")


def document(board: Board) -> dict[str, object]:
    """The whole for programs; what is not known is null."""
    flow, status = board.flow, board.status
    rates = {} if flow is None else flow.reported
    return {
        "at": f"{datetime.fromtimestamp(board.wall, UTC):%Y-%m-%dT%H:%M:%SZ}",
        "reports_per_second": None if flow is None else round(sum(rates.values()), 3),
        "handled_per_second": None if flow is None else round(flow.handled, 3),
        "queue": None
        if status is None
        else {
            "waiting": status.waiting,
            "pending": status.pending,
            "oldest_seconds": status.oldest,
            "consumers": status.consumers,
            "dead": status.dead,
        },
        "latencies": {
            _field(name): {"p50_seconds": latency.p50, "p99_seconds": latency.p99}
            for name, latency in board.latencies.items()
        },
        "services": {_field(name): value for name, value in board.gauges.items()},
        "backends": [
            {
                **described(member, board.wall),
                "reports_per_second": None
                if flow is None
                else round(rates.get(member.name, 0.0), 3),
            }
            for member in board.members
        ],
        "problems": board.problems,
    }


def _field(name: str) -> str:
    return name.replace(" ", "_")
