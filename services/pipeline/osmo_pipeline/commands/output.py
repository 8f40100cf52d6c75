"""What commands write: tables for people, and one JSON document for programs.

Whatever others put into a queue may be in it, so a character that is not printable is written as
its escape, and never reaches a terminal.
"""

import json
import os
import sys
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgspec

from osmo_runtime.logs import printable

NARROWEST = 80
"""Columns of a terminal that tables fit into; on a narrower one lines break."""

UNKNOWN = "?"
"""What a table has in the place of what cannot be told."""

_WIDE = ("W", "F")


class Column(NamedTuple):
    """One column of a table."""

    title: str
    field: str
    """Of a row, what stands in it."""
    width: int = 0
    """Cells; 0: what the others leave, for the last one."""
    right: bool = False
    """Whether it is a number, which stands at the right."""
    show: Callable[[Any], str] = str
    """How a value is written."""


class Listing:
    """Rows, as they come: a table, cut to the width of the terminal if there is one, or a JSON
    array of objects. Use as `with`, so that the array ends whatever happens."""

    def __init__(self, columns: Sequence[Column], *, as_json: bool) -> None:
        self._columns = columns
        self._as_json = as_json
        self._width = terminal_width()
        self.rows = 0

    def add(self, row: Mapping[str, object]) -> None:
        """Write one: its texts and numbers stand in the table, all of it in JSON."""
        if self._as_json:
            sys.stdout.write(f"{',' if self.rows else '['}\n{to_json(row)}")
        else:
            if not self.rows:
                _write(titles(self._columns, self._width))
            _write(line_of(self._columns, row, self._width))
        self.rows += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._as_json:
            sys.stdout.write("\n]\n" if self.rows else "[]\n")


def _write(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def titles(columns: Sequence[Column], width: int | None) -> str:
    """The first line of a table that has room for `width` cells; None: for all it needs."""
    return _line(columns, [column.title for column in columns], width)


def line_of(columns: Sequence[Column], row: Mapping[str, object], width: int | None) -> str:
    """The line of such a table for `row`."""
    values = [(column, row[column.field]) for column in columns]
    shown = [UNKNOWN if value is None else column.show(value) for column, value in values]
    return _line(columns, shown, width)


def _line(columns: Sequence[Column], texts: Sequence[str], left: int | None) -> str:
    cells: list[str] = []
    for column, plain in zip(columns, texts, strict=True):
        text = printable(plain)
        width = column.width or left
        if left is not None and width is not None:
            text = cut(text, width)
            left -= width + 1
        gap = " " * max(0, column.width - cells_of(text))
        cells.append(gap + text if column.right else text + gap)
    return " ".join(cells).rstrip()


def terminal_width() -> int | None:
    """The columns of the terminal that is written to; None: what is written goes elsewhere."""
    try:
        return max(NARROWEST, os.get_terminal_size(sys.stdout.fileno()).columns)
    except (OSError, ValueError):
        return None


def say(text: str) -> None:
    """Write one line for people."""
    _write(printable(text))


def say_all(row: Mapping[str, object]) -> None:
    """Write each field for people, below each other."""
    for name, value in row.items():
        if isinstance(value, Mapping | list) and value:
            _write(f"{name}:")
            for line in to_lines(value):
                _write(f"  {line}")
        else:
            say(f"{name}: {'-' if value is None else value}")


def hint(text: str) -> None:
    """Say beside what is written what else there is to know."""
    sys.stderr.write(f"{printable(text)}\n")


def write_json(value: object) -> None:
    """Write one document."""
    sys.stdout.write(f"{to_json(value)}\n")


def to_json(value: object) -> str:
    """A value in JSON of printable ASCII; what JSON cannot tell, such as an infinite number, is
    null."""
    text = msgspec.json.encode(value, enc_hook=str).decode()
    if not text.isascii():
        text = json.dumps(json.loads(text))
    return text.replace("\x7f", r"\u007f")


def to_lines(value: object) -> list[str]:
    """A value in JSON for people, who read more than ASCII."""
    plain = json.loads(to_json(value))
    return [printable(line) for line in json.dumps(plain, indent=2, ensure_ascii=False).split("\n")]


def brief(seconds: float) -> str:
    """An age in at most four characters: `7s`, `12m`, `3h`, `40d`."""
    for limit, unit, name in ((90, 1, "s"), (5400, 60, "m"), (129_600, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.0f}{name}"
    return f"{min(seconds / 86_400, 999):.0f}d"


def cells_of(text: str) -> int:
    """How much room printable text takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(_cells(char) for char in text)


def cut(text: str, width: int) -> str:
    """The text in at most `width` cells; a longer one ends in an ellipsis."""
    if cells_of(text) <= width:
        return text
    kept, room = [], width - 1
    for char in text:
        room -= _cells(char)
        if room < 0:
            break
        kept.append(char)
    return f"{''.join(kept)}…"


def _cells(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in _WIDE else 1
