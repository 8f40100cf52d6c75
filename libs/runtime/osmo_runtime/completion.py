"""Completion in a shell: it asks the program itself what may stand at the end of a command line.

The answer is made of the same parsers that read the command line, so that both know the same.
"""

import os
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from osmo_runtime.fields import read_docs, read_table
from osmo_transport.errors import MissingExtraError

if TYPE_CHECKING:
    # Each start asks whether a shell asks, and few shells do.
    from argparse import ArgumentParser

Commands = Mapping[tuple[str, ...], type[Any]]
"""By the words of a command, its configuration; no words: of the program without any."""

_ASKED = "_ARGCOMPLETE"


def shell_code(programs: Iterable[str], shell: str) -> str:
    """What a shell has to run so that it asks these programs.

    Raises:
        MissingExtraError: the extra is not installed.
    """
    try:
        from argcomplete.shell_integration import shellcode  # noqa: PLC0415  (optional)
    except ImportError as exc:
        raise MissingExtraError(
            "completion needs argcomplete: pip install 'osmo-pipeline[completion]'"
        ) from exc
    return shellcode(list(programs), shell=shell)


def complete(prog: str, commands: Commands) -> None:
    """Answer the shell, if it is one that asks, and end the process; else return."""
    if _ASKED not in os.environ:
        return
    try:
        import argcomplete  # noqa: PLC0415  (optional)
    except ImportError:
        # The shell gives no arguments: without an answer a service would begin to run.
        sys.exit(1)
    argcomplete.autocomplete(parser_of(prog, commands))


def parser_of(prog: str, commands: Commands) -> "ArgumentParser":
    """The whole command line of a program, with the values of each option that has few."""
    root = _parser(prog, commands.get(()))
    groups: dict[tuple[str, ...], Any] = {}
    make: Any = _parser  # argparse calls it, and asks for no class

    def group(words: tuple[str, ...]) -> Any:
        if words not in groups:
            parser = group(words[:-1]).add_parser(words[-1], config=None) if words else root
            groups[words] = parser.add_subparsers(parser_class=make)
        return groups[words]

    for words, config in commands.items():
        if words:
            group(words[:-1]).add_parser(words[-1], config=config)
    return root


def _parser(prog: str, config: type[Any] | None, **_: object) -> "ArgumentParser":
    from argparse import ArgumentParser  # noqa: PLC0415

    from msgspec import inspect as kinds  # noqa: PLC0415

    from osmo_runtime.cli import Parser, choices  # noqa: PLC0415

    if config is None:
        return ArgumentParser(prog)
    table = read_table(config)
    parser, docs = Parser(prog, table), read_docs(table)
    for leaf, action in parser.fields():
        action.help = docs.get(leaf.key, "").replace("%", "%%")
        action.choices = choices(kinds.type_info(leaf.type)) or None
    return parser
