"""Plain command lines are read as argparse reads them, and all others are left to it."""

import subprocess
import sys

import pytest

from osmo_runtime import cli
from osmo_runtime.errors import SettingsError
from osmo_runtime.fields import read_table
from osmo_runtime.options import Options, read_plain
from tests.runtime.sample import Config

TABLE = read_table(Config)

PLAIN = (
    "",
    "--act=stop",
    "--act stop",
    "--act a=b",
    "--act=a=b",
    "--act one --act=two",
    "--listen a --listen=b --nodes 5",
    "--weights a=1 --weights b=2",
    "--watch",
    "--no-watch",
    "--watch --no-watch --watch",
    "--limits-max-entries 7 --limits-share=0.1",
    "--config file",
    "--config=file --act stop --no-uvloop",
    "--config one --config two",
)

LEFT = (
    "--help",
    "-h",
    "--version",
    "--print-config",
    "--unknown 1",
    "--ac stop",
    "-a stop",
    "stop",
    "--act",
    "--act=",
    "--act --watch",
    "--act -1",
    "--nodes=-1",
    "--watch=yes",
    "--no-act stop",
    "--",
    "-- --act stop",
)


@pytest.mark.parametrize("line", PLAIN)
def test_a_plain_line_is_read_alike(line: str) -> None:
    """Both ways give the same."""
    read = read_plain(TABLE, line.split())
    assert read is not None
    assert read == cli.parse("sample", TABLE, line.split())


@pytest.mark.parametrize("line", LEFT)
def test_another_line_is_left_to_argparse(line: str) -> None:
    """Whether it is wrong, asks for help, or is only seldom written so."""
    assert read_plain(TABLE, line.split()) is None


@pytest.mark.parametrize("value", ["", " ", "a b", "=", "@file", "\N{SNOWMAN}", "--", "-"])
@pytest.mark.parametrize("glued", [True, False])
def test_odd_values(value: str, *, glued: bool) -> None:
    """What is not read alike is not read."""
    line = [f"--act={value}"] if glued else ["--act", value]
    read = read_plain(TABLE, line)
    parsed: Options | None
    try:
        parsed = cli.parse("sample", TABLE, line)
    except SettingsError:
        parsed = None
    assert read in (None, parsed)


def test_argparse_is_not_imported_for_a_plain_line() -> None:
    """It takes 2 % of a listener's start."""
    code = (
        "import sys\n"
        "from osmo_runtime.settings import load\n"
        "from tests.runtime.sample import Config\n"
        "print(load('sample', Config, ['--act', 'stop'], {}).config.act, 'argparse' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "stop False\n"
