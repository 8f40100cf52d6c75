"""What a message, an entry or a dead letter holds, as commands show it."""

import time
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from osmo_pipeline.config import ViewConfig
from osmo_reports.bodies import decode_body
from osmo_reports.errors import BodyError
from osmo_transport import DeadLetter, Message, StoredEntry
from osmo_transport.bounds import SecondsOrZero
from osmo_transport.lean import dataclass


@dataclass(frozen=True, kw_only=True)
class FilterConfig(ViewConfig):
    """What every command that goes through entries or dead letters can be told."""

    backend: str | None = None
    """Only those of this backend."""
    kind: str | None = None
    """Only those of this kind."""
    older_than: SecondsOrZero = 0.0
    """Only those that are there for at least so many seconds."""


class Wanted(NamedTuple):
    """Which of them a command is about."""

    backend: str | None
    kind: str | None
    older_than: float
    reason: str | None = None
    """In the reason of a dead letter; the case does not matter."""

    @property
    def everything(self) -> bool:
        """Whether nothing is left out."""
        return self == Wanted(None, None, 0.0)

    def has(self, item: StoredEntry | DeadLetter) -> bool:
        """Whether it is one of them."""
        if self.backend is not None and item.backend != self.backend:
            return False
        if self.kind is not None and (item.message is None or item.message.kind != self.kind):
            return False
        if isinstance(item, DeadLetter) and not _mentions(item.reason, self.reason):
            return False
        return self.older_than <= 0 or age_of(item) >= self.older_than


def _mentions(reason: str, text: str | None) -> bool:
    return text is None or text.casefold() in reason.casefold()


def age_of(item: StoredEntry | DeadLetter) -> float:
    """For how many seconds it is where it is."""
    if isinstance(item, StoredEntry):
        return item.age
    return max(0.0, time.time() - item.buried)


def described(item: StoredEntry | DeadLetter) -> dict[str, object]:
    """What both have: whose it is, and its message."""
    message = item.message
    row: dict[str, object] = {
        "stream": item.stream,
        "backend": item.backend,
        "kind": None if message is None else message.kind,
        "key": None if message is None else message.key,
        "age_seconds": round(age_of(item), 3),
        "message": None,
    }
    if message is not None:
        row["message"] = {
            "id": message.id,
            "epoch": message.version.epoch,
            "revision": message.version.revision,
            "final": message.final,
            "timestamp": message.timestamp,
            "traceparent": message.traceparent,
        }
    return row | content(message, item.raw)


def content(message: Message | None, raw: bytes) -> dict[str, object]:
    """The body of a report as `payload`; of other kinds, and of what cannot be read, the bytes as
    `payload_text`, or as `payload_hex` where they are no text."""
    payload = raw
    if message is not None:
        payload = message.payload
        try:
            body = decode_body(message.kind, payload)
        except BodyError:
            pass
        else:
            return {"payload": msgspec.to_builtins(body)}
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return {"payload_hex": payload.hex()}
    return {"payload_text": text}


def moment(seconds: float) -> str:
    """Seconds since the Unix epoch in words; as they are where no calendar has them."""
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
    except (ValueError, OverflowError, OSError):
        return str(seconds)
