"""The error of this library."""

import difflib
from collections.abc import Iterable


class SettingsError(Exception):
    """The configuration is wrong; the text says where, and what is allowed there."""


def suggest(name: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown name: the nearest known one, else all of them."""
    choices = sorted(known)
    near = difflib.get_close_matches(name, choices, 1)
    return f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(choices)}"
