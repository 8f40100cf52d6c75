"""Writes down what was received, beside the work."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TextIO

from legacy.wire import Message, created_ns

FLUSH_INTERVAL = 0.02
"""Seconds: below the 50 ms that readers count on."""


class Recorder:
    """Without a file, it keeps nothing. Made by `recording`."""

    def __init__(self, file: TextIO | None) -> None:
        self._file = file
        self._seen: list[tuple[Message, int, int]] = []

    def add(self, message: Message, at: int) -> None:
        """`at`: when it was received, by CLOCK_MONOTONIC in ns; it is acknowledged now."""
        if self._file is not None:
            self._seen.append((message, at, time.time_ns()))

    def flush(self) -> None:
        """Write what has been seen, and let readers see it."""
        seen, self._seen = self._seen, []
        if self._file is not None and seen:
            self._file.writelines(f"{json.dumps(_record(*each))}\n" for each in seen)
            self._file.flush()

    async def flush_for_ever(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(FLUSH_INTERVAL)
            self.flush()


def _record(message: Message, at: int, acked: int) -> dict[str, Any]:
    body = message["body"]
    return {
        "at": at,
        "created": created_ns(message),
        "key": f"{body['workflow_uuid']}/{body['task_uuid']}",
        "status": body["status"],
        "acked": acked,
        "done": acked,  # It was handled before it was acknowledged.
    }


@asynccontextmanager
async def recording(path: Path | None) -> AsyncIterator[Recorder]:
    """Append to `path` until the context is left.

    Raises:
        OSError: the file cannot be written.
    """
    if path is None:
        yield Recorder(None)
        return
    with path.open("a") as file:
        recorder = Recorder(file)
        flushing = asyncio.create_task(recorder.flush_for_ever())
        try:
            yield recorder
        finally:
            flushing.cancel()
            await asyncio.gather(flushing, return_exceptions=True)
            recorder.flush()
