"""What receiving programs and workers write down, a JSON object per line."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from osmo_benchmarks.errors import WrongResultError
from osmo_benchmarks.processes import Program

POLL = 0.01
"""Seconds between two looks at the file."""


class Record(msgspec.Struct, frozen=True):
    """One message, as whoever received or handled it saw it."""

    at: int
    """When it was received or handled: CLOCK_MONOTONIC in ns, one clock for all processes."""
    created: int
    """When the listener made it: Unix time in ns."""
    key: str
    status: str
    acked: int = 0
    """When the acknowledgement was written: Unix time in ns."""
    done: int = 0
    """When handling had ended and was settled: Unix time in ns."""
    worker: str = ""


_decoder = msgspec.json.Decoder(Record)


class Records:
    """Follows one file that another process writes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self.all: list[Record] = []
        """What has been read so far, in the order of the file."""

    def read(self) -> int:
        """Take what is new; returns how many records there are now."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
            end = data.rfind(b"\n") + 1
            self._offset += end
            self.all += [_decoder.decode(line) for line in data[:end].splitlines()]
        return len(self.all)

    async def until(
        self, complete: Callable[[list[Record]], bool], timeout: float, *programs: Program
    ) -> list[Record]:
        """Wait until `complete` says that all is there.

        Raises:
            WrongResultError: it is not within `timeout` seconds.
            ProgramError: one of `programs` ended meanwhile.
        """
        deadline = time.monotonic() + timeout
        before = -1
        while True:
            count = self.read()
            if count != before and complete(self.all):
                return self.all
            before = count
            if time.monotonic() > deadline:
                raise WrongResultError(f"after {timeout:g} s only {count} reports had arrived")
            for each in programs:
                each.check()
            await asyncio.sleep(POLL)
