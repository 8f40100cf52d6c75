"""Times as the deployed listeners write them, `2026-01-02T03:04:05.999999`: UTC without a zone,
without a fraction if it is zero and without zeros at its end. All else is read leniently: a zone,
any number of digits, as RFC 3339 and Python have it."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  (what is read here has no zone)
_LAST = datetime(9999, 12, 30)  # noqa: DTZ001  (likewise)
"""What is later has no local time in some zones."""
_CACHED = 4096
"""Times of conditions, events and taints: a burst of pods has few, and they are sent again."""
_LONGEST = 64
"""Characters of a time: a longer text is none, and would fill the cache."""


def micros_of(text: str) -> int | None:
    """Microseconds since the Unix epoch; None if it cannot be read. Without a zone it is UTC."""
    at = _parsed(text)
    if at is None:
        return None
    since = at - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def written(seconds: float) -> str:
    """The time `seconds` after the Unix epoch, to the microsecond; empty if it is none."""
    try:
        whole, rest = divmod(round(seconds * 1e6), 1_000_000)
        text = _whole_second(whole)
    except (ValueError, OverflowError):
        return ""
    return _plain(f"{text}.{rest:06}") if rest else text


def plain_time(text: str) -> str:
    """A time of the API server as the deployed listeners write it; empty if it is none, or one that
    deployed workers cannot calculate with: before 1970, or at the very end of the calendar."""
    return "" if len(text) > _LONGEST else _plain_time(text)


def zoned_time(text: str) -> str:
    """A time of a deployed listener in RFC 3339; what is none stays as it is."""
    return text if len(text) > _LONGEST else _zoned_time(text)


@lru_cache(maxsize=16)
def _whole_second(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).isoformat()


@lru_cache(maxsize=_CACHED)
def _plain_time(text: str) -> str:
    at = _parsed(text)
    return "" if at is None or not _EPOCH <= at <= _LAST else _plain(at.isoformat())


@lru_cache(maxsize=_CACHED)
def _zoned_time(text: str) -> str:
    at = _parsed(text)
    return text if at is None else f"{_plain(at.isoformat())}Z"


def _parsed(text: str) -> datetime | None:
    """In UTC, without a zone."""
    try:
        at = datetime.fromisoformat(text)
        return at if at.tzinfo is None else at.astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):
        return None


def _plain(text: str) -> str:
    return text.rstrip("0") if "." in text else text
