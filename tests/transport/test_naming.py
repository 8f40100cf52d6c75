"""What settings are called in messages is what programs call them."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from osmo_listener.__main__ import Settings
from osmo_operator.__main__ import Settings as OperatorSettings
from osmo_runtime.fields import Leaf, read_table
from osmo_transport.naming import setting
from osmo_worker.__main__ import Settings as WorkerSettings

ROOT = Path(__file__).parents[2]
PROGRAMS = (Settings, OperatorSettings, WorkerSettings)
LEAVES: dict[str, Leaf] = {leaf.key: leaf for each in PROGRAMS for leaf in read_table(each).walk()}
IN_TABLES = {key for key in LEAVES if "." in key}
ENDINGS = {".".join(key.split(".")[at:]) for key in IN_TABLES for at in range(key.count("."))}
ALONE = ENDINGS | {LEAVES[key].flag for key in IN_TABLES}
WORD = re.compile(r"(?<![\w.-])(?:--[a-z-]+|[a-z_]+(?:\.[a-z_]+)+)(?![\w(.-])")
NAMED = re.compile(r"""\bsetting\(["']([a-z_.]+)["']\)""")


@cache
def sources() -> dict[str, str]:
    """The code of all programs, by where it is."""
    paths = [path for folder in ("libs", "services") for path in (ROOT / folder).rglob("*.py")]
    return {str(path.relative_to(ROOT)): path.read_text() for path in paths}


def names_alone(text: str) -> bool:
    """Whether a setting is in it by one of its names."""
    return not ALONE.isdisjoint(WORD.findall(text))


def texts(tree: ast.Module) -> Iterator[str]:
    """What it says, but in its docstrings, and but for names that it hands to `setting`."""
    aside = {
        id(part)
        for node in ast.walk(tree)
        for part in (
            [node.value]
            if isinstance(node, ast.Expr)
            else node.args
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "setting"
            else []
        )
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in aside:
            yield node.value


def test_a_setting_is_called_as_on_the_command_line_and_in_the_file() -> None:
    """Each in one word, which a reader can look for."""
    assert setting("client.tls.ca_file") == "--client-tls-ca-file (client.tls.ca_file)"
    for key, leaf in LEAVES.items():
        assert setting(key) == f"{leaf.flag} ({key})"


def test_every_setting_that_a_message_names_is_one() -> None:
    """Of some program."""
    named = {key for code in sources().values() for key in NAMED.findall(code)}
    assert len(named) > 5
    assert named <= LEAVES.keys()


def test_no_message_names_a_setting_by_one_of_its_names_alone() -> None:
    """Whoever typed an option would not find its key in a file, nor the other way round."""
    found = {
        (path, text)
        for path, code in sources().items()
        if names_alone(code)
        for text in texts(ast.parse(code))
        if " " in text and names_alone(text)
    }
    assert not found
