"""Plain command lines, as those of services are, read without a parser.

To import argparse, and to let it make a parser of a hundred options, takes 2 ms of a listener's
start; this takes 0.1. So `cli`, which knows help, errors and all the rest, is asked only where a
command line is not plain.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from osmo_runtime.fields import Leaf, Shape, Table

CONFIG = "--config"
"""Names a file."""
COMMON = frozenset({"--help", "--version", CONFIG, "--print-config"})
"""The options that every program has besides."""


class Options(NamedTuple):
    """What a command line holds."""

    values: Mapping[str, object]
    """By key of the field, as text; what was not given is absent."""
    config: str | None = None
    print_config: bool = False


def read_plain(table: Table, argv: Sequence[str]) -> Options | None:
    """What `cli.parse` makes of a command line that has nothing but options of `table`, each
    written out and with a value that is no option; None of any other."""
    named: dict[str, Leaf] = {}
    for leaf in table.walk():
        for name in _names(leaf):
            if name in named or name in COMMON:
                return None  # a mistake of the program, which `cli` tells
            named[name] = leaf
    values: dict[str, object] = {}
    config = None
    words = iter(argv)
    for word in words:
        name, has_value, value = word.partition("=")
        asked = named.get(name)
        if asked is not None and asked.shape is Shape.SWITCH:
            if has_value:
                return None
            values[asked.key] = name == asked.flag
            continue
        if not has_value:
            value = next(words, "")
        if not value or value.startswith("-"):
            return None
        if asked is None:
            if name != CONFIG:
                return None
            config = value
        elif asked.shape is Shape.SCALAR:
            values[asked.key] = value
        else:
            several = values.setdefault(asked.key, [])
            assert isinstance(several, list)
            several.append(value)
    return Options(values, config)


def _names(leaf: Leaf) -> tuple[str, ...]:
    if leaf.setting.positional:
        return ()
    if leaf.shape is Shape.SWITCH:
        return leaf.flag, f"--no-{leaf.flag.removeprefix('--')}"
    return (leaf.flag,)
