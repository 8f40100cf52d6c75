"""A program as its user meets it: exit codes, signals, and what it writes where."""

import json
import os
import pty
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from osmo_runtime import __version__
from osmo_runtime.build import core

ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, "-m", "tests.runtime.sample"]
CLEAN = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith("OSMO_") and name != "PYTHONUNBUFFERED"
}
STOPS = [signal.SIGTERM, signal.SIGINT]
DEADLINE = 20.0


def call(*argv: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the sample to its end."""
    return subprocess.run(
        [*PROGRAM, *argv],
        cwd=ROOT,
        env=CLEAN | environ,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


@contextmanager
def started(*argv: str) -> Iterator[subprocess.Popen[str]]:
    """The sample, killed at the end of the test if it is still there."""
    program = subprocess.Popen(
        [*PROGRAM, *argv],
        cwd=ROOT,
        env=CLEAN,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with program:
        try:
            yield program
        finally:
            program.kill()


def said(program: subprocess.Popen[str]) -> str:
    """The next line on stdout."""
    assert program.stdout is not None
    return program.stdout.readline()


def lines(text: str) -> list[Any]:
    """The JSON lines of a log."""
    return [json.loads(line) for line in text.splitlines()]


def test_help() -> None:
    """`--help` shows each option with its help, variables and default, and exits with 0."""
    done = call("--help", COLUMNS="200")
    assert done.returncode == 0
    assert not done.stderr
    for line in (
        "usage: sample [options]",
        "Does what a test tells it.",
        "--listen TEXT Addresses to listen on. [env OSMO_LISTEN; default none]",
        "--backend TEXT Name of the cluster."
        " [env OSMO_BACKEND or BACKEND or CLUSTER; default default]",
        "--watch, --no-watch A switch. [env OSMO_WATCH; default false]",
        "--colour red|blue A choice by enum. [env OSMO_COLOUR; default red]",
        "--out PATH A file. [env OSMO_OUT; default none]",
        "--weights KEY=VALUE A mapping. [env OSMO_WEIGHTS; default none]",
        "[limits]:",
        "--limits-max-entries NUMBER Entries that are held, 100% of them."
        " [env OSMO_LIMITS_MAX_ENTRIES; default 1000]",
        "--log-format auto|text|json How log records are written on stderr;",
        "--config FILE Read settings from a TOML file. [env OSMO_CONFIG]",
    ):
        assert line in " ".join(done.stdout.split())


def test_version() -> None:
    """`--version` names the program, the version of the distribution and its build, and exits with
    0."""
    done = call("--version")
    assert (done.returncode, done.stdout) == (0, f"sample {__version__} ({core()})\n")


def test_print_config(tmp_path: Path) -> None:
    """`--print-config` shows what is in force as TOML, runs nothing, and exits with 0."""
    file = tmp_path / "conf.toml"
    file.write_text('act = "bug"\nqueue = "redis://:hunter2@h"\n')
    done = call("--config", str(file), "--print-config", OSMO_NODES="9", OSMO_LOGIN="hunter2")
    assert done.returncode == 0
    assert not done.stderr
    shown = tomllib.loads(done.stdout)
    assert (shown["act"], shown["nodes"]) == ("bug", 9)
    assert (shown["queue"], shown["login"]) == ("redis://:****@h", "****")


@pytest.mark.parametrize(
    ("argv", "code", "text"),
    [
        (["--act", "return"], 0, None),
        (["--act", "busy"], 1, "port 1 is in use: choose another"),
        (["--act", "far"], 1, "the far side\nrefused redis://:****@host"),
        (["--act", "distrust"], 1, "the certificate is not trusted"),
        (["--act", "usage"], 2, "no transport for 'x://'"),
    ],
)
def test_exit_code_and_one_line(argv: list[str], code: int, text: str | None) -> None:
    """An error of a library ends the program with its code and one line, without a traceback."""
    done = call(*argv)
    assert done.returncode == code
    errors = [line for line in lines(done.stderr) if line["level"] == "ERROR"]
    assert [line["message"] for line in errors] == ([text] if text else [])
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--nods", "3"], "unknown option '--nods': did you mean '--nodes'?"),
        (["--nodes", "x"], "--nodes: 'x' is not allowed: expected a whole number from 0 up to 100"),
    ],
)
def test_wrong_command_line(argv: list[str], text: str) -> None:
    """A wrong command line ends the program with 2 and one line on stderr."""
    done = call(*argv)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"sample: {text}\n")


def test_unexpected_error_has_a_traceback() -> None:
    """An error that nobody foresaw is logged with its own traceback, out of its group, code 1."""
    done = call("--act", "bug")
    assert done.returncode == 1
    last = lines(done.stderr)[-1]
    assert last["exception"] == "ZeroDivisionError: oops"
    assert "in _fail" in last["stack"]
    assert "ExceptionGroup" not in done.stderr


def test_a_reader_that_leaves_ends_the_program() -> None:
    """What is written on stdout and read by nobody ends the program with 141, and no word."""
    with started("--act", "talk") as program:
        assert said(program).startswith("listening on ")
        assert program.stdout is not None
        program.stdout.close()
        assert program.wait(DEADLINE) == 141
        assert program.stderr is not None
        (first,) = lines(program.stderr.read())
    assert first["message"].startswith(f"sample {__version__}, settings other than the defaults: 1")


@pytest.mark.parametrize("option", ["--help", "--version", "--print-config"])
def test_an_answer_that_nobody_reads(option: str) -> None:
    """Neither the program nor the interpreter complains, on stderr or beside it."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*PROGRAM, option],
        cwd=ROOT,
        env=CLEAN,
        stdout=writer,
        stderr=subprocess.PIPE,
        timeout=DEADLINE,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_another_broken_pipe_is_a_failure() -> None:
    """Only stdout has readers whose leaving is no fault."""
    done = call("--act", "pipe")
    assert done.returncode == 1
    assert lines(done.stderr)[-1]["exception"] == "BrokenPipeError: of something else"


def test_every_error_of_a_group() -> None:
    """Of several errors at once each is told; that one was a wrong usage does not make all so."""
    done = call("--act", "both")
    assert done.returncode == 1
    texts = [line["message"] for line in lines(done.stderr) if line["level"] == "ERROR"]
    assert texts == ["port 1 is in use", "no transport for 'x://'"]


def test_the_same_error_of_several_tasks_is_told_once() -> None:
    """They met one and the same end."""
    done = call("--act", "same")
    assert done.returncode == 1
    texts = [line["message"] for line in lines(done.stderr) if line["level"] == "ERROR"]
    assert texts == ["port 1 is in use"]


def test_details_at_debug() -> None:
    """With `--log-level debug` an error of a library brings its traceback too."""
    assert lines(call("--act", "usage", "--log-level", "debug").stderr)[-1]["stack"]


def test_settings_and_warnings_are_logged_once() -> None:
    """At start the log holds what is not the default, masked, and what looks like a typo."""
    done = call("--act", "return", OSMO_LOGIN="hunter2", OSMO_NODS="3", OSMO_NODES="4")
    first, second = lines(done.stderr)
    assert (first["level"], first["service"]) == ("INFO", "sample")
    assert first["settings"] == {"act": "return", "login": "****", "nodes": 4}
    assert second["message"] == "environment variable OSMO_NODS is not known: is OSMO_NODES meant?"


@pytest.mark.parametrize("loop", ["--uvloop", "--no-uvloop"])
@pytest.mark.parametrize("stop", STOPS)
def test_signal_drains(loop: str, stop: signal.Signals) -> None:
    """A first signal lets the program finish, and it exits with 0."""
    with started(loop) as program:
        assert said(program).startswith("listening on ")
        program.send_signal(stop)
        out, err = program.communicate(timeout=DEADLINE)
    assert (program.returncode, out) == (0, "drained\n")
    assert lines(err)[-1]["message"].startswith(f"{stop.name}: stopping")


@pytest.mark.parametrize("loop", ["--uvloop", "--no-uvloop"])
@pytest.mark.parametrize("act", ["ignore", "spin"])
def test_second_signal_ends_at_once(loop: str, act: str) -> None:
    """A program that does not drain, or gives its loop no turn, ends with the second signal."""
    with started(loop, "--act", act) as program:
        assert said(program).startswith("listening on ")
        program.send_signal(signal.SIGTERM)
        assert said(program) == "listening on nothing\n"
        program.send_signal(signal.SIGINT)
        assert program.wait(DEADLINE) == 1


@pytest.mark.parametrize(("flag", "module"), [("--uvloop", "uvloop"), ("--no-uvloop", "asyncio")])
def test_loop(flag: str, module: str) -> None:
    """uvloop runs the program unless that is switched off."""
    assert call("--act", "loop", flag).stdout.startswith(module)


def test_announced_url_holds_no_password() -> None:
    """The one line on stdout masks a password."""
    with started() as program:
        assert said(program) == "listening on tcp://user:****@127.0.0.1:1\n"


def on_terminal(*argv: str) -> str:
    """What the sample writes on stderr where that is a terminal."""
    ours, theirs = pty.openpty()
    program = subprocess.Popen([*PROGRAM, *argv], cwd=ROOT, env=CLEAN, stderr=theirs)
    os.close(theirs)
    text = b""
    try:
        while chunk := os.read(ours, 4096):
            text += chunk
    except OSError:  # Linux's way to say that the other end is closed
        pass
    finally:
        os.close(ours)
        program.wait(DEADLINE)
    return text.decode()


def test_text_on_a_terminal() -> None:
    """A person at a terminal reads text, unless he asks for JSON."""
    assert " ERROR osmo_runtime.runner: no transport for 'x://'" in on_terminal("--act", "usage")
    assert lines(on_terminal("--act", "usage", "--log-format", "json"))


def test_a_command_says_on_a_terminal_what_is_wrong() -> None:
    """As it does of its command line: who typed it knows the time. A machine reads JSON."""
    usage = ("command", "--act", "usage", "--log-level", "error")
    assert on_terminal(*usage) == "sample: no transport for 'x://'\r\n"
    assert " ERROR osmo_runtime.runner: " in on_terminal(*usage, "--log-format", "text")
    assert lines(call(*usage).stderr)
    assert "ZeroDivisionError: oops" in on_terminal("command", "--act", "bug")


def test_the_settings_are_a_short_line_on_a_terminal() -> None:
    """Two screens of them would hide what comes then."""
    (line,) = on_terminal("--act", "return", "--nodes", "7").splitlines()
    told = f"sample {__version__}, settings other than the defaults: 2 (--print-config shows all)"
    assert line.endswith(told)


def test_a_setting_without_effect_is_told() -> None:
    """By the name under which it was given, and nothing else is; the program runs."""
    done = call("--act", "return", "--no-watch", "--ratio", "2", OSMO_LIMITS_SHARE="0.25")
    assert done.returncode == 0
    told = [line["message"] for line in lines(done.stderr) if line["level"] == "WARNING"]
    assert told == [
        "--ratio has no effect: --watch is not set",
        "OSMO_LIMITS_SHARE has no effect: --watch is not set",
    ]
    assert "WARNING" not in call("--act", "return", "--watch", "--ratio", "2").stderr


def test_a_stdout_of_ascii() -> None:
    """Shows what it can, and the rest escaped, in place of a traceback."""
    done = call("--print-config", "--backend", "grün", PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert 'backend = "gr\\xfcn"' in done.stdout


def test_text_on_demand() -> None:
    """`--log-format text` writes text where there is no terminal."""
    assert " INFO osmo_runtime.runner: " in call("--act", "return", "--log-format", "text").stderr
