"""Runs a program from its command line to its exit code.

    @dataclass(frozen=True, kw_only=True)
    class Config(ProgramConfig):
        '''Relays reports from listeners into a queue.'''

        listen: tuple[str, ...]
        '''Addresses to listen on.'''

    async def run(config: Config, stop: asyncio.Event) -> None:
        async with serve(config.listen) as server:
            announce(server.url)
            await stop.wait()

    def main() -> int:
        return runner.main("osmo-operator", Config, run)

The exit code is 0 when `run` returned, 1 when it failed, and 2 when the command line or the
configuration is wrong. SIGTERM and SIGINT set `stop`, upon which `run` drains and returns; a second
signal ends the process at once, with 1. Whoever reads stdout may leave, as `head` does: the next
write to it fails, `run` ends with that, and the exit code is 141. A log that nobody reads ends
nothing.
"""

import asyncio
import gc
import io
import logging
import os
import select
import signal
import sys
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import Any, TextIO, TypeVar

from osmo_runtime import __version__, completion, garbage, logs, settings
from osmo_runtime.errors import SettingsError
from osmo_runtime.masking import mask_text
from osmo_transport.errors import (
    CertificateError,
    TransportError,
    UsageError,
    WrongServerError,
)
from osmo_transport.lean import dataclass


class ExitCode(IntEnum):
    """How a program ended."""

    DONE = 0
    FAILED = 1
    """Or it was told to stop half-way."""
    MISUSED = 2
    """The command line or the configuration is wrong."""
    NOTHING = 3
    """There was nothing that it could show or act upon."""
    UNREAD = 128 + signal.SIGPIPE
    """Nobody reads stdout any more: what a shell tells of a tool that SIGPIPE ended."""


STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ProgramConfig:
    """What every program can be told; the base of its configuration."""

    log_level: logs.LogLevel = logs.LogLevel.INFO
    """The least severe log records that are written."""
    log_format: logs.LogFormat = logs.LogFormat.AUTO
    """How log records are written on stderr; auto: text on a terminal, else JSON lines."""
    uvloop: bool = True
    """Use uvloop where it is installed: it serves more messages per second."""

    def without_effect(self) -> Iterable[tuple[str, str]]:
        """Settings that mean nothing beside the others, each with the reason: a key, or that of a
        table. Whoever gave one is told; it is not wrong, as one file may serve several programs."""
        return ()


C = TypeVar("C", bound=ProgramConfig)
Run = Callable[[C, asyncio.Event], Coroutine[Any, Any, None]]
ErrorCodes = Mapping[type[Exception], int]

ERROR_CODES: ErrorCodes = {
    SettingsError: ExitCode.MISUSED,
    UsageError: ExitCode.MISUSED,
    WrongServerError: ExitCode.FAILED,
    CertificateError: ExitCode.FAILED,
    TransportError: ExitCode.FAILED,
}
"""Errors whose text tells a user all he needs, and the exit code of each."""


def main(
    prog: str,
    config: type[C],
    run: Run[C],
    *,
    argv: Sequence[str] | None = None,
    errors: ErrorCodes = MappingProxyType({}),
    commands: Sequence[str] = (),
    is_command: bool = False,
) -> int:
    """Run the program `prog` and return its exit code. `commands`: those that it has besides, each
    as its first argument; whoever mistypes one is told so. One that `is_command`, and no service,
    writes on a terminal what it logs as it does what is wrong with its command line.

    An error of a class in `errors` or `ERROR_CODES`, also inside an ExceptionGroup, is logged as
    one line without a traceback (a warning where its code is `NOTHING`) and gives the code of the
    nearest class it inherits from; any other is logged with its traceback and gives 1.

    Raises:
        SystemExit: `--help` or `--version` was given and is answered on stdout, or a shell's
            question what may stand on the command line.
    """
    return until_unread(lambda: _main(prog, config, run, argv, errors, commands, is_command))


def until_unread(program: Callable[[], int]) -> int:
    """The exit code of `program`, or `UNREAD` when it wrote on stdout what nobody reads any more.
    A program that does not end by itself is ended by what it next writes there.

    Raises: what `program` raises.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A locale that has ASCII alone is no reason to show nothing.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            return program()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        _discard_unread()
        return ExitCode.UNREAD


def _main(
    prog: str,
    config: type[C],
    run: Run[C],
    argv: Sequence[str] | None,
    errors: ErrorCodes,
    commands: Sequence[str],
    is_command: bool,
) -> int:
    completion.complete(prog, {(): config})
    try:
        given = sys.argv[1:] if argv is None else argv
        loaded = settings.load(prog, config, given, os.environ, commands)
    except SettingsError as exc:
        sys.stderr.write(f"{prog}: {exc}\n")
        return ExitCode.MISUSED
    if loaded.print_config:
        sys.stdout.write(loaded.to_toml())
        return 0
    formatter = logs.CommandFormatter(prog) if is_command else None
    logs.configure(prog, loaded.config.log_level, loaded.config.log_format, formatter)
    _tell(prog, loaded)
    # gRPC's core writes to stderr past every setting of ours, and the errors reach us anyway.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # What was imported lives as long as the program: no collection needs to look at it again.
    gc.freeze()
    gc.set_threshold(*garbage.COLLECTED_AFTER)
    try:
        runner, stop = asyncio.Runner(loop_factory=_loop_factory(loaded.config)), asyncio.Event()
        with _stop_signals(runner.get_loop(), stop), runner:
            runner.run(run(loaded.config, stop))
    except (Exception, asyncio.CancelledError) as exc:  # noqa: BLE001  (nobody is left to report it)
        return _report(exc, {**ERROR_CODES, **errors})
    return 0


def _tell(prog: str, loaded: settings.Loaded[C]) -> None:
    changed = loaded.changed()
    # All of them are two screens of text, of which a reader looks for these few.
    _log.info(
        "%s %s, settings other than the defaults: %d (--print-config shows all)",
        prog,
        __version__,
        len(changed),
        extra={"settings": changed},
    )
    for warning in loaded.warnings:
        _log.warning(warning)
    for key, reason in loaded.config.without_effect():
        for origin in loaded.origins_of(key):
            _log.warning("%s has no effect: %s", origin, reason)


def announce(url: str) -> None:
    """Say on stdout that a server is ready under `url`, for people and for scripts that wait."""
    sys.stdout.write(f"listening on {mask_text(url)}\n")
    sys.stdout.flush()


def _loop_factory(config: ProgramConfig) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if not config.uvloop:
        return None
    try:
        import uvloop  # noqa: PLC0415  (optional, and only wanted here)
    except ImportError:
        return None
    return uvloop.new_event_loop


@contextmanager
def _stop_signals(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> Iterator[None]:
    received = False

    def drain(name: str) -> None:
        _log.info("%s: stopping; a second signal ends the program at once", name)
        stop.set()

    # Not `loop.add_signal_handler`: its callbacks wait for their turn, and the second signal is for
    # a program that gives nobody a turn.
    def on_signal(number: int, _: FrameType | None) -> None:
        nonlocal received
        if received:
            os._exit(ExitCode.FAILED)
        received = True
        if not loop.is_closed():
            loop.call_soon_threadsafe(drain, signal.Signals(number).name)

    before = {number: signal.signal(number, on_signal) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _report(failure: BaseException, codes: ErrorCodes) -> int:
    found = set()
    # Several tasks may have met the same end, as when all of them report through one client.
    for error in {(type(each), str(each)): each for each in _leaves(failure)}.values():
        code = next((codes[cls] for cls in type(error).__mro__ if cls in codes), None)
        if isinstance(error, BrokenPipeError) and _is_unread(sys.stdout):
            code = ExitCode.UNREAD
        elif code is None:
            _log.error("unexpected failure", exc_info=error)
        else:
            details = error if _log.isEnabledFor(logging.DEBUG) else None
            # That there is nothing is an answer, and no failure.
            level = logging.WARNING if code == ExitCode.NOTHING else logging.ERROR
            _log.log(level, "%s", error, exc_info=details)
        found.add(code or ExitCode.FAILED)
    return found.pop() if len(found) == 1 else ExitCode.FAILED


def _leaves(failure: BaseException) -> Iterator[BaseException]:
    if isinstance(failure, BaseExceptionGroup):
        for inner in failure.exceptions:
            yield from _leaves(inner)
    else:
        yield failure


def _is_unread(stream: TextIO) -> bool:
    # An error is told of even though no event is asked for.
    poll = select.poll()
    poll.register(stream, 0)
    return bool(poll.poll(0))


def _discard_unread() -> None:
    # The interpreter writes what is left at its end, and complains if it cannot.
    with Path(os.devnull).open("w") as nowhere:
        for stream in filter(_is_unread, (sys.stdout, sys.stderr)):
            os.dup2(nowhere.fileno(), stream.fileno())
