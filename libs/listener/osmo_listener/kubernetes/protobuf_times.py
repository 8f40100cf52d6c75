"""The times of Kubernetes' protobuf, written as in JSON."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache

_SECONDS = 4096
"""Different seconds that are written once: many objects change in the same one."""


def _time(seconds: int, _: int) -> str:
    return _second(seconds) + "Z"


def _micro_time(seconds: int, nanos: int) -> str:
    return f"{_second(seconds)}.{nanos // 1000:06}Z"


@lru_cache(_SECONDS)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat(timespec="seconds")


TIMES: dict[str, Callable[[int, int], str]] = {"Time": _time, "MicroTime": _micro_time}
"""By message, what writes its seconds and nanoseconds.

Raises:
    ValueError, OverflowError, OSError: there is no such time.
"""
