"""What the listener itself has to complain of, as reports: users see it where they see the rest.

Records from WARNING on become messages of kind `logging`. What the link to the operator says of
itself stays in the local log: a report of it would make it say more.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import NoReturn

from osmo_reports.bodies import Logging, LogType, encode_body
from osmo_reports.fitting import shortened
from osmo_runtime.logs import RepeatFilter
from osmo_runtime.masking import mask_text
from osmo_transport import Client, UnsendableError, new_message
from osmo_transport.bounds import Count
from osmo_transport.lean import dataclass

KIND = "logging"
KEY = "listener"
"""One key for all: they stay in order."""
LOGGER = "osmo_listener"
"""Whose records are reported, with those of all loggers below it."""
SILENT = ("osmo_transport", __name__)
"""Whose records are never reported, nor those of the loggers below them: they may be about the
sending of a report."""


@dataclass(frozen=True, kw_only=True)
class LogReportsConfig:
    """Bounds of the reports of one's own log."""

    max_pending: Count = 100
    """Records that wait while the outbox is full; what comes then is dropped, and its number told
    when they are sent."""
    max_text: Count = 4096
    """Bytes of one report (64 or more): what is longer is cut in its middle."""


class LogReports(logging.Handler):
    """Turns records into bodies of messages, and keeps them until somebody takes them.

    Only the message is reported, and of an exception its last line; secrets in them are masked and
    control characters escaped. What one statement says over and over is left out, as in the log.
    Records may come from any thread.

    Args:
        ready: is called when there is something to take, in whatever thread; does not log.
        config: the bounds.
    """

    def __init__(
        self, ready: Callable[[], None], config: LogReportsConfig = LogReportsConfig()
    ) -> None:
        super().__init__(logging.WARNING)
        self.addFilter(_is_not_about_sending)
        self.addFilter(RepeatFilter())
        self.dropped = 0
        """Records that were not reported, because too many waited or one was too large."""
        self._told = 0
        self._ready = ready
        self._config = config
        self._pending: deque[Logging] = deque()

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        try:
            if len(self._pending) >= self._config.max_pending:
                self.dropped += 1
                return
            self._pending.append(self._body(record))
            self._ready()
        except Exception:  # noqa: BLE001 -- whatever a record holds, who logs it must not fail
            self.handleError(record)

    def take(self) -> list[Logging]:
        """Everything that waits, the oldest first, and how many were dropped meanwhile."""
        self.acquire()
        try:
            taken = list(self._pending)
            self._pending.clear()
            dropped, self._told = self.dropped - self._told, self.dropped
        finally:
            self.release()
        if dropped:
            text = f"records that only the listener's own log holds: {dropped}"
            taken.append(Logging(LogType.WARNING, text))
        return taken

    def drop(self) -> None:
        """Count one that was taken as dropped: it cannot be sent."""
        self.acquire()
        self.dropped += 1
        self.release()

    def _body(self, record: logging.LogRecord) -> Logging:
        text = record.getMessage()
        exception = record.exc_info[1] if record.exc_info else None
        if exception is not None:
            text += f": {type(exception).__name__}: {exception}"
        severe = exception is not None or record.levelno >= logging.ERROR
        kind = LogType.EXCEPTION if severe else LogType.WARNING
        return Logging(kind, _printable(mask_text(text), self._config.max_text))


async def report_logs(
    client: Client, config: LogReportsConfig = LogReportsConfig(), *, logger: str = LOGGER
) -> NoReturn:
    """Send what `logger` and those below it say from WARNING on, until cancelled.

    What was not sent by then is in the local log alone.

    Raises:
        FencedError, UsageError, ClosedError: the client sends no more.
    """
    loop = asyncio.get_running_loop()
    waiting = asyncio.Event()

    def ready() -> None:
        loop.call_soon_threadsafe(waiting.set)

    reports = LogReports(ready, config)
    source = logging.getLogger(logger)
    source.addHandler(reports)
    try:
        while True:
            await waiting.wait()
            waiting.clear()
            for body in reports.take():
                try:
                    await client.send(new_message(KIND, KEY, encode_body(body)))
                except UnsendableError:
                    reports.drop()
    finally:
        source.removeHandler(reports)
        reports.close()


def _is_not_about_sending(record: logging.LogRecord) -> bool:
    return not any(record.name == name or record.name.startswith(f"{name}.") for name in SILENT)


def _printable(text: str, length: int) -> str:
    # Cut before as well: to escape all of what may be megabytes would be for nothing.
    text = shortened(text, length)
    escaped = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
    return shortened(escaped, length)
