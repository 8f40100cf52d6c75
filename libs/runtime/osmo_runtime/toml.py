"""The configuration file: reading one, and writing the settings in force as one."""

import re
from collections.abc import Mapping
from pathlib import Path

from osmo_runtime.errors import SettingsError, suggest
from osmo_runtime.fields import Table

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def read(file: str, table: Table) -> dict[str, object]:
    """The values that a file holds, by key of the field.

    Raises:
        SettingsError: it cannot be read, is not TOML, or holds a key that is not known, or a text
            with a NUL, which neither an option nor a variable can hold.
    """
    import tomllib  # noqa: PLC0415  (most starts have no file)

    try:
        text = Path(file).read_text(encoding="utf-8")
        content = tomllib.loads(text)
    except OSError as exc:
        raise SettingsError(f"cannot read the configuration file {file}: {exc.strerror}") from exc
    except (ValueError, RecursionError) as exc:
        raise SettingsError(f"{file} is not a TOML file: {exc}") from exc
    values: dict[str, object] = {}
    _flatten(file, table, content, values)
    return values


def _flatten(
    file: str, table: Table, content: dict[str, object], values: dict[str, object]
) -> None:
    leaves = {leaf.path[-1]: leaf for leaf in table.leaves}
    tables = {inner.path[-1]: inner for inner in table.tables}
    for name, value in content.items():
        key = ".".join((*table.path, name))
        if name in leaves:
            if _holds_nul(value):
                raise SettingsError(f"{file}: {key} is not allowed: it holds the character \\u0000")
            values[key] = value
        elif name not in tables:
            raise SettingsError(f"{file}: unknown key {key!r}: {suggest(name, [*leaves, *tables])}")
        elif isinstance(value, dict):
            _flatten(file, tables[name], value, values)
        else:
            raise SettingsError(f"{file}: {key} is not allowed: expected a table, [{key}]")


def _holds_nul(value: object) -> bool:
    match value:
        case str():
            return "\0" in value
        case list():
            return any(map(_holds_nul, value))
        case dict():
            return any(_holds_nul(part) for item in value.items() for part in item)
    return False


def write(table: Table, values: Mapping[str, object], origins: Mapping[str, str]) -> str:
    """Settings as a file that `read` takes, with the origin of each value as a comment.

    `values` are nested as the tables are, and plain (`settings.to_dict`).
    """
    lines = [f"[{'.'.join(table.path)}]"] if table.path else []
    for leaf in table.leaves:
        value, origin = values[leaf.path[-1]], origins.get(leaf.key, "default")
        name = leaf.path[-1]
        lines.append(
            f"# {name} is not set" if value is None else f"{name} = {_literal(value)}  # {origin}"
        )
    text = "".join(f"{line}\n" for line in lines)
    for inner in table.tables:
        nested = values[inner.path[-1]]
        assert isinstance(nested, dict)
        text += f"\n{write(inner, nested, origins)}"
    return text


def _literal(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return _string(value)
        case dict():
            return (
                f"{{{', '.join(f'{_key(key)} = {_literal(item)}' for key, item in value.items())}}}"
            )
        case list() | tuple():
            return f"[{', '.join(map(_literal, value))}]"
    return repr(value)


def _key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else _string(name)


def _string(text: str) -> str:
    import json  # noqa: PLC0415  (only who prints settings needs it)

    # JSON's escapes are TOML's, but TOML also wants DEL escaped; what is not Unicode (a file name
    # in another encoding) is written as its escape, which reads well though it does not read back.
    quoted = json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
    return quoted.encode("utf-8", "backslashreplace").decode()
