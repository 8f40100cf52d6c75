"""Values as every database takes them: texts, JSON and moments."""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TypeVar

import msgspec

Body = TypeVar("Body", bound=msgspec.Struct)

REPLACEMENT = "\ufffd"
"""Stands for U+0000, which a container may write into its last message and PostgreSQL refuses."""

EPOCH = "1970-01-01T00:00:00.000Z"
"""The moment from which seconds are counted."""

LAST_MOMENT = "9999-12-31T23:59:59.999Z"
"""None is later."""

_encode_json = msgspec.json.Encoder(order="deterministic").encode  # equal documents, equal text


def without_nul(text: str) -> str:
    """The text in a form that every database takes."""
    return text.replace("\0", REPLACEMENT)


def cleaned(body: Body) -> Body:
    """The body of a report with each of its texts in this form; not so what they are part of."""
    fields = msgspec.structs.asdict(body).items()
    texts = {name: without_nul(value) for name, value in fields if isinstance(value, str)}
    return msgspec.structs.replace(body, **texts)


def shortened(text: str, limit: int) -> str:
    """At most `limit` characters of the text, the last an ellipsis where some are left out."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def json_text(value: Any) -> str:
    """A value as JSON, its texts without U+0000."""
    text = _encode_json(value).decode()
    if "\\u0000" not in text:
        return text
    # Unless the backslash itself is escaped, this is a U+0000: only the values can tell.
    return _encode_json(_clean(msgspec.to_builtins(value))).decode()


def _clean(value: Any) -> Any:
    match value:
        case str():
            return without_nul(value)
        case dict():
            return {without_nul(key): _clean(item) for key, item in value.items()}
        case list() | tuple():
            return [_clean(item) for item in value]
        case _:
            return value


@lru_cache(maxsize=4096)
def moment(text: str) -> str | None:
    """A timestamp of the API server as the store writes it, its microseconds included, None where
    there is none or it cannot be read. Cached, because a burst of pods is created within few
    seconds."""
    try:
        parsed = datetime.fromisoformat(text)
        at = parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
        return _iso(at, "microseconds" if at.microsecond % 1000 else "milliseconds")
    except (ValueError, OverflowError):
        return None


def moment_at(seconds: float) -> str | None:
    """A moment in seconds since the Unix epoch as the store writes it, None where no calendar has
    it."""
    try:
        return _moment_at(round(seconds * 1e6) // 1000)
    except (ValueError, OverflowError, OSError):
        return None


@lru_cache(maxsize=4096)
def _moment_at(milliseconds: int) -> str:
    # Cached, because the reports of a burst are made within few of them.
    return written(datetime.fromtimestamp(milliseconds / 1000, UTC))


def written(at: datetime) -> str:
    """A moment as the store writes it: to the millisecond."""
    return _iso(at, "milliseconds")


def _iso(at: datetime, precision: str) -> str:
    return at.astimezone(UTC).isoformat(timespec=precision).replace("+00:00", "Z")
