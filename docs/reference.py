"""The pages that the code tells of itself: directives for Sphinx.

`configuration PROGRAM` lists the settings of a program, `metrics` the figures of every service,
and `frames` what the two ends of a connection say.
"""

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

import msgspec
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

import osmo_listener
import osmo_listener.__main__
import osmo_operator
import osmo_operator.__main__
import osmo_pipeline
import osmo_pipeline.__main__
import osmo_runtime.operations
import osmo_simulator.__main__
import osmo_worker
import osmo_worker.__main__
from osmo_runtime.cli import default_of, metavar_of
from osmo_runtime.fields import Leaf, Shape, Table, docstrings, read_docs, read_table
from osmo_runtime.operations import Figure
from osmo_transport import frames
from osmo_worker.config import default_name

if TYPE_CHECKING:
    from sphinx.application import Sphinx

PROGRAMS: dict[str, type[Any]] = {
    "osmo-listener": osmo_listener.__main__.Settings,
    "osmo-operator": osmo_operator.__main__.Settings,
    "osmo-worker": osmo_worker.__main__.Settings,
    "osmo-worker migrate": osmo_worker.__main__.MigrateSettings,
    "osmo-simulator": osmo_simulator.__main__.Settings,
    **{
        " ".join(("osmo-pipeline", *words)): command.config
        for words, command in osmo_pipeline.__main__.COMMANDS.items()
    },
}
"""The settings of each."""

SERVICES: Mapping[str, ModuleType] = {
    "osmo-listener": osmo_listener,
    "osmo-operator": osmo_operator,
    "osmo-worker": osmo_worker,
    "each of them": osmo_runtime.operations,
}
"""The packages whose figures the programs tell that have an operations port."""


def configuration(program: str) -> Iterator[str]:
    """The settings of a program, table by table."""
    table = read_table(PROGRAMS[program])
    yield from _settings(table, read_docs(table), program)


def _settings(table: Table, docs: dict[str, str], program: str) -> Iterator[str]:
    if table.leaves and table.path:
        yield f"\n**`[{'.'.join(table.path)}]`** of `{program}`\n"
    for leaf in table.leaves:
        switch = leaf.shape is Shape.SWITCH
        option = f"--[no-]{leaf.flag[2:]}" if switch else f"{leaf.flag} {metavar_of(leaf)}"
        names = (*leaf.env_names, leaf.key)
        yield f"\n{_code(option)}"
        yield f": {docs[leaf.key]}\n"
        yield f"  {', '.join(map(_code, names))}; default: {_default(leaf)}\n"
    for inner in table.tables:
        yield from _settings(inner, docs, program)


def _default(leaf: Leaf) -> str:
    text = default_of(leaf)
    # The same on every machine that builds this.
    if text is None:
        return "none, it has to be given"
    return "none" if text == "none" else _code(text.replace(default_name(), "HOST-PID"))


def metrics(services: Mapping[str, ModuleType] = SERVICES) -> Iterator[str]:
    """The figures of every service, by their names in Prometheus."""
    for program, package in services.items():
        yield f"\n## {program}\n"
        yield "| metric | kind | attributes | |"
        yield "|---|---|---|---|"
        for figure in sorted(_figures(package), key=lambda figure: figure.exposed):
            attributes = ", ".join(map(_code, figure.attributes))
            yield _row((_code(figure.exposed), figure.kind.value, attributes, figure.help))


def _figures(package: ModuleType) -> Iterator[Figure]:
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        if module.name.endswith(".figures"):
            found = vars(importlib.import_module(module.name)).values()
            yield from (value for value in found if isinstance(value, Figure))


def wire() -> Iterator[str]:
    """Every frame, with its fields in the order in which they travel."""
    for frame in frames.Frame.__args__:
        yield f"\n## {frame.__struct_config__.tag}\n"
        yield f"{_line(frame.__doc__)}\n"
        docs = dict(docstrings(frame))
        fields = msgspec.structs.fields(frame)
        if fields:
            yield "| place | field | type | default | |"
            yield "|---|---|---|---|---|"
        for place, field in enumerate(fields, 1):
            default = "" if field.required else _code(repr(field.default))
            yield _row(
                (
                    str(place),
                    _code(field.name),
                    _type(field.type),
                    default,
                    docs.get(field.name, ""),
                )
            )
    yield "\n## Why a connection ends\n"
    yield "| `code` of `goodbye` | |"
    yield "|---|---|"
    docs = dict(docstrings(frames.GoodbyeCode))
    for code in frames.GoodbyeCode:
        yield _row((_code(code.value), docs[code.name]))
    yield "\n## Limits\n"
    yield "| place | limit | default | |"
    yield "|---|---|---|---|"
    docs = dict(docstrings(frames.Limits))
    for place, limit in enumerate(dataclasses.fields(frames.Limits), 1):
        yield _row((str(place), _code(limit.name), str(limit.default), docs[limit.name]))


def _type(hint: Any) -> str:
    kind = msgspec.inspect.type_info(hint)
    if isinstance(kind, msgspec.inspect.Metadata):
        kind = kind.type
    name = type(kind).__name__.removesuffix("Type").lower()
    return {"str": "text", "vartuple": "array", "dataclass": "array", "bool": "boolean"}.get(
        name, name
    )


def _code(text: str) -> str:
    return f"`{text}`"


def _line(text: str) -> str:
    return " ".join(text.split())


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


class _Told(SphinxDirective):
    """Stands for what a function yields, as Markdown."""

    def told(self) -> Iterator[str]:
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes("\n".join(self.told()), allow_section_headings=True)


class _Commands(_Told):
    required_arguments = 1

    def told(self) -> Iterator[str]:
        for program in PROGRAMS:
            if program.startswith(f"{self.arguments[0]} "):
                yield f"\n### {program}\n"
                yield from configuration(program)


class _Configuration(_Told):
    required_arguments = 1
    final_argument_whitespace = True

    def told(self) -> Iterator[str]:
        return configuration(self.arguments[0])


def _telling(source: Callable[[], Iterator[str]]) -> type[_Told]:
    return type(source.__name__, (_Told,), {"told": staticmethod(source)})


def setup(app: "Sphinx") -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("configuration", _Configuration)
    app.add_directive("commands", _Commands)
    app.add_directive("metrics", _telling(metrics))
    app.add_directive("frames", _telling(wire))
    return {"parallel_read_safe": True}
