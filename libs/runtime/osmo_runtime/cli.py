"""The command line of a configuration dataclass: one option per field, and the four of every
program."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import MISSING
from typing import NoReturn

import msgspec
from msgspec import inspect as kinds

from osmo_runtime.build import version
from osmo_runtime.errors import SettingsError, nearest, suggest
from osmo_runtime.fields import CONFIG_ENV, Leaf, Shape, Table, read_docs
from osmo_runtime.masking import mask, mask_text
from osmo_runtime.options import CONFIG, Options

_NO_PLACES = ": every value has an option"


def parse(prog: str, table: Table, argv: Sequence[str], commands: Sequence[str] = ()) -> Options:
    """Read a command line; `commands` are those that the program has besides.

    Raises:
        SettingsError: an unknown option, or one without its value.
        SystemExit: `--help` or `--version`, answered on stdout.
    """
    parser = Parser(prog, table, commands)
    known, unknown = parser.parse_known_args(argv)
    if unknown:
        # A value after "=" may be a secret, and is not what is wrong.
        name = unknown[0].partition("=")[0]
        if not name.startswith("-"):
            raise SettingsError(_unexpected(prog, table, name, commands))
        raise SettingsError(f"unknown option {name!r}: {suggest(name, parser.option_names())}")
    values = vars(known)
    config, print_config = values.pop("config", None), values.pop("print_config")
    return Options(values, config, print_config)


def _unexpected(prog: str, table: Table, name: str, commands: Sequence[str]) -> str:
    shown = mask_text(name)
    if name in commands:
        return f"the command {name!r} comes first: {prog} {name} [options]"
    if commands:
        question = nearest(name, commands)
        every = ", ".join(commands)
        return f"no command {shown!r}: {question}{' ' * bool(question)}the commands are: {every}"
    takes_places = any(leaf.setting.positional for leaf in table.leaves)
    return f"unexpected argument {shown!r}{'' if takes_places else _NO_PLACES}"


class Parser(argparse.ArgumentParser):
    """The command line of the program or command `prog`, whose configuration `table` is, and which
    has `commands` besides."""

    def __init__(self, prog: str, table: Table, commands: Sequence[str] = ()) -> None:
        super().__init__(
            prog=prog,
            usage="\n       ".join(
                (_usage(table), *(f"%(prog)s {command} [options]" for command in commands))
            ),
            description=table.type.__doc__,
            epilog="An option wins over its environment variable, that over the file, that over"
            " the default.",
            allow_abbrev=False,
            add_help=False,
            argument_default=argparse.SUPPRESS,
        )
        self._table = table
        self._fields: dict[str, tuple[Leaf, argparse.Action]] = {}
        self._add_fields(table)
        common = self.add_argument_group("of every program")
        common.add_argument("--help", "-h", action=_Help, nargs=0, help="Show this and exit.")
        common.add_argument(
            "--version", action=_Version, nargs=0, help="Show the version and exit."
        )
        common.add_argument(
            CONFIG, metavar="FILE", help=f"Read settings from a TOML file. [env {CONFIG_ENV}]"
        )
        common.add_argument(
            "--print-config",
            action="store_true",
            default=False,
            help="Show the settings in force, secrets masked, with the source of each, and exit.",
        )

    def option_names(self) -> list[str]:
        """Those with two dashes."""
        return [name for name in self._option_string_actions if name.startswith("--")]

    def error(self, message: str) -> NoReturn:
        """Let the caller say what is wrong.

        Raises:
            SettingsError
        """
        raise SettingsError(message.removeprefix("argument "))

    def fields(self) -> Iterator[tuple[Leaf, argparse.Action]]:
        """Each field with its place on the command line."""
        yield from self._fields.values()

    def format_help(self) -> str:
        """The help, from the docstrings of the fields."""
        docs = read_docs(self._table)
        for key, (leaf, action) in self._fields.items():
            default = default_of(leaf)
            known = "required" if default is None else f"default {default}"
            facts = (
                f"[env {' or '.join(leaf.env_names)}; {known}]" if leaf.env_names else f"[{known}]"
            )
            action.help = f"{docs.get(key, '')} {facts}".replace("%", "%%")
            if leaf.setting.positional and leaf.shape is Shape.SCALAR and not leaf.setting.metavar:
                action.metavar = leaf.flag
            elif action.nargs != 0:
                action.metavar = metavar_of(leaf)
        return super().format_help()

    def _add_fields(self, table: Table) -> None:
        group = self.add_argument_group(f"[{'.'.join(table.path)}]" if table.path else "options")
        for leaf in table.leaves:
            self._fields[leaf.key] = leaf, _add(group, leaf)
        for inner in table.tables:
            self._add_fields(inner)


def _add(group: "argparse._ArgumentGroup", leaf: Leaf) -> argparse.Action:
    if leaf.shape is Shape.SWITCH:
        return group.add_argument(leaf.flag, dest=leaf.key, action=argparse.BooleanOptionalAction)
    repeatable = leaf.shape in {Shape.LIST, Shape.MAPPING}
    if leaf.setting.positional:
        return group.add_argument(leaf.key, nargs="*" if repeatable else "?")
    return group.add_argument(leaf.flag, dest=leaf.key, action="append" if repeatable else "store")


def _usage(table: Table) -> str:
    places = [_place(leaf) for leaf in table.leaves if leaf.setting.positional]
    return " ".join(("%(prog)s", *places, "[options]"))


def _place(leaf: Leaf) -> str:
    place = f"{metavar_of(leaf)} ..." if leaf.shape in {Shape.LIST, Shape.MAPPING} else leaf.flag
    return place if leaf.default is MISSING else f"[{place}]"


class _Help(argparse.Action):
    # argparse's own keeps silent about a text that could not be written.
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        sys.stdout.write(parser.format_help())
        parser.exit()


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        sys.stdout.write(f"{parser.prog} {version()}\n")
        parser.exit()


def default_of(leaf: Leaf) -> str | None:
    """The default of a field as help and documents have it; None where a value has to be given."""
    if leaf.default is MISSING:
        return None
    plain = msgspec.to_builtins(leaf.default, enc_hook=str)
    if plain in (None, "", [], (), {}):
        return "none"
    shown = mask(plain, leaf.path[-1], secret=leaf.setting.secret)
    return shown if isinstance(shown, str) else msgspec.json.encode(shown).decode()


def metavar_of(leaf: Leaf) -> str:
    """What stands for a value of a field in help and documents."""
    return leaf.setting.metavar or _metavar(leaf.shape, kinds.type_info(leaf.type))


def choices(kind: kinds.Type) -> list[str]:
    """The values of a type that has few; of another one none."""
    match kind:
        case kinds.Metadata(type=inner) | kinds.CollectionType(item_type=inner):
            return choices(inner)
        case kinds.UnionType(types=types):
            return [value for inner in types for value in choices(inner)]
        case kinds.EnumType(cls=cls):
            return [str(member.value) for member in cls]
        case kinds.LiteralType(values=values):
            return [str(value) for value in values]
    return []


def _metavar(shape: Shape, kind: kinds.Type) -> str:
    if shape is Shape.MAPPING:
        return "KEY=VALUE"
    match kind:
        case kinds.Metadata(type=inner) | kinds.CollectionType(item_type=inner):
            return _metavar(Shape.SCALAR, inner)
        case kinds.UnionType(types=types):
            return "|".join(
                _metavar(shape, inner) for inner in types if not isinstance(inner, kinds.NoneType)
            )
        case kinds.EnumType() | kinds.LiteralType():
            return "|".join(choices(kind))
        case kinds.CustomType(cls=cls):
            return cls.__name__.upper()
        case kinds.IntType() | kinds.FloatType():
            return "NUMBER"
    return "TEXT"
