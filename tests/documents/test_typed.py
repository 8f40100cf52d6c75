"""What the documents say to type is understood by the programs."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from osmo_credentials import kinds_of, open_authenticator
from osmo_credentials.registry import KINDS
from osmo_listener.__main__ import Settings
from osmo_operator.__main__ import Settings as OperatorSettings
from osmo_pipeline.__main__ import COMMANDS
from osmo_runtime.settings import load
from osmo_simulator.__main__ import Settings as SimulatorSettings
from osmo_worker.__main__ import Settings as WorkerSettings
from tests.documents.guide import ROOT

PROGRAMS: dict[tuple[str, ...], type[Any]] = {
    ("osmo-listener",): Settings,
    ("osmo-operator",): OperatorSettings,
    ("osmo-simulator",): SimulatorSettings,
    ("osmo-worker",): WorkerSettings,
    **{("osmo-pipeline", *words): command.config for words, command in COMMANDS.items()},
}
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("[ls]*/*/*.md")]


def typed() -> Iterator[list[str]]:
    """Each command line of our programs, in a block or at the end of a row of a table."""
    for page in PAGES:
        for line in re.findall(r"\| `(osmo-pipeline [^`]+)` \|$", page.read_text(), re.MULTILINE):
            yield shlex.split(line)
        for block in re.findall(
            r"^```(?:sh)?\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE
        ):
            for line in block.replace("\\\n", " ").splitlines():
                if re.match(r"(\$ )?osmo-(listener|operator|simulator|worker|pipeline) ", line):
                    words = shlex.split(line.removeprefix("$ "), comments=True)
                    yield words


LINES = list(typed())
TYPED = [
    pytest.param(program, words[len(program) :], id=" ".join(words)[:60])
    for words in LINES
    for program in PROGRAMS
    if tuple(words[: len(program)]) == program
]


@pytest.mark.parametrize(("program", "options"), TYPED)
def test_a_command_line_is_understood(program: tuple[str, ...], options: list[str]) -> None:
    """With each of its options."""
    load(" ".join(program), PROGRAMS[program], options[: _end(options)], {})


def _end(options: list[str]) -> int:
    """Where the shell takes over."""
    return next(
        (at for at, word in enumerate(options) if word in {"|", "&", ">", ";"}), len(options)
    )


def test_every_command_has_a_line() -> None:
    """Or a page tells nothing of it."""
    told = {param.values[0] for param in TYPED}
    assert PROGRAMS.keys() - told == {("osmo-pipeline", "completion")}  # it is for `source <(…)`


def entries() -> list[str]:
    """The kinds of credentials in the operator's table, as `--auth` takes them."""
    text = (ROOT / "services/operator/README.md").read_text()
    return re.findall(r"^\| `(\w+\?\S+)` \|", text, re.MULTILINE)


def test_every_kind_of_ours_is_in_the_table() -> None:
    """Once."""
    assert sorted(kinds_of(entries())) == sorted(KINDS.ours)


@pytest.mark.parametrize("entry", entries())
def test_an_entry_of_the_table_is_taken(entry: str, tmp_path: Path) -> None:
    """As it stands there, but for what is on that machine."""
    tokens, config = tmp_path / "tokens.json", tmp_path / "kubeconfig"
    tokens.write_text("{}")
    config.write_text(
        '{"clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}], "users": [],'
        ' "contexts": [{"name": "x", "context": {"cluster": "c", "user": ""}}],'
        ' "current-context": "x"}'
    )
    entry = entry.replace("/etc/osmo/tokens.json", str(tokens))
    if entry.startswith("kubernetes"):
        entry += f"&kubeconfig={config}"
    asked = open_authenticator((entry,))
    if entry.startswith("mtls"):
        (kind,) = vars(asked)["_authenticators"]
        assert vars(kind)["_source"] == "uri"
