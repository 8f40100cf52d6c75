"""The error of this library."""

from collections.abc import Iterable


class SettingsError(Exception):
    """The configuration is wrong; the text says where, and what is allowed there."""


def suggest(name: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown name: the nearest known one, else all of them."""
    choices = sorted(known)
    return nearest(name, choices) or f"known here: {', '.join(choices)}"


def nearest(name: str, known: Iterable[str]) -> str:
    """The question whether the nearest known name was meant; empty where none is near."""
    import difflib  # noqa: PLC0415  (only a mistake needs it)

    near = difflib.get_close_matches(name, sorted(known), 1)
    return f"did you mean {near[0]!r}?" if near else ""
