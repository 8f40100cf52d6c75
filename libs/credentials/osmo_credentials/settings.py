"""What an entry of `auth` says: `KIND?NAME=VALUE&…`."""

import re
from collections.abc import Mapping
from typing import TypeVar
from urllib.parse import parse_qsl

import msgspec

from osmo_transport.errors import UsageError

S = TypeVar("S", bound=msgspec.Struct)

HOLE = "{backend}"


def split(entry: str) -> tuple[str, dict[str, str]]:
    """The kind that an entry names, and its settings.

    Raises:
        UsageError: it cannot be read.
    """
    kind, _, query = entry.partition("?")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError as exc:
        raise UsageError(f"auth {kind!r}: its settings must look like NAME=VALUE&…") from exc
    settings = dict(pairs)
    if len(settings) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"auth {kind!r} says {twice} twice")
    return kind, settings


def read_settings(kind: str, settings: Mapping[str, str], type_: type[S]) -> S:
    """The settings of a kind, as their type has them. Its fields are the names.

    Raises:
        UsageError: one is unknown, is missing, or cannot be what it says.
    """
    fields = {field.encode_name: field for field in msgspec.structs.fields(type_)}
    known = ", ".join(fields)
    for name in settings:
        if name not in fields:
            raise UsageError(f"auth {kind!r} knows no {name!r}: it knows {known}")
    for name, field in fields.items():
        if field.required and not settings.get(name):
            raise UsageError(f"auth {kind!r} needs {name}, as in {kind}?{name}=…")
        if "\0" in settings.get(name, ""):
            raise UsageError(f"auth {kind!r}: {name} holds %00, which no name can hold")
    try:
        return msgspec.convert(dict(settings), type_, strict=False)
    except msgspec.ValidationError as exc:
        raise UsageError(f"auth {kind!r}: {exc}") from exc


class Pattern:
    """How a name tells a backend: a text in which `{backend}` stands where its name is, as in
    `spiffe://prod/listener/{backend}`."""

    def __init__(self, text: str, kind: str) -> None:
        """
        Raises:
            UsageError: `{backend}` is not in it once.
        """
        before, hole, after = text.partition(HOLE)
        if not hole or HOLE in after:
            raise UsageError(f"auth {kind!r}: the pattern {text!r} must hold {HOLE} once")
        self._expression = re.compile(
            f"{re.escape(before)}([A-Za-z0-9._-]+){re.escape(after)}", re.ASCII
        )

    def backend(self, name: str) -> str | None:
        """The backend that a name tells; None: it tells none."""
        found = self._expression.fullmatch(name)
        return found[1] if found else None
