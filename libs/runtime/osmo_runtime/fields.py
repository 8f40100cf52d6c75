"""What a configuration dataclass asks for, field by field: its names, type, default and help.

A field's docstring is its help text. `Annotated` carries the rest: `msgspec.Meta` the bounds of a
value, `Setting` what no bound can say. A field whose type is a dataclass is a table of fields.
"""

import ast
import dataclasses
import inspect
import textwrap
import types
from collections.abc import Iterator, Mapping, Set
from dataclasses import MISSING
from enum import Enum
from itertools import pairwise
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from osmo_transport.lean import dataclass
from osmo_transport.naming import option

ENV_PREFIX = "OSMO_"
CONFIG_ENV = f"{ENV_PREFIX}CONFIG"
"""Names the file of a program's configuration."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Goes into a field's `Annotated[...]`."""

    aliases: tuple[str, ...] = ()
    """Further names of its environment variable, written out, after the one of the field."""
    positional: bool = False
    """On the command line it is told apart by its place, not by its name: `rules set NAME A=B`. The
    environment has none: what a command is about is not to come from what is set for another one.
    """
    metavar: str = ""
    """What stands for a value in the help and in errors, where the type's own word says too little.
    """
    allowed: str = ""
    """What a text has to be, in words: errors say it in place of its pattern."""
    secret: bool = False
    """The value is never shown. A field whose name ends with `password`, `secret` or `token` is
    hidden even without it."""


class Shape(Enum):
    """How a field is written where only text can be written."""

    SCALAR = "scalar"
    SWITCH = "switch"
    """`--name` or `--no-name`."""
    LIST = "list"
    """An option that can be repeated; commas in an environment variable."""
    MAPPING = "mapping"
    """A list of `key=value`."""


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """One field that holds a value."""

    path: tuple[str, ...]
    type: Any
    """With its `Annotated` metadata, as msgspec wants it."""
    default: object
    """`MISSING` where the field has to be given."""
    setting: Setting
    shape: Shape

    @property
    def key(self) -> str:
        """Its name in a TOML file, for example `limits.max_entries`."""
        return ".".join(self.path)

    @property
    def flag(self) -> str:
        """Its name on the command line, for example `--limits-max-entries`, or `NAME` of one that
        is told apart by its place."""
        if self.setting.positional:
            return self.path[-1].upper()
        return option(self.key)

    @property
    def env_names(self) -> tuple[str, ...]:
        """Its names in the environment, such as `OSMO_LIMITS_MAX_ENTRIES`; the first one wins. One
        that is told apart by its place has none."""
        if self.setting.positional:
            return ()
        return (ENV_PREFIX + "_".join(self.path).upper(), *self.setting.aliases)


@dataclass(frozen=True, kw_only=True)
class Table:
    """One dataclass: the whole configuration, or a table in it."""

    path: tuple[str, ...]
    type: type[Any]
    default: Any
    """The instance that stands where nothing is given; `MISSING`: the class' own defaults."""
    leaves: tuple[Leaf, ...]
    tables: tuple["Table", ...]

    def walk(self) -> Iterator[Leaf]:
        """Every leaf, those of the tables in it last."""
        yield from self.leaves
        for table in self.tables:
            yield from table.walk()


def read_table(config: type[Any], path: tuple[str, ...] = (), default: Any = MISSING) -> Table:
    """The fields of a dataclass. Those that a class adds come before those that it inherits."""
    hints = get_type_hints(config, include_extras=True)
    depths = _depths(config)
    leaves: list[Leaf] = []
    tables: list[Table] = []
    for field in sorted(dataclasses.fields(config), key=lambda field: depths[field.name]):
        hint, inner = hints[field.name], (*path, field.name)
        value = _default(field) if default is MISSING else getattr(default, field.name)
        if dataclasses.is_dataclass(hint):
            assert isinstance(hint, type)
            tables.append(read_table(hint, inner, value))
            continue
        metadata = getattr(hint, "__metadata__", ())
        setting = next((item for item in metadata if isinstance(item, Setting)), Setting())
        shape = _shape(hint)
        leaves.append(Leaf(path=inner, type=hint, default=value, setting=setting, shape=shape))
    return Table(
        path=path, type=config, default=default, leaves=tuple(leaves), tables=tuple(tables)
    )


def read_docs(table: Table) -> dict[str, str]:
    """The help of each leaf by key, from the docstrings under the fields.

    Empty where the source is not at hand, as in a frozen executable.
    """
    docs: dict[str, str] = {}
    for config in reversed(table.type.__mro__[:-1]):
        for name, text in docstrings(config):
            docs[".".join((*table.path, name))] = text
    for inner in table.tables:
        docs |= read_docs(inner)
    return docs


def docstrings(config: type[Any]) -> Iterator[tuple[str, str]]:
    """The text under each field of a class, or under each member of an enumeration."""
    try:
        source = inspect.getsource(config)
    except (OSError, TypeError):
        return
    definition = ast.parse(textwrap.dedent(source)).body[0]
    assert isinstance(definition, ast.ClassDef)
    for statement, follower in pairwise(definition.body):
        match statement, follower:
            case (
                ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                yield name, " ".join(text.split())


def _depths(config: type[Any]) -> dict[str, int]:
    """By field, how far up the class is that has it."""
    depths: dict[str, int] = {}
    for depth, base in enumerate(config.__mro__):
        for name in inspect.get_annotations(base):
            depths.setdefault(name, depth)
    return depths


def _default(field: "dataclasses.Field[Any]") -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return field.default


def _shape(hint: Any) -> Shape:
    origin = get_origin(hint)
    if origin is Annotated:
        return _shape(get_args(hint)[0])
    if origin in {Union, types.UnionType}:
        shapes = {_shape(arg) for arg in get_args(hint) if arg is not types.NoneType}
        return shapes.pop() if len(shapes) == 1 else Shape.SCALAR
    base = origin or hint
    if not isinstance(base, type):
        return Shape.SCALAR
    if base is bool:
        return Shape.SWITCH
    if issubclass(base, Mapping):
        return Shape.MAPPING
    return Shape.LIST if issubclass(base, list | tuple | Set) else Shape.SCALAR
