"""What a shell is told about a command line: by the parsers themselves, and in a real bash."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pytest

from osmo_runtime.completion import parser_of
from osmo_runtime.fields import Setting
from osmo_runtime.logs import LogLevel

SCRIPTS = Path(sys.executable).parent


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds."""

    most: int = 1
    """Not 100%."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Paints things."""

    colour: Annotated[Literal["red", "green"], Setting(positional=True)]
    """Of all."""
    level: LogLevel | None = None
    """How loud."""
    text: str = ""
    """Anything."""
    limits: Limits = field(default_factory=Limits)


def test_the_whole_command_line_is_known() -> None:
    """Commands of any depth, their options, and the values of those that have few."""
    parser = parser_of("paint", {(): Config, ("walls", "set"): Config, ("walls", "get"): Config})
    given = parser.parse_args(["red", "walls", "set", "green", "--level", "INFO"])
    assert vars(given)["level"] == "INFO"
    (walls,) = parser._subparsers._group_actions[0].choices.values()  # type: ignore[union-attr]
    commands = walls._subparsers._group_actions[0].choices
    assert list(commands) == ["set", "get"]
    known = commands["set"]._option_string_actions
    assert {"--level", "--text", "--limits-most", "--config"} <= known.keys()
    assert known["--level"].choices == ["DEBUG", "INFO", "WARNING", "ERROR"]
    assert known["--text"].choices is None


@pytest.fixture(scope="module")
def bash(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A bash that completes as a user's does."""
    if shutil.which("bash") is None:
        pytest.skip("there is no bash")
    script = tmp_path_factory.mktemp("shell") / "completion.bash"
    program = [str(SCRIPTS / "osmo-pipeline"), "completion", "bash"]
    script.write_bytes(subprocess.run(program, check=True, capture_output=True).stdout)
    ask = (
        f'source {script}; COMP_LINE="$1"; COMP_POINT=${{#1}}; COMP_TYPE=9; COMP_WORDS=($1);'
        ' _python_argcomplete "${COMP_WORDS[0]}"; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    return ["bash", "--norc", "-c", ask, "bash"]


@pytest.mark.parametrize(
    ("line", "offered", "not_offered"),
    [
        ("osmo-pipeline d", {"demo", "dlq"}, {"queue", "bench"}),
        ("osmo-pipeline dlq replay --", {"--all", "--older-than", "--queue"}, {"--limit"}),
        ("osmo-pipeline queue peek --log-level W", {"WARNING "}, {"INFO"}),
        ("osmo-worker migrate --ch", {"--check "}, {"--concurrency"}),
    ],
)
def test_bash_completes(
    bash: list[str], line: str, offered: set[str], not_offered: set[str]
) -> None:
    """Commands, options and values, of `osmo-pipeline` and of the services."""
    environ = {**os.environ, "PATH": f"{SCRIPTS}:{os.environ['PATH']}"}
    done = subprocess.run([*bash, line], env=environ, capture_output=True, text=True, check=True)
    words = {word.strip() for word in done.stdout.splitlines()}
    assert {word.strip() for word in offered} <= words
    assert not words & not_offered
    assert not done.stderr


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_theirs(shell: str) -> None:
    """All programs are named in it."""
    program = [str(SCRIPTS / "osmo-pipeline"), "completion", shell]
    said = subprocess.run(program, check=True, capture_output=True, text=True).stdout
    for name in ("osmo-pipeline", "osmo-listener", "osmo-operator", "osmo-worker"):
        assert name in said
    assert ("compdef" if shell == "zsh" else "complete ") in said


def test_without_the_extra_nothing_is_answered() -> None:
    """A program that is asked does not begin to run, as a shell gives it no arguments; who wants
    the code is told what to install."""
    program = """
import sys
sys.modules["argcomplete"] = None
from osmo_pipeline.__main__ import main
sys.argv = ["osmo-pipeline", *sys.argv[1:]]
sys.exit(main())
"""
    environ = {**os.environ, "_ARGCOMPLETE": "1"}
    asked = [sys.executable, "-c", program]
    done = subprocess.run(asked, env=environ, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")
    done = subprocess.run([*asked, "completion", "bash"], capture_output=True, check=False)
    assert done.returncode == 2
    assert b"osmo-pipeline[completion]" in done.stderr
