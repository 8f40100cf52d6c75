"""Reads a program's configuration: command line, environment, file, defaults, in this precedence.

From a dataclass with a docstring under each field

    @dataclass(frozen=True, kw_only=True)
    class Limits:
        max_entries: Annotated[int, msgspec.Meta(ge=1)] = 1000
        '''Entries that are held.'''

    @dataclass(frozen=True, kw_only=True)
    class Config:
        '''What the program does.'''

        listen: tuple[str, ...]
        '''Addresses to listen on.'''
        backend: Annotated[str, Setting(aliases=("BACKEND",))] = "default"
        '''Name of the cluster.'''
        limits: Limits = Limits()

a field gets these names, in each program the same:

    command line   --listen A --listen B    --backend NAME      --limits-max-entries 5
    environment    OSMO_LISTEN=A,B          OSMO_BACKEND=NAME   OSMO_LIMITS_MAX_ENTRIES=5
    file (TOML)    listen = ["A", "B"]      backend = "NAME"    [limits]  max_entries = 5

A variable's aliases are asked after its own name, and one that is empty counts as not set. A list
replaces the one of a lower source, and so does a mapping, which is written `key=value` where only
text can be written. `--config FILE` or `OSMO_CONFIG` names the file. Types are those that
`msgspec.convert` knows, and `Path`.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, replace
from typing import Any, Generic, TypeVar

import msgspec

from osmo_runtime import toml
from osmo_runtime.errors import SettingsError
from osmo_runtime.fields import CONFIG_ENV, ENV_PREFIX, Leaf, Shape, Table, read_table
from osmo_runtime.masking import mask
from osmo_runtime.options import Options, read_plain
from osmo_runtime.values import convert
from osmo_transport.lean import dataclass

TYPO_CUTOFF = 0.8
"""How alike (difflib) an unknown variable has to be to a known one to be called a typo: the
environment also holds the variables of other programs."""

C = TypeVar("C")


@dataclass(frozen=True, kw_only=True)
class Loaded(Generic[C]):
    """A configuration and where it came from."""

    config: C
    table: Table
    origins: Mapping[str, str]
    """By key: the option, variable or file that gave the value; absent: the default did."""
    warnings: tuple[str, ...]
    """What looks like a mistake but need not be one."""
    print_config: bool
    """Whether `--print-config` was given."""

    def to_dict(self) -> dict[str, object]:
        """The settings in force as plain values, secrets masked."""
        return _to_dict(self.table, self.config)

    def changed(self) -> dict[str, object]:
        """The settings that are not as they are by default, by key, as plain values, secrets
        masked."""
        return {
            leaf.key: _shown(leaf, value)
            for leaf in self.table.walk()
            if (value := functools.reduce(getattr, leaf.path, self.config)) != leaf.default
        }

    def origins_of(self, key: str) -> list[str]:
        """Who gave the setting `key`, or settings of the table `key`: options, variables, files."""
        return [
            origin
            for given, origin in self.origins.items()
            if given == key or given.startswith(f"{key}.")
        ]

    def to_toml(self) -> str:
        """The settings in force as a configuration file, secrets masked, each with its origin."""
        return toml.write(self.table, self.to_dict(), self.origins)


def load(
    prog: str,
    config: type[C],
    argv: Sequence[str],
    environ: Mapping[str, str],
    commands: Sequence[str] = (),
) -> Loaded[C]:
    """Read the configuration of the program `prog`; `commands` are those that it has besides.

    Raises:
        SettingsError: a value is wrong, missing or unknown; the text names its source.
        SystemExit: `--help` or `--version` was given and is answered on stdout.
    """
    table = read_table(config)
    options = read_plain(table, argv) or _parsed(prog, table, argv, commands)
    file = options.config or environ.get(CONFIG_ENV)
    in_file = toml.read(file, table) if file else {}
    values: dict[str, object] = {}
    origins: dict[str, str] = {}
    for leaf in table.walk():
        variable = next((name for name in leaf.env_names if environ.get(name)), None)
        if leaf.key in options.values:
            origin, raw, typed = leaf.flag, options.values[leaf.key], False
        elif variable:
            origin, raw, typed = variable, _split(leaf.shape, environ[variable]), False
        elif leaf.key in in_file:
            origin, raw, typed = f"{file}: {leaf.key}", in_file[leaf.key], True
        elif leaf.default is MISSING:
            variables = " or ".join(leaf.env_names)
            raise SettingsError(
                f"{leaf.key} is missing: give {leaf.flag},"
                f"{f' or {variables} in the environment,' if variables else ''}"
                f" or {leaf.key} in the file of --config"
            )
        else:
            continue
        origins[leaf.key] = origin
        values[leaf.key] = convert(leaf, origin, raw, strict=typed)
    built = _build(table, values)
    return Loaded(
        config=built,
        table=table,
        origins=origins,
        warnings=(*_typos(table, environ), *_in_arguments(table, built, origins)),
        print_config=options.print_config,
    )


def _parsed(prog: str, table: Table, argv: Sequence[str], commands: Sequence[str]) -> Options:
    from osmo_runtime import cli  # noqa: PLC0415  (see `options`)

    return cli.parse(prog, table, argv, commands)


def _split(shape: Shape, text: str) -> object:
    if shape not in {Shape.LIST, Shape.MAPPING}:
        return text
    return [item.strip() for item in text.split(",") if item.strip()]


def _build(table: Table, values: Mapping[str, object]) -> Any:
    given = {leaf.path[-1]: values[leaf.key] for leaf in table.leaves if leaf.key in values}
    given |= {inner.path[-1]: _build(inner, values) for inner in table.tables}
    try:
        return table.type(**given) if table.default is MISSING else replace(table.default, **given)
    except ValueError as exc:
        raise SettingsError(f"{'.'.join(table.path) or 'the configuration'}: {exc}") from exc


def _plain(value: object) -> object:
    plain: object = msgspec.to_builtins(value, enc_hook=str)
    return list(plain) if isinstance(plain, tuple) else plain


def _shown(leaf: Leaf, value: object) -> object:
    return mask(_plain(value), leaf.path[-1], secret=leaf.setting.secret)


def _to_dict(table: Table, config: object) -> dict[str, object]:
    plain: dict[str, object] = {}
    for leaf in table.leaves:
        name = leaf.path[-1]
        plain[name] = _shown(leaf, getattr(config, name))
    for inner in table.tables:
        plain[inner.path[-1]] = _to_dict(inner, getattr(config, inner.path[-1]))
    return plain


def _in_arguments(table: Table, config: object, origins: Mapping[str, str]) -> Iterator[str]:
    for leaf in table.walk():
        if leaf.setting.positional:
            continue  # it could be given nowhere else
        value = functools.reduce(getattr, leaf.path, config)
        if origins.get(leaf.key) == leaf.flag and _shown(leaf, value) != _plain(value):
            file = next(
                (each for each in table.leaves if each.key == f"{leaf.key}_password_file"), None
            )
            elsewhere = f", or the password in {file.flag}" if file is not None else ""
            yield (
                f"everybody on this machine sees the secret in {leaf.flag}, as ps shows arguments:"
                f" give it as {leaf.env_names[0]} in the environment{elsewhere}"
            )


def _typos(table: Table, environ: Mapping[str, str]) -> Iterator[str]:
    known = {CONFIG_ENV}.union(*(leaf.env_names for leaf in table.walk()))
    stems = [name.removeprefix(ENV_PREFIX) for name in known if name.startswith(ENV_PREFIX)]
    for name in environ:
        if name.startswith(ENV_PREFIX) and name not in known:
            import difflib  # noqa: PLC0415  (only a mistake needs it)

            # Without the prefix, which all have in common and which makes all alike.
            near = difflib.get_close_matches(name.removeprefix(ENV_PREFIX), stems, 1, TYPO_CUTOFF)
            if near:
                yield f"environment variable {name} is not known: is {ENV_PREFIX}{near[0]} meant?"
