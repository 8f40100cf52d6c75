"""Programs under measurement: each a process of its own, ended with its owner."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import anyio

from osmo_benchmarks.errors import ProgramError

READY = "listening on "
BESIDE = "operations on "
"""What a service of ours says before, where it is told to open an operations port."""
READY_TIMEOUT = 60.0
"""Seconds: the slowest to start is an API server on a busy machine."""
STOP_TIMEOUT = 15.0
"""Seconds that a program may take to drain after SIGTERM."""
TAIL_LINES = 15
"""Of a failed program's log, for the report."""
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


class Program:
    """A running program. Made by `program`."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.url = ""
        """Where it listens, if it is a server."""
        self._process = process
        self._log = log

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def check(self) -> None:
        """Whether it still runs.

        Raises:
            ProgramError: it has ended.
        """
        if self._process.returncode is not None:
            raise ProgramError(self._failure(f"ended with exit code {self._process.returncode}"))

    async def listening(self) -> str:
        """Wait until it says where it listens.

        Raises:
            ProgramError: it ended, or did not say so in time.
        """
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(READY_TIMEOUT):
                line = BESIDE
                while line.startswith(BESIDE):
                    line = (await self._process.stdout.readline()).decode()
                if not line:
                    await self._process.wait()
        except TimeoutError as exc:
            message = self._failure(f"did not listen within {READY_TIMEOUT:g} s")
            raise ProgramError(message) from exc
        if not line.startswith(READY):
            raise ProgramError(self._failure(f"did not start listening (it said {line.strip()!r})"))
        self.url = line.removeprefix(READY).strip()
        return self.url

    async def output(self, timeout: float) -> str:
        """Wait until it ends by itself; what it printed.

        Raises:
            ProgramError: it failed, or did not end within `timeout` seconds.
        """
        try:
            async with asyncio.timeout(timeout):
                printed, _ = await self._process.communicate()
        except TimeoutError as exc:
            raise ProgramError(self._failure(f"did not end within {timeout:g} s")) from exc
        if self._process.returncode:
            raise ProgramError(self._failure(f"ended with exit code {self._process.returncode}"))
        return printed.decode()

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """It does nothing until the context is left."""
        self.check()
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGCONT)

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        fields = self._proc("stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS

    def rss_megabytes(self) -> float:
        """The resident set now."""
        return self._status("VmRSS")

    def peak_rss_megabytes(self) -> float:
        """The largest resident set so far."""
        return self._status("VmHWM")

    def _status(self, field: str) -> float:
        for line in self._proc("status").splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) / 1024
        raise ProgramError(self._failure("ended"))

    def _proc(self, name: str) -> str:
        try:
            return Path(f"/proc/{self.pid}/{name}").read_text()
        except OSError as exc:
            raise ProgramError(self._failure("ended")) from exc

    async def stop(self) -> None:
        """End it with SIGTERM, and with SIGKILL if it does not drain in time. Idempotent."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(STOP_TIMEOUT):
                    # Not wait(): with its pipe full, a program that prints would never end.
                    await self._process.communicate()
            except TimeoutError:
                await self._kill()
            except BaseException:
                await self._kill()
                raise

    async def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    def _failure(self, what: str) -> str:
        lines = self._log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        tail = "".join(f"\n  {line}" for line in lines)
        return f"{self.name} {what}" + (f"; the end of its log:{tail}" if tail else "")


@asynccontextmanager
async def program(
    name: str,
    command: Sequence[str],
    log: Path,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[Program]:
    """Run `command` for as long as the context lasts; `log` takes what it writes on stderr.

    Raises:
        ProgramError: it cannot be started.
    """
    with log.open("ab") as errors:
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                env={**os.environ, **(environment or {})},
                # Ctrl-C is for whoever started the run, who then ends its programs in order.
                start_new_session=True,
            )
        except OSError as exc:
            raise ProgramError(f"{name} cannot be started: {exc}") from exc
    running = Program(name, process, log)
    try:
        yield running
    finally:
        # A cancel scope cancels at every await: the program would be killed before it has drained.
        with anyio.CancelScope(shield=True):
            await running.stop()


@asynccontextmanager
async def server(
    name: str,
    command: Sequence[str],
    log: Path,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[Program]:
    """As `program`, once it says where it listens.

    Raises:
        ProgramError: it does not.
    """
    async with program(name, command, log, environment) as running:
        await running.listening()
        yield running


def module(name: str, python: str = sys.executable) -> tuple[str, ...]:
    """The command that runs a Python module of ours, in the installation of `python`."""
    return (python, "-m", name)
