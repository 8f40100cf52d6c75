"""What holds for each program: its numbers are bounded, and it ends with whoever reads it."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from msgspec import inspect as kinds

import osmo_listener.__main__
import osmo_operator.__main__
import osmo_pipeline.__main__
import osmo_simulator.__main__
import osmo_worker.__main__
from osmo_pipeline.config import DemoConfig
from osmo_runtime.errors import SettingsError
from osmo_runtime.fields import Leaf, Shape, read_table
from osmo_runtime.settings import load

CONFIGS = [
    DemoConfig,
    osmo_listener.__main__.Settings,
    osmo_operator.__main__.Settings,
    osmo_simulator.__main__.Settings,
    osmo_worker.__main__.Settings,
]


def holds_a_number(kind: kinds.Type) -> bool:
    """Whether values of the type are, or hold, numbers."""
    match kind:
        case kinds.UnionType(types=types):
            return any(map(holds_a_number, types))
        case kinds.CollectionType(item_type=inner) | kinds.DictType(value_type=inner):
            return holds_a_number(inner)
    return isinstance(kind, kinds.IntType | kinds.FloatType)


def refuses(config: type[Any], leaf: Leaf, value: str) -> bool:
    """Whether the program cannot be told this."""
    try:
        load("program", config, [f"{leaf.flag}={value}"], {})
    except SettingsError:
        return True
    return False


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.__module__)
def test_every_number_has_a_bound(config: type[Any]) -> None:
    """None can be set to something with which the program does nothing, or spins."""
    numbers = [
        leaf for leaf in read_table(config).walk() if holds_a_number(kinds.type_info(leaf.type))
    ]
    assert numbers
    for leaf in numbers:
        negative = "pods=-1" if leaf.shape is Shape.MAPPING else "-1"
        assert refuses(config, leaf, negative), leaf.key


@pytest.mark.parametrize(
    ("main", "argv"),
    [
        (osmo_listener.__main__.main, ["--list-watch-page-size", "0"]),
        (osmo_operator.__main__.main, ["--append-messages", "0"]),
        (osmo_operator.__main__.main, ["--server-session-heartbeat-interval", "0"]),
        (osmo_pipeline.__main__.main, ["demo", "--nodes", "0"]),
        (osmo_simulator.__main__.main, ["--nodes", "0"]),
        (osmo_worker.__main__.main, ["--concurrency", "0"]),
        (osmo_worker.__main__.main, ["--limits-lease", "0"]),
    ],
)
def test_a_zero_that_stops_everything_is_refused(
    main: Callable[[], int],
    argv: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The program ends with 2 and names the option."""
    monkeypatch.setattr(sys, "argv", ["program", *argv])
    assert main() == 2
    assert f" {argv[-2]}: '0' is not allowed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("main", "argv", "said"),
    [
        (
            osmo_worker.__main__.main,
            ["migrat", "--check"],
            "no command 'migrat': did you mean 'migrate'? the commands are: migrate",
        ),
        (osmo_worker.__main__.main, ["run"], "no command 'run': the commands are: migrate"),
        (
            osmo_worker.__main__.main,
            ["--store", "sqlite:///x", "migrate"],
            "the command 'migrate' comes first: osmo-worker migrate [options]",
        ),
        (osmo_worker.__main__.main, ["migrate", "x"], "unexpected argument 'x'"),
        (osmo_listener.__main__.main, ["run"], "unexpected argument 'run'"),
        (osmo_operator.__main__.main, ["run"], "unexpected argument 'run'"),
        (osmo_simulator.__main__.main, ["run"], "unexpected argument 'run'"),
    ],
)
def test_a_mistyped_command_is_refused(
    main: Callable[[], int],
    argv: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With 2, the commands that there are, and the one that was meant."""
    monkeypatch.setattr(sys, "argv", ["program", *argv])
    assert main() == 2
    assert said in capsys.readouterr().err


def test_help_shows_the_commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where options stand, so do they."""
    monkeypatch.setattr(sys, "argv", ["osmo-worker", "--help"])
    with pytest.raises(SystemExit):
        osmo_worker.__main__.main()
    usage = "usage: osmo-worker [options]\n       osmo-worker migrate [options]\n"
    assert capsys.readouterr().out.startswith(usage)


def test_limits_of_a_session_are_refused_by_name() -> None:
    """Their class has no bounds, because frames carry it too."""
    refusal = r"server\.session: limits\.window_bytes is 0: it must be at least 1"
    with pytest.raises(SettingsError, match=refusal):
        load(
            "program",
            osmo_operator.__main__.Settings,
            ["--server-session-limits-window-bytes=0"],
            {},
        )


@pytest.mark.parametrize("program", [osmo_operator.__main__, osmo_worker.__main__])
@pytest.mark.parametrize("queue", ["memory://", "memory://name", "redis://127.0.0.1:1"])
async def test_a_queue_that_nobody_shares_is_told(
    program: ModuleType, queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An operator or a worker with a queue of its own would be silently of no use."""
    stopped = asyncio.Event()
    stopped.set()
    await program.run(program.Settings(queue=queue), stopped)
    told = "the queue is in this process: no other program sees what is in it" in caplog.text
    assert told == queue.startswith("memory:")


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.__module__)
def test_help_that_nobody_reads(config: type[Any]) -> None:
    """`--help | head -1` shows one line, and nothing of what became of the others."""
    reader, writer = os.pipe()
    os.close(reader)
    program = config.__module__.partition(".")[0]
    done = subprocess.run(
        [sys.executable, "-m", program, "--help"],
        stdout=writer,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")
