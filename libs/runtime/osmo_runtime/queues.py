"""The queue that a service is told to use."""

from dataclasses import replace
from typing import Literal

from osmo_reports.kinds import load_kinds
from osmo_transport import QueueConfig
from osmo_transport.errors import UsageError
from osmo_transport.kinds import stream_weights

QueueLayout = Literal["own", "osmo"]
"""How a queue in Redis keeps its messages; osmo: as the operators and workers already deployed do,
together with which ours then work."""


IN_REDIS = frozenset({"redis", "rediss", "valkey", "valkeys"})
"""Schemes of queues that have a layout."""


def with_all_streams(limits: QueueConfig) -> QueueConfig:
    """The same limits of a queue, with the streams of all kinds that are installed beside ours.

    Raises:
        UsageError: two packages do not agree on a kind, or one of them cannot be imported.
    """
    load_kinds()
    return replace(limits, weights={**stream_weights(), **limits.weights})


def queue_url(url: str, layout: QueueLayout) -> str:
    """The URL of a queue, in another layout if it is not our own.

    Raises:
        UsageError: the queue has no layout.
    """
    if layout == "own":
        return url
    scheme = url.partition(":")[0]
    if scheme not in IN_REDIS:
        raise UsageError(f"--layout {layout} is for a queue in Redis, and not for {scheme}://")
    return f"{url}{'&' if '?' in url else '?'}layout={layout}"
