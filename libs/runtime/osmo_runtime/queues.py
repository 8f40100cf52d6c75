"""The queue, and the store, that a service is told to use."""

from dataclasses import replace
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from osmo_reports.kinds import load_kinds
from osmo_transport import QueueConfig
from osmo_transport.errors import UsageError
from osmo_transport.kinds import stream_weights

QueueLayout = Literal["own", "osmo"]
"""How a queue in Redis keeps its messages; osmo: as the operators and workers already deployed do,
together with which ours then work."""


IN_REDIS = frozenset({"redis", "rediss", "valkey", "valkeys"})
"""Schemes of queues that have a layout, and ask for a password."""

WITH_PASSWORD = frozenset({"postgres", "postgresql"})
"""Schemes of stores that ask for a password."""


def with_all_streams(limits: QueueConfig) -> QueueConfig:
    """The same limits of a queue, with the streams of all kinds that are installed beside ours.

    Raises:
        UsageError: two packages do not agree on a kind, or one of them cannot be imported.
    """
    load_kinds()
    return replace(limits, weights={**stream_weights(), **limits.weights})


def queue_url(url: str, layout: QueueLayout, password_file: Path | None = None) -> str:
    """The URL of a queue, in another layout if it is not our own, and with the file that holds its
    password.

    Raises:
        UsageError: the queue has no layout, or no password.
    """
    options: dict[str, str] = {} if layout == "own" else {"layout": layout}
    if password_file is not None:
        options["password_file"] = str(password_file)
    scheme = url.partition(":")[0]
    if options and scheme not in IN_REDIS:
        setting = "--queue-password-file" if password_file is not None else f"--layout {layout}"
        raise UsageError(f"{setting} is for a queue in Redis, and not for {scheme}://")
    return _with(url, options)


def store_url(url: str, password_file: Path | None) -> str:
    """The URL of a state store, with the file that holds its password.

    Raises:
        UsageError: the store has no password.
    """
    if password_file is None:
        return url
    scheme = url.partition(":")[0]
    if scheme not in WITH_PASSWORD:
        raise UsageError(f"--store-password-file is for PostgreSQL, and not for {scheme}://")
    return _with(url, {"password_file": str(password_file)})


def _with(url: str, options: dict[str, str]) -> str:
    for name, value in options.items():
        url += f"{'&' if '?' in url else '?'}{name}={quote(value)}"
    return url
