"""Logs on stderr: text for people at a terminal, one JSON object per line for machines.

A JSON line holds `timestamp` (RFC 3339, UTC), `level`, `service`, `module` (the logger's name),
`message`, what `extra=` adds, within a span `trace_id` and `span_id`, and for an exception
`exception` (one line) and `stack`. Passwords in URLs, bearer tokens and extra fields named like a
secret are masked, and control characters escaped, in both formats.
"""

import logging
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from enum import Enum

import msgspec

from osmo_runtime.masking import mask, mask_text
from osmo_transport.bounds import Count, Seconds
from osmo_transport.lean import dataclass
from osmo_transport.queues.rules import DEAD_LETTERS

_STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}


class LogLevel(Enum):
    """The least severe records that are written; the case does not matter."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"

    @classmethod
    def _missing_(cls, value: object) -> "LogLevel | None":
        return cls.__members__.get(str(value).upper())


class LogFormat(Enum):
    """How records are written."""

    AUTO = "auto"
    """Text where stderr is a terminal, else JSON."""
    TEXT = "text"
    JSON = "json"


FOR_MACHINES = frozenset({"settings", "span_id"})
"""Extra fields that only JSON lines hold: too long for a person who starts a program by hand."""

SHORT = {"trace_id": 8}
"""Extra fields of which a person is shown the beginning, with the number of characters."""


@dataclass(frozen=True, kw_only=True)
class RepeatLimit:
    """How often one statement of the program may warn or complain.

    A fault repeats as fast as the program tries again; its second record says nothing new, and the
    thousandth hides the others.
    """

    same: Count = 1
    """Records that say the same which are written in each interval. What is told in seconds, as the
    time until the next try, makes no difference."""
    burst: Count = 10
    """Records of one statement that are written in each interval."""
    interval: Seconds = 60.0
    """Seconds until the counts start anew; the first record then says how many were left out. A
    minute: what tries again each second is still heard, and does not fill the log."""
    counted: Count = 1000
    """Statements, and records that differ, that are counted at once; beyond it the one silent
    longest is forgotten."""


class RepeatFilter(logging.Filter):
    """Drops records from WARNING on beyond a `RepeatLimit`, but none of the loggers `spared`.
    `clock` gives seconds."""

    def __init__(
        self,
        limit: RepeatLimit = RepeatLimit(),
        clock: Callable[[], float] = time.monotonic,
        spared: Collection[str] = (),
    ) -> None:
        super().__init__()
        self._limit = limit
        self._clock = clock
        self._spared = spared
        self._counts: OrderedDict[tuple[object, ...], tuple[float, int]] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING or record.name in self._spared:
            return True
        statement, now = (record.pathname, record.lineno), self._clock()
        for key, most in (
            ((*statement, hash(_said(record))), self._limit.same),
            (statement, self._limit.burst),
        ):
            written, left_out = self._count(key, most, now)
            if not written:
                return False
            if left_out:
                record.suppressed = left_out + getattr(record, "suppressed", 0)
        return True

    def _count(self, key: tuple[object, ...], most: int, now: float) -> tuple[bool, int]:
        """Whether one more may be written, and how many were left out in the interval before."""
        start, count = self._counts.pop(key, (now, 0))
        left_out = 0
        if now - start >= self._limit.interval:
            left_out = max(count - most, 0)
            start, count = now, 0
        self._counts[key] = start, count + 1
        if len(self._counts) > self._limit.counted:
            self._counts.popitem(last=False)
        return count < most, left_out


def _said(record: logging.LogRecord) -> str:
    """What a record says, but for the seconds that it names."""
    if isinstance(record.args, tuple):
        said = [str(value) for value in record.args if not isinstance(value, float)]
        return "\0".join((str(record.msg), *said))
    return record.getMessage()


class JsonFormatter(logging.Formatter):
    """One JSON object; see the module."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service
        self._encode = msgspec.json.Encoder(enc_hook=str).encode

    def format(self, record: logging.LogRecord) -> str:
        created = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, object] = {
            "timestamp": created.isoformat("T", "milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "service": self._service,
            "module": record.name,
            "message": mask_text(record.getMessage()),
        }
        if record.exc_info and record.exc_info[1]:
            exc = record.exc_info[1]
            line["exception"] = mask_text(f"{type(exc).__name__}: {exc}")
            line["stack"] = mask_text(self.formatException(record.exc_info))
        line.update((key, value) for key, value in _extra(record).items() if key not in line)
        try:
            return _printable_json(self._encode(line).decode())
        except (TypeError, UnicodeEncodeError):
            # What is not Unicode, such as a file name in another encoding, is written escaped: a
            # record that says something is better than none.
            safe = {k: str(v).encode("utf-8", "backslashreplace").decode() for k, v in line.items()}
            return _printable_json(self._encode(safe).decode())


def _printable_json(text: str) -> str:
    """The same document. JSON escapes few of the characters that are not printable, and what a
    terminal obeys, or turns the text round, is among the others."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def _escape(char: str) -> str:
    units = char.encode("utf-16-be")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


class TextFormatter(logging.Formatter):
    """`12:30:59.123 INFO module: message field=value`, and a traceback on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(
            f" {key}={str(value)[: SHORT.get(key)]}"
            for key, value in _extra(record).items()
            if key not in FOR_MACHINES
        )
        line = self.head(record) + printable(mask_text(record.getMessage()) + fields)
        if record.exc_info:
            stack = mask_text(self.formatException(record.exc_info)).split("\n")
            line = "\n".join((line, *map(printable, stack)))
        return line

    def head(self, record: logging.LogRecord) -> str:
        """What the line begins with."""
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        return f"{clock}.{int(record.msecs):03d} {record.levelname} {record.name}: "


class CommandFormatter(TextFormatter):
    """`osmo-pipeline dlq list: message field=value`: who waits at a terminal for what he has just
    typed looks for the reason alone."""

    def __init__(self, prog: str) -> None:
        super().__init__()
        self._prog = prog

    def head(self, record: logging.LogRecord) -> str:
        """What the line begins with."""
        return f"{self._prog}: "


def configure(
    service: str, level: LogLevel, form: LogFormat, formatter: logging.Formatter | None = None
) -> None:
    """Send every record from `level` on to stderr, and nowhere else; with `formatter` where the
    format is left open and stderr is a terminal."""
    chosen: logging.Formatter = JsonFormatter(service)
    if form is LogFormat.TEXT:
        chosen = TextFormatter()
    elif form is LogFormat.AUTO and sys.stderr.isatty():
        chosen = formatter or TextFormatter()
    handler = logging.StreamHandler()
    handler.setFormatter(chosen)
    # No two dead letters are the same fault, and nobody else says which they are.
    handler.addFilter(RepeatFilter(spared=(DEAD_LETTERS,)))
    logging.basicConfig(level=level.value, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {key: mask(value, key) for key, value in vars(record).items() if key not in _STANDARD}


def printable(text: str) -> str:
    """The text in one line, with the escapes of what is not printable."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
