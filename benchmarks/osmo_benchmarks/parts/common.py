"""What every measurement shares: programs as processes, and honest statistics."""

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

READY = "listening on "
WAIT = 30.0


@contextmanager
def program(*arguments: str, log: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    """A Python module as a process of its own, ended with SIGTERM."""
    stderr: IO[str] | int = log.open("w") if log else subprocess.DEVNULL
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments], stdout=subprocess.PIPE, stderr=stderr, text=True
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(WAIT)
        if process.stdout is not None:
            process.stdout.close()


def read_url(process: subprocess.Popen[str]) -> str:
    """Where a program listens, as it says when it is ready."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line.startswith(READY):
        raise RuntimeError(f"the program did not start: {line!r}")
    return line.removeprefix(READY).strip()


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def peak_rss_megabytes(pid: int) -> float:
    """The largest resident set of a process so far."""
    return _megabytes(pid, "VmHWM")


def rss_megabytes(pid: int) -> float:
    """The resident set of a process."""
    return _megabytes(pid, "VmRSS")


def _megabytes(pid: int, field: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/{pid}/status has no {field}")


def spread(values: Sequence[float], scale: float = 1.0) -> str:
    """Median, and the range in brackets."""
    scaled = [value * scale for value in values]
    return f"{statistics.median(scaled):,.0f} [{min(scaled):,.0f} … {max(scaled):,.0f}]"


class Stopwatch:
    """Wall seconds since it was made."""

    def __init__(self) -> None:
        self._started = time.perf_counter()

    def seconds(self) -> float:
        """Until now."""
        return time.perf_counter() - self._started
