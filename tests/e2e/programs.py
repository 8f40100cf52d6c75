"""The programs as users start them: processes with a command line, killed and restarted at will."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

START_TIMEOUT = 20.0


class Program:
    """A module run as a program, its log kept in a file. Use as `with`."""

    def __init__(
        self,
        log: Path,
        module: str,
        *arguments: str,
        files: int = 0,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """`files`: how many it may have open; 0: as this process. `environment`: what it has beside
        the variables of this process that are no settings of ours."""
        self._log = log
        self._command = [sys.executable, "-m", module, *arguments]
        if files:
            self._command = ["sh", "-c", f'ulimit -n {files}; exec "$@"', "sh", *self._command]
        self._environment = environment
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> Self:
        """Start the process."""
        outside = {k: v for k, v in os.environ.items() if not k.startswith("OSMO_")}
        environment = {**outside, **self._environment}
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                self._command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
            )
        return self

    def url(self) -> str:
        """Where it listens, as it says when it is ready."""
        return self._told("listening on ")

    def operations(self) -> str:
        """Where it can be seen, as it says before that."""
        return self._told("operations on ")

    def _told(self, beginning: str) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line.startswith(beginning), f"{line!r}\n{self.log()}"
        return line.removeprefix(beginning).strip()

    def kill(self) -> None:
        """SIGKILL: no time to say goodbye."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        return self._end(signal.SIGTERM)

    def send(self, number: signal.Signals) -> None:
        """Send a signal and go on."""
        assert self._process is not None
        self._process.send_signal(number)

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def wait(self, timeout: float) -> int:
        """The exit code of a program that ends by itself."""
        assert self._process is not None
        return self._process.wait(timeout)

    def log(self) -> str:
        """What it wrote on stderr, in all its lives."""
        return self._log.read_text()

    def _end(self, how: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(how)
        try:
            return process.wait(START_TIMEOUT)
        finally:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()


def wait_until(condition: Callable[[], object], timeout: float) -> None:
    """Return as soon as `condition()` is true; for tests that run no event loop."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not true after {timeout} s"
        time.sleep(0.02)
