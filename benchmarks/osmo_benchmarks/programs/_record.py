"""Writes down what a program saw, without being in the way of what is measured."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar

import msgspec

from osmo_benchmarks.records import Record

FLUSH_INTERVAL = 0.02
"""Seconds from an event to its line in the file, at most, while the program is not busy: well below
the 50 ms that readers count on."""

T = TypeVar("T")
_encode = msgspec.json.Encoder().encode


class Recorder(Generic[T]):
    """Takes what was seen, and turns it into lines later. Made by `recording`."""

    def __init__(self, file: BinaryIO | None, records: Callable[[T], Iterable[Record]]) -> None:
        self._file = file
        self._records = records
        self._seen: list[T] = []

    def add(self, seen: T) -> None:
        """Remember something; without a file, nothing is kept."""
        if self._file is not None:
            self._seen.append(seen)

    def flush(self) -> None:
        """Write whole lines, and let readers see them."""
        seen, self._seen = self._seen, []
        if self._file is not None and seen:
            lines = [_encode(record) for each in seen for record in self._records(each)]
            self._file.write(b"".join([line + b"\n" for line in lines]))
            self._file.flush()

    async def flush_for_ever(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(FLUSH_INTERVAL)
            self.flush()


@asynccontextmanager
async def recording(
    path: Path | None, records: Callable[[T], Iterable[Record]]
) -> AsyncIterator[Recorder[T]]:
    """Append to `path` until the context is left; `records` makes what is written of what was seen.

    Raises:
        OSError: the file cannot be written.
    """
    if path is None:
        yield Recorder(None, records)
        return
    with path.open("ab") as file:
        recorder = Recorder(file, records)
        async with asyncio.TaskGroup() as tasks:
            flushing = tasks.create_task(recorder.flush_for_ever())
            try:
                yield recorder
            finally:
                flushing.cancel()
        recorder.flush()


def nanoseconds(timestamp: float) -> int:
    """Of a message's timestamp."""
    return round(timestamp * 1e9)


def moment() -> tuple[int, int]:
    """Now, as `Record` wants it: CLOCK_MONOTONIC, and Unix time."""
    return time.monotonic_ns(), time.time_ns()
