"""What holds for each program: its numbers are bounded, and it ends with whoever reads it."""

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from types import ModuleType
from typing import Any

import pytest
from msgspec import inspect as kinds

import osmo_listener.__main__
import osmo_operator.__main__
import osmo_pipeline.__main__
import osmo_simulator.__main__
import osmo_worker.__main__
from osmo_operator.config import OperatorConfig
from osmo_operator.service import run_operator
from osmo_pipeline.config import DemoConfig
from osmo_runtime.errors import SettingsError
from osmo_runtime.fields import Leaf, Shape, read_table
from osmo_runtime.runner import ProgramConfig
from osmo_runtime.settings import load
from osmo_transport import ServerConfig
from osmo_transport.testing.redis_server import RedisServer
from osmo_worker.config import WorkerConfig
from osmo_worker.service import run_worker

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


HELPS = [
    (osmo_listener.__main__.main, []),
    (osmo_operator.__main__.main, []),
    (osmo_simulator.__main__.main, []),
    (osmo_worker.__main__.main, []),
    (osmo_worker.__main__.main, ["migrate"]),
    (osmo_pipeline.__main__.main, []),
    (osmo_pipeline.__main__.main, ["bench"]),
    *((osmo_pipeline.__main__.main, list(words)) for words in osmo_pipeline.__main__.COMMANDS),
]


@pytest.mark.parametrize(
    ("main", "words"), HELPS, ids=[f"{main.__module__} {' '.join(words)}" for main, words in HELPS]
)
def test_help_is_ascii(
    main: Callable[[], int],
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Every terminal, pager and locale shows it as it is."""
    monkeypatch.setattr(sys, "argv", ["program", *words, "--help"])
    with suppress(SystemExit):
        assert main() == 0
    text = capsys.readouterr().out
    assert "usage:" in text
    assert text.isascii(), [line for line in text.splitlines() if not line.isascii()]


IDLE: list[tuple[type[ProgramConfig], list[str], list[str]]] = [
    (osmo_operator.__main__.Settings, ["--server-tls-cert-file=a.pem"], ["--server-tls-cert-file"]),
    (osmo_operator.__main__.Settings, ["--server-tls-cert-file=a.pem", "--listen=wss://h:1"], []),
    (osmo_operator.__main__.Settings, ["--deployed-max-streams=3"], ["--deployed-max-streams"]),
    (osmo_operator.__main__.Settings, ["--deployed-max-streams=3", "--listen=grpc://h:1"], []),
    (
        osmo_operator.__main__.Settings,
        ["--limits-weights=pods=1", "--layout=osmo"],
        ["--limits-weights"],
    ),
    (osmo_worker.__main__.Settings, ["--limits-weights=pods=1", "--group=g"], []),
    (osmo_worker.__main__.Settings, ["--group=g", "--layout=osmo"], ["--group"]),
    (
        osmo_worker.__main__.Settings,
        ["--store-limits-task-retention=1", "--handler=a:b"],
        ["--store-limits-task-re"],
    ),
    (osmo_worker.__main__.Settings, ["--store=nonsense", "--handler=a:b"], ["--store"]),
    (osmo_listener.__main__.Settings, ["--client-tls-ca-file=a.pem"], ["--client-tls-ca-file"]),
    (osmo_listener.__main__.Settings, ["--client-tls-ca-file=a.pem", "--connect=grpcs://h:1"], []),
    (osmo_listener.__main__.Settings, ["--labeller-concurrency=2"], ["--labeller-concurrency"]),
    (osmo_listener.__main__.Settings, ["--labeller-concurrency=2", "--rules-node-label"], []),
    (
        osmo_listener.__main__.Settings,
        ["--rules-node-label", "--listeners=usage"],
        ["--rules-node-label"],
    ),
    (
        osmo_listener.__main__.Settings,
        ["--log-reports-max-pending=9", "--no-report-logs"],
        ["--log-reports-max-pe"],
    ),
    (DemoConfig, ["--kubeconfig=k", "--nodes=3", "--pace=1"], ["--nodes", "--pace"]),
    (DemoConfig, ["--nodes=3", "--pace=1"], []),
]


@pytest.mark.parametrize(("config", "argv", "idle"), IDLE, ids=lambda value: str(value)[:60])
def test_what_has_no_effect_is_known(
    config: type[ProgramConfig], argv: list[str], idle: list[str]
) -> None:
    """It is told by name, in place of being obeyed, refused, or taken in silence."""
    loaded = load("program", config, argv, {})
    told = [name for key, _ in loaded.config.without_effect() for name in loaded.origins_of(key)]
    assert len(told) == len(idle)
    assert all(name.startswith(start) for name, start in zip(told, idle, strict=True))


@pytest.mark.parametrize("name", ["a", "cluster-a", "GPU_pool.1", "a" * 63])
def test_a_backend_may_be_called(name: str) -> None:
    """What can be the value of a label, in the cluster and in every metric."""
    loaded = load("program", osmo_listener.__main__.Settings, ["--backend", name], {})
    assert loaded.config.backend == name


@pytest.mark.parametrize(
    "name",
    ["", "a b", "a/b", "-a", "a.", "a\n", "gr\N{LATIN SMALL LETTER U WITH DIAERESIS}n", "a" * 64],
)
def test_a_backend_may_not_be_called(name: str) -> None:
    """It is refused before anything starts, in words."""
    refusal = r"BACKEND: .* is not allowed: expected up to 63 letters, digits, '-', '_' and '\.'"
    with pytest.raises(SettingsError, match=f"{refusal}|--backend: "):
        load("program", osmo_listener.__main__.Settings, [f"--backend={name}"], {})


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


async def test_what_a_queue_may_lose_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """Of the operator and of the worker, once each, with what to set."""
    caplog.set_level(logging.WARNING)
    with RedisServer(appendonly="yes") as redis:
        stop = asyncio.Event()
        operator = OperatorConfig(
            listen=("memory://",), queue=redis.url, server=ServerConfig(max_connections=10)
        )
        await run_operator(operator, stop, lambda _: stop.set())
        (told,) = caplog.messages
        stop.clear()
        await run_worker(WorkerConfig(queue=redis.url, store="memory://"), stop, stop.set)
    assert "durability level process, Redis loses up to two seconds" in told
    assert "set appendonly yes and appendfsync always" in told
    assert caplog.messages == [told, told]


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


BRACKET = "redis://["
BROKEN_URLS = {
    "osmo-operator": ("osmo_operator", ("--listen", "ws://[")),
    "osmo-operator's queue": ("osmo_operator", ("--queue", BRACKET)),
    "osmo-worker": ("osmo_worker", ("--queue", BRACKET)),
    "queue": ("osmo_pipeline", ("queue", "status", "--queue", BRACKET)),
    "dlq": ("osmo_pipeline", ("dlq", "list", "--queue", BRACKET)),
    "rules": ("osmo_pipeline", ("rules", "get", "a", "--queue", BRACKET)),
    "backends": ("osmo_pipeline", ("backends", "list", "--queue", BRACKET)),
    "top": ("osmo_pipeline", ("top", "--once", "--queue", BRACKET)),
}


@pytest.mark.parametrize("which", BROKEN_URLS)
def test_a_url_that_is_none_is_wrong_usage(which: str) -> None:
    """And no defect of ours."""
    program, arguments = BROKEN_URLS[which]
    ran = subprocess.run(
        [sys.executable, "-m", program, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (ran.returncode, "Traceback" in ran.stderr) == (2, False), ran.stderr
    assert "not a valid URL" in ran.stderr
