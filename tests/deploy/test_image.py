"""The image: what a container file can be told to do wrong, without an engine that builds it."""

import json
import re
import tomllib

from tests.deploy.tools import DEPLOY
from tests.test_layout import PYPROJECT, ROOT

TEXT = (DEPLOY / "Containerfile").read_text()
STEPS = [
    line.split(maxsplit=1)
    for line in re.sub(r"\\\n\s*", "", TEXT).splitlines()
    if line and not line.startswith("#")
]
"""Instruction and arguments."""


def steps(instruction: str) -> list[str]:
    """The arguments of each."""
    return [arguments for name, arguments in STEPS if name == instruction]


def test_nobody_is_root() -> None:
    """The last user is a number, so that a cluster can see that it is not root's."""
    assert steps("USER")[-1] == "1001:1001"
    assert STEPS.index(["USER", "1001:1001"]) > STEPS.index(["FROM", steps("FROM")[-1]])


def test_process_1_hands_signals_on() -> None:
    """The entry point is an init, in the form that starts no shell; a command is its argument."""
    (entry,) = steps("ENTRYPOINT")
    assert json.loads(entry) == ["tini", "--"]
    (command,) = steps("CMD")
    assert json.loads(command)[0] in PYPROJECT["project"]["scripts"]


def test_what_is_built_with_stays_behind() -> None:
    """The image has the environment that the first stage made, and nothing of its sources."""
    build, last = steps("FROM")
    assert build == f"{last} AS build"
    final = STEPS[STEPS.index(["FROM", last]) :]
    assert [arguments for name, arguments in final if name in {"COPY", "ADD"}] == [
        "--from=build /opt/osmo /opt/osmo"
    ]


def test_the_build_has_all_that_the_wheel_is_made_of() -> None:
    """Every package, what the project's file names, and no more of the checkout than that."""
    copied = {word for each in steps("COPY") for word in each.split()[:-1]} - {"--from=build"}
    project = PYPROJECT["project"]
    packages = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    needed = {"pyproject.toml", "hatch_build.py", "README.md", *project["license-files"]}
    needed |= {package.partition("/")[0] for package in packages}
    assert needed <= copied
    assert all((ROOT / path).exists() for path in copied - {"/opt/osmo"})
    ignored = (DEPLOY / "Containerfile.dockerignore").read_text().split()
    assert ignored[0] == "*"
    assert {line[1:] for line in ignored if line.startswith("!")} == copied - {"/opt/osmo"}


def test_every_program_can_run() -> None:
    """The extras that are installed are those of all programs, and of OTLP."""
    (install,) = (each for each in steps("RUN") if '"install"' in each)
    assert json.loads(install) == ["/opt/osmo/bin/pip", "install", "--no-cache-dir", ".[all,otel]"]
    assert (
        "otel"
        in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    )


def test_nothing_from_anywhere_is_run() -> None:
    """No script from the network, no secret, no file by URL; the base has a version."""
    assert not re.search(r"curl|wget|https?://", TEXT)
    assert not re.search(r"(?i)password|secret|token", TEXT)
    assert not steps("ADD")
    (python,) = steps("ARG")
    assert re.fullmatch(r"PYTHON=3\.\d+", python)
    supported = f"Programming Language :: Python :: {python.partition('=')[2]}"
    assert supported in PYPROJECT["project"]["classifiers"]
