"""Rules that every queue follows alike, with the errors that go with them."""

import logging
from collections.abc import Container, Iterable

from osmo_transport._text import shown
from osmo_transport.errors import QueueRefusedError, QueueUnavailableError, UsageError
from osmo_transport.kinds import DEFAULT_STREAM, kind_of, stream_weights
from osmo_transport.message import Message
from osmo_transport.queues.abc import QueueConfig

EXHAUSTED = "delivered {} times and never settled: its consumer stopped each time"
"""Reason of a dead letter whose attempts ended without an outcome; takes their number."""

UNREADABLE = "cannot be read as a message: {}"
"""Reason of a dead letter whose bytes are no message; takes what is wrong with them."""

MAX_NAME = 100
"""Characters of a backend, a kind or a key that the log shows."""

DEAD_LETTERS = "osmo_transport.dead_letters"
"""The logger that says each dead letter, once."""

MAX_REASON = 4096
"""Characters of a dead letter's reason that are kept: an error's text may hold all that failed."""

_log = logging.getLogger(DEAD_LETTERS)


def kept_reason(text: str) -> str:
    """The reason in a form that every store can hold: its beginning, and escaped what is no
    Unicode."""
    return text[:MAX_REASON].encode("utf-8", "backslashreplace").decode()


def check_config(config: QueueConfig) -> None:
    """Refuse values that no queue can work with.

    Raises:
        UsageError: with the field's name and what it must be.
    """
    positive = {
        "max_entries": config.max_entries,
        "max_dead_letters": config.max_dead_letters,
        "max_attempts": config.max_attempts,
        "max_delayed": config.max_delayed,
        "lease": config.lease,
        "claim_interval": config.claim_interval,
        "retry_base": config.retry_base,
        "retry_maximum": config.retry_maximum,
        **{f"weights[{stream!r}]": weight for stream, weight in config.weights.items()},
    }
    for name, value in positive.items():
        if not value > 0:
            raise UsageError(f"{name} of the queue is {value}: it must be greater than zero")
    if missing := stream_weights().keys() - config.weights.keys():
        raise UsageError(
            f"weights of the queue lack {', '.join(sorted(missing))}: what nobody reads is lost"
        )


def retry_delay(config: QueueConfig, attempt: int) -> float:
    """Seconds between delivery number `attempt` and the next one."""
    # The exponent is bounded because 2**n overflows a float; the maximum is reached long before.
    return min(config.retry_maximum, config.retry_base * float(1 << min(attempt - 1, 32)))


def stream_of(kind: str, streams: Container[str]) -> str:
    """Which of the `streams` of a queue carries messages of `kind`."""
    stream = kind_of(kind).stream
    return stream if stream in streams else DEFAULT_STREAM


def full(entries: int, limit: int) -> QueueUnavailableError:
    """The error of an append for which there is no room."""
    return QueueUnavailableError(
        f"the queue is full: it holds {entries} entries and max_entries is {limit}; add consumers,"
        " or raise max_entries if the store has the memory"
    )


def other_group(present: str, asked: str) -> QueueRefusedError:
    """The error of a second consumer group: what one settles is removed for both."""
    return QueueRefusedError(
        f"the queue is consumed by the group {present!r}, and a settled entry is removed for every"
        f" group: join that one instead of {asked!r}, or remove it from the store first"
    )


def check_limit(limit: int) -> None:
    """Refuse to receive, or to look at, nothing.

    Raises:
        UsageError: `limit` is not positive.
    """
    if limit < 1:
        raise UsageError(f"the limit has to be at least 1, not {limit}")


def check_stream(stream: str, streams: Iterable[str]) -> None:
    """Refuse a stream that the queue has not.

    Raises:
        UsageError: with those that it has.
    """
    names = list(streams)
    if stream not in names:
        raise UsageError(f"the queue has no stream {shown(stream)!r}, but {', '.join(names)}")


class Burials:
    """The dead letters that one consumer makes: counts them, and says each of them once in the log,
    under `DEAD_LETTERS`."""

    def __init__(self) -> None:
        self.count = 0

    def tell(
        self, stream: str, backend: str, message: Message | None, attempts: int, reason: str
    ) -> None:
        """An entry has become a dead letter."""
        self.count += 1
        what = "an unreadable entry"
        if message is not None:
            what = f"{shown(message.kind, MAX_NAME)} {shown(message.key, MAX_NAME)}"
        text = "dead letter: %s of %s, stream %s, at attempt %d: %s"
        _log.warning(text, what, shown(backend, MAX_NAME), stream, attempts, shown(reason))
